"""`kd promote` and `kd rollback` as users run them, on a run whose winner the gate refused."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.commands.shared import REFUSED
from tasks import tracking
from tests.flows.conftest import Here

EXPERIMENT = """
name: small
threads: 1
data: {source: digits, validation: 0.2}
teacher: {network: {mlp: [32]}, epochs: 2}
student: {network: {mlp: [8]}, epochs: 2}
variants: [hard-labels]
promote: {require: {accuracy: ">= 0.999", parameters: "<= 610"}}
"""
pytestmark = pytest.mark.fault  # half a minute


@pytest.fixture(scope="module")
def folder(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "small.yaml").write_text(EXPERIMENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(folder / "mlruns"))
        yield folder


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch, kd_here: Here) -> Here:
    """`kd` in this process, in that folder."""
    monkeypatch.chdir(folder)
    return kd_here


def refused(here: Here, model: str, epochs: int = 2) -> str:
    """The comparison whose winner the gate did not let into the registry."""
    changes = ("--set", f"promote.model={model}", "--set", f"student.epochs={epochs}")
    code, out, told = here("run", "small.yaml", *changes, "--quiet", "--json", "--require-promotion")
    assert code == REFUSED, told
    return json.loads(out)["parent_run_id"]


def test_a_dry_run_of_a_promotion_says_each_rule_and_promotes_nothing(here: Here) -> None:
    run = refused(here, "dry")
    code, out, told = here("promote", run, "--dry-run")
    assert (code, told) == (REFUSED, "")
    words = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert words["parameters"] == ["610", "<=", "610", "yes"]
    assert words["accuracy"][1:] == [">=", "0.999", "no"]
    assert "verdict     dry run, nothing is promoted: hard-labels is refused: test accuracy's lower 95% bound" in out
    assert out.splitlines()[-1] == "champion    dry has none"
    document = json.loads(here("promote", run, "--dry-run", "--json")[1])
    assert (document["dry_run"], document["promoted"], document["version"]) == (True, False, None)
    assert document["evidence"]["test"]["reads"] == 1  # the run's own: outcomes are kept with the runs
    assert tracking.champion("dry") is None


def test_what_is_promoted_by_force_has_the_reason_on_its_version(here: Here) -> None:
    run = refused(here, "forced")
    code, out, told = here("promote", run, "--force", "--reason", "would do", "--dry-run")
    assert (code, told) == (0, "")
    assert "dry run, nothing is promoted: hard-labels is promoted by force: would do. The gate said:" in out
    assert tracking.champion("forced") is None
    code, out, told = here("promote", run, "--force", "--reason", "the customer waits")
    assert (code, told) == (0, "")
    assert "hard-labels is promoted by force: the customer waits. The gate said: hard-labels is refused: " in out
    assert out.splitlines()[-1] == "champion    models:/forced/1"
    (version,) = tracking.versions("forced")
    assert (version.aliases, version.tags["kd.forced"]) == (("champion",), "the customer waits")
    code, out, _ = here("promote", run, "--dry-run")
    assert code == REFUSED
    told = "already champion: hard-labels is forced version 1, but it does not meet the requirements: test accuracy's"
    assert f"verdict     dry run, nothing is promoted: {told}" in out
    words = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert words["parameters"] == ["610", "<=", "610", "yes"]  # what it may be no longer is shown too
    assert words["accuracy"][1:] == [">=", "0.999", "no"]


def test_rolled_back_to_a_version_that_is_named(here: Here) -> None:
    for epochs in (2, 3, 4):
        code, _, told = here("promote", refused(here, "back", epochs), "--force", "--reason", "the next")
        assert code == 0, told
    told = "back: version 1 is the champion again (models:/back/1)\n"
    assert here("rollback", "back", "--to", "1") == (0, told, "")
    assert [version.aliases for version in tracking.versions("back")] == [("previous",), (), ("champion",)]
    code, out, told = here("rollback", "back", "--to", "1")
    assert (code, out, told) == (2, "", "kd: error: model 'back': version 1 is the champion\n")
    code, out, told = here("rollback", "back", "--to", "9")
    assert (code, out, told) == (2, "", "kd: error: model 'back' has no version 9; it has: 1, 2, 3\n")


def test_a_champion_that_misses_a_new_requirement_exits_4_and_names_it(here: Here) -> None:
    free = ("--set", "promote.model=strict", "--set", "promote.require={}")
    assert here("run", "small.yaml", *free, "--quiet", "--require-promotion")[0] == 0
    assert here("run", "small.yaml", *free, "--quiet", "--require-promotion")[0] == 0  # already champion
    rule = ("--set", "promote.model=strict", "--set", "promote.require={parameters: <= 609}")
    code, out, _ = here("run", "small.yaml", *rule, "--quiet", "--require-promotion")
    assert code == REFUSED
    assert (
        "verdict     already champion: hard-labels is strict version 1, but it does not meet the requirements: " in out
    )
    assert "the number of parameters is 610, required <= 609" in out
    assert here("run", "small.yaml", *rule, "--quiet")[0] == 0  # as for any refusal
    assert here("promote")[0] == REFUSED
