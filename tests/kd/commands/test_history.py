"""`kd history`: the table, JSON and the figure."""

import json
from pathlib import Path

from kd.exit_codes import DONE, USAGE
from tests.conftest import Here, Recorded


def test_decisions_versions_and_looks_are_printed(kd_here: Here, recorded: Recorded) -> None:
    code, out, _ = kd_here("history", "small-student")
    assert code == DONE
    lines = out.splitlines()
    assert lines[0].split() == ["started", "comparison", "student", "validation", "test", "decision", "champion"]
    assert recorded.first[:8] in lines[1]
    assert " promoted " in lines[1]
    assert any(line.startswith("version   1: ") for line in lines)


def test_json_has_the_whole_history(kd_here: Here, recorded: Recorded) -> None:
    history = json.loads(kd_here("history", "small-student", "--json")[1])
    assert list(history) == ["model", "decisions", "versions", "looks"]
    assert [line["comparison"] for line in history["decisions"]] == [recorded.first, recorded.again]


def test_a_figure_is_drawn(kd_here: Here, recorded: Recorded, tmp_path: Path) -> None:
    code, _, _ = kd_here("history", "small-student", "--figure", str(tmp_path / "history.svg"))
    assert code == DONE
    assert (tmp_path / "history.svg").read_text().startswith("<svg")


def test_mistakes_are_usage_errors(kd_here: Here, recorded: Recorded) -> None:
    code, _, error = kd_here("history", "no-such-model")
    assert (code, "model 'no-such-model' is not in the registry" in error) == (USAGE, True)
    code, _, error = kd_here("history", "small-student", "--figure", "history.pdf")
    assert (code, "--figure: history.pdf: expected a file that ends with .svg or .png" in error) == (USAGE, True)
