"""`kd report`: the file that it writes, and Markdown."""

import webbrowser
from pathlib import Path

import pytest

from kd.exit_codes import DONE, ERROR, USAGE
from tests.conftest import Here, Recorded
from tests.support.reports import Page


def test_a_report_is_written_where_the_user_says(kd_here: Here, recorded: Recorded, tmp_path: Path) -> None:
    file = tmp_path / "digits.html"
    code, out, _ = kd_here("report", recorded.first, "--output", str(file))
    assert code == DONE
    assert out.splitlines()[-1] == f"report    {file}"
    assert "small: which student is best?" in Page(file.read_text()).text


def test_a_report_is_kept_in_the_cache_and_opened(
    kd_here: Here, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: bool(opened.append(address)) or True)
    code, out, _ = kd_here("report", recorded.first, "--open")
    file = Path(out.splitlines()[-1].split(maxsplit=1)[1])
    assert code == DONE
    assert opened == [file.as_uri()]
    assert file.name == f"{recorded.first}.html"


def test_without_a_browser_the_file_is_named(
    kd_here: Here, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    code, _, error = kd_here("report", recorded.first, "--open")
    assert code == ERROR
    assert "Open the file yourself: /" in error


def test_without_a_cache_the_user_must_name_a_file(
    kd_here: Here, recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    code, _, error = kd_here("report", recorded.first)
    assert (code, "Allowed: --output FILE" in error) == (ERROR, True)


def test_markdown_goes_to_stdout(kd_here: Here, recorded: Recorded) -> None:
    code, out, _ = kd_here("report", recorded.first, "--markdown")
    assert code == DONE
    assert out.startswith("## Verdict\n\n**")
    assert "\n| # | variant | validation % |" in out


def test_latex_goes_to_stdout(kd_here: Here, recorded: Recorded) -> None:
    code, out, _ = kd_here("report", recorded.first, "--latex")
    assert code == DONE
    assert out.startswith("\\begin{table}\n")


def test_figures_are_written_as_svg_and_png(kd_here: Here, recorded: Recorded, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "figures"
    code, out, _ = kd_here("report", recorded.first, "--figures", str(folder))
    assert (code, out) == (DONE, f"figures   {folder}\n")
    names = sorted(file.name for file in folder.iterdir())
    assert {"accuracies.svg", "accuracies.png", "learning-curves.svg", "confusion-matrices.png"} <= set(names)
    assert (folder / "accuracies.svg").read_text().startswith("<svg")


def test_mistakes_are_usage_errors(kd_here: Here, recorded: Recorded, tmp_path: Path) -> None:
    code, _, error = kd_here("report", "no-such-run")
    assert (code, "is not in the tracking store" in error) == (USAGE, True)
    code, _, error = kd_here("report", "--markdown", "--open")
    assert (code, "--markdown, --open or --output: expected at most one" in error) == (USAGE, True)
    (tmp_path / "file").touch()
    code, _, error = kd_here("report", recorded.first, "--output", str(tmp_path / "file" / "report.html"))
    assert (code, f"--output: {tmp_path / 'file' / 'report.html'}: " in error) == (ERROR, True)
