"""`kd promote`, and `kd run --require-promotion`, for a winner that the gate refuses."""

import json

import pytest

from kd.exit_codes import DONE, REFUSED
from tasks import tracking
from tests.conftest import Here
from tests.kd.commands.conftest import Refuse
from tests.kd.conftest import Done


def test_the_champion_is_not_refused_if_it_is_promoted_again(here: Here, second_run: Done) -> None:
    code, out, _ = here("promote", json.loads(second_run.stdout)["parent_run_id"], "--json")
    assert code == DONE
    assert json.loads(out)["reason"].startswith("already champion")


@pytest.mark.fault  # half a minute
def test_a_dry_run_prints_each_rule_and_promotes_nothing(strict_here: Here, refuse: Refuse) -> None:
    run = refuse("dry")
    code, out, error = strict_here("promote", run, "--dry-run")
    assert (code, error) == (REFUSED, "")
    rules = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert rules["parameters"] == ["610", "<=", "610", "yes"]
    assert rules["accuracy"][1:] == [">=", "0.999", "no"]
    assert "verdict   dry run, nothing is promoted: hard-labels is refused: test accuracy's lower 95% bound" in out
    assert out.splitlines()[1] == "champion  dry has none"
    document = json.loads(strict_here("promote", run, "--dry-run", "--json")[1])
    assert (document["dry_run"], document["promoted"], document["version"]) == (True, False, None)
    assert document["evidence"]["test"]["reads"] == 1  # by the run itself, which keeps the predictions
    assert tracking.champion("dry") is None


@pytest.mark.fault
def test_the_reason_for_a_forced_promotion_is_stored_with_the_version(strict_here: Here, refuse: Refuse) -> None:
    run = refuse("forced")
    code, out, error = strict_here("promote", run, "--force", "--reason", "would do", "--dry-run")
    assert (code, error) == (0, "")
    assert "dry run, nothing is promoted: hard-labels is promoted by force: would do. The gate said:" in out
    assert tracking.champion("forced") is None
    code, out, error = strict_here("promote", run, "--force", "--reason", "the customer waits")
    assert (code, error) == (0, "")
    assert "hard-labels is promoted by force: the customer waits. The gate said: hard-labels is refused: " in out
    assert out.splitlines()[1] == "champion  models:/forced/1"
    (version,) = tracking.versions("forced")
    assert (version.aliases, version.tags["kd.forced"]) == (("champion",), "the customer waits")
    code, out, _ = strict_here("promote", run, "--dry-run")
    assert code == REFUSED
    reason = "already champion: hard-labels is forced version 1, but it does not meet the requirements: test accuracy's"
    assert f"verdict   dry run, nothing is promoted: {reason}" in out
    rules = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert rules["parameters"] == ["610", "<=", "610", "yes"]  # rules are also printed for a champion
    assert rules["accuracy"][1:] == [">=", "0.999", "no"]


@pytest.mark.fault
def test_a_champion_that_misses_a_new_requirement_exits_4_and_names_it(strict_here: Here) -> None:
    free = ("--set", "promote.model=strict", "--set", "promote.require={}")
    assert strict_here("run", "strict.yaml", *free, "--quiet", "--require-promotion")[0] == 0
    assert strict_here("run", "strict.yaml", *free, "--quiet", "--require-promotion")[0] == 0  # already champion
    rule = ("--set", "promote.model=strict", "--set", "promote.require={parameters: <= 609}")
    code, out, _ = strict_here("run", "strict.yaml", *rule, "--quiet", "--require-promotion")
    assert code == REFUSED
    assert "verdict   already champion: hard-labels is strict version 1, but it does not meet the requirements: " in out
    assert "the number of parameters is 610, required <= 609" in out
    assert strict_here("run", "strict.yaml", *rule, "--quiet")[0] == 0  # as after any refusal
    assert strict_here("promote")[0] == REFUSED
