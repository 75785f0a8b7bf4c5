"""`kd init`: a new experiment file, or the passwords of the team stack."""

from pathlib import Path

import pytest

from tests.conftest import Here


@pytest.fixture(autouse=True)
def in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_file_can_be_run(kd_here: Here, tmp_path: Path) -> None:
    assert kd_here("init", "mine.yaml") == (0, "", "wrote mine.yaml; run it with: kd run mine.yaml\n")
    assert "variants:" in (tmp_path / "mine.yaml").read_text()
    error = kd_here("run", "mine.yaml", "--variants", "nothing")[2]
    assert error.startswith("kd: error: --variants: 'nothing'")
    assert not list(tmp_path.glob(".partial-*"))


@pytest.mark.parametrize("target", ["victim", "nothing"])
def test_a_link_is_neither_followed_nor_replaced(kd_here: Here, tmp_path: Path, target: str) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "link.yaml").symlink_to(tmp_path / target)
    code, out, error = kd_here("init", "link.yaml")
    assert (code, out) == (2, "")
    assert error.startswith("kd: error: link.yaml: exists already")
    assert (tmp_path / "link.yaml").is_symlink()
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "nothing").exists()


def test_the_passwords_of_the_stack_are_written(kd_here: Here, tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text("STACK_A_PASSWORD=\n")
    expected = f"wrote {tmp_path}/.env; start the stack with: docker compose up --detach\n"
    assert kd_here("init", "--stack") == (0, "", expected)
    assert kd_here("init", "--stack")[0] == 2


@pytest.mark.parametrize("words", [(), ("mine.yaml", "--stack")])
def test_a_file_or_the_stack_is_expected(kd_here: Here, words: tuple[str, ...]) -> None:
    assert kd_here("init", *words) == (2, "", "kd: error: expected one of: a new experiment file, --stack\n")
