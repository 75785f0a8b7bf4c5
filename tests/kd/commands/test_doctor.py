"""`kd doctor`: the checks and the exit code."""

import json

from tests.conftest import Here


def test_every_check_is_printed_and_a_failed_check_gives_exit_code_1(here: Here) -> None:
    code, out, _ = here("doctor", "--json")
    checks = {row["name"]: row["ok"] for row in json.loads(out)}
    assert checks["libraries"]
    assert checks["tracking store"]
    assert code == (1 if False in checks.values() else 0)
    table = here("doctor")[1]
    assert all(name in table for name in checks)
