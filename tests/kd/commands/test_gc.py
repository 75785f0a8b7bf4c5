"""`kd gc`: the runs and caches that it deletes, and wrong ages."""

import json

import pytest

from tests.conftest import Here


def test_a_dry_run_lists_what_would_be_deleted_and_keeps_what_is_needed(here: Here) -> None:
    runs = json.loads(here("list", "--json")[1])
    code, out, _ = here("gc", "--older-than", "0h", "--dry-run", "--json")
    document = json.loads(out)
    assert list(document) == ["dry_run", "deleted", "bytes", "needed", "for_good"]
    deleted = document["deleted"]
    assert {tuple(row) for row in deleted} == {("kind", "name", "run_id", "folder", "bytes", "last_used")}
    assert {row["kind"] for row in deleted} >= {"decoded data", "knowledge"}
    assert (code, document["bytes"]) == (0, sum(row["bytes"] for row in deleted))
    assert here("gc", "--older-than", "4w")[1].splitlines()[-1] == "deleted 0 in all, 0 B"
    lines = here("gc", "--older-than", "0h", "--dry-run")[1].splitlines()
    assert [line.startswith("would delete ") for line in lines] == [True] * (len(deleted) + 1) + [False]
    assert lines[-1].startswith(f"{document['needed']} older runs ")
    assert json.loads(here("list", "--json")[1]) == runs


@pytest.mark.parametrize("age", ["30", "-5d", "1.5d", "5m", "", "999999d", "d"])
def test_a_wrong_age_is_a_mistake(kd_here: Here, age: str) -> None:
    code, out, error = kd_here("gc", "--older-than", age)
    assert (code, out) == (2, "")
    assert error.startswith(
        f"kd: error: --older-than: expected an age, e.g. 12h, 30d or 4w, got {age!r}. Allowed: 0 to"
    )


def test_a_missing_age_is_a_mistake(kd_here: Here) -> None:
    code, _, error = kd_here("gc")
    assert code == 2
    assert "--older-than" in error
