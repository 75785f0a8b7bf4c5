"""The file `.env` of the team stack."""

import re
from pathlib import Path

import pytest

from flows.services.stack_settings import write_settings
from kdmodels.errors import UserError

EXAMPLE = "# comment\nCOMPOSE_PROFILES=cpu\nSTACK_A_PASSWORD=\nSTACK_B_PASSWORD=\n# STACK_ADDRESS=127.0.0.1\n"


def test_empty_settings_get_different_random_secrets(tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text(EXAMPLE)
    file = write_settings(tmp_path)
    first, second = (rf"STACK_{name}_PASSWORD=([\w-]{{43}})\n" for name in "AB")
    values = re.fullmatch(rf"# comment\nCOMPOSE_PROFILES=cpu\n{first}{second}# STACK_ADDRESS=.*\n", file.read_text())
    assert values
    assert values[1] != values[2]


def test_only_the_user_can_read_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text(EXAMPLE)
    assert write_settings(tmp_path).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("is_link", [False, True])
def test_an_existing_file_is_kept(tmp_path: Path, is_link: bool) -> None:
    (tmp_path / ".env.example").write_text(EXAMPLE)
    if is_link:
        (tmp_path / ".env").symlink_to(tmp_path / "nothing")
    else:
        (tmp_path / ".env").write_text("precious")
    with pytest.raises(UserError, match=r"\.env: exists already"):
        write_settings(tmp_path)
    assert (tmp_path / ".env").is_symlink() == is_link
    assert is_link or (tmp_path / ".env").read_text() == "precious"


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.env\.example: does not exist"):
        write_settings(tmp_path)
