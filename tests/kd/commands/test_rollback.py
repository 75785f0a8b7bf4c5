"""`kd rollback`, and mistakes in the arguments of `kd promote` and `kd rollback`."""

import pytest

from kd.exit_codes import USAGE
from tasks import tracking
from tests.conftest import Here, Recorded
from tests.kd.commands.conftest import Refuse


@pytest.mark.usefixtures("no_server")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("promote", "nothing"), "run 'nothing' is not in the tracking store"),
        (("promote", "teacher"), "run teacher is a teacher. Allowed: a comparison or a student."),
        (("rollback", "small-studnt"), "Did you mean 'small-student'?"),
        (("rollback", "small-student", "--to", "9"), "model 'small-student' has no version 9"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_reported_without_a_server(
    recorded: Recorded, kd_here: Here, words: tuple[str, ...], message: str
) -> None:
    code, out, error = kd_here(*words)
    assert (code, out) == (USAGE, "")
    assert message in error


@pytest.mark.fault  # half a minute
def test_a_named_version_becomes_the_champion_again(strict_here: Here, refuse: Refuse) -> None:
    for epochs in (2, 3, 4):
        code, _, error = strict_here("promote", refuse("back", epochs), "--force", "--reason", "the next")
        assert code == 0, error
    out = "back: version 1 is the champion again (models:/back/1)\n"
    assert strict_here("rollback", "back", "--to", "1") == (0, out, "")
    assert [version.aliases for version in tracking.versions("back")] == [(), (), ("champion",)]
    code, out, error = strict_here("rollback", "back", "--to", "1")
    assert (code, out, error) == (2, "", "kd: error: model 'back': version 1 is the champion\n")
    code, out, error = strict_here("rollback", "back", "--to", "9")
    assert (code, out, error) == (2, "", "kd: error: model 'back' has no version 9; it has: 1, 2, 3\n")
