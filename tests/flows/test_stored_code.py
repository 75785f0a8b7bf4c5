"""Whoever can write the store can't make a command run code that its user did not name."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows import cli
from flows.distill import Options, Outcome, distill, plan_only
from flows.export import export, find
from flows.promote import promote
from kdmodels.errors import UserError
from kdmodels.experiment import Experiment
from tasks import tracking

OWN = "tests.kdmodels.networks.own"
SMALL: dict[str, Any] = {
    "name": "stored",
    "threads": 1,
    "data": {"source": "digits", "validation": 0.2},
    "teacher": {"network": {"mlp": [8]}, "epochs": 1},
    "student": {"network": {"module": f"{OWN}:by_function"}, "epochs": 1, "seeds": 1},
    "variants": ["kd"],
}


@pytest.fixture(scope="module")
def outcome(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Iterator[Outcome]:
    """A run whose students and teacher are the user's own, in a store of this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("store") / "mlruns"))
        yield distill(Experiment.model_validate(SMALL))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.fixture
def poisoned(outcome: Outcome, canary: Path) -> Iterator[Outcome]:
    """The run, after somebody has written code into the stored descriptions of its networks."""
    code = {"module": "sympy:sympify", "arguments": {"a": f"__import__('os').mkdir({str(canary)!r})"}}
    run_ids = [run.run_id for run in tracking.children(outcome.parent_run_id)]
    before = {run_id: tracking.read_json(run_id, "network/network.json") for run_id in run_ids}
    for run_id, description in before.items():
        tracking.log_json(run_id, "network/network.json", description | {"network": code})
    yield outcome
    for run_id, description in before.items():
        tracking.log_json(run_id, "network/network.json", description)


def winner(outcome: Outcome) -> str:
    return tracking.get(outcome.parent_run_id).tags["kd.winner_run"]


def test_a_run_builds_the_code_that_its_own_file_names(outcome: Outcome) -> None:
    assert [student.status for student in outcome.students] == ["FINISHED"] * 2
    again = distill(Experiment.model_validate(SMALL))
    assert all(student.reused for student in again.students)


def test_export_runs_no_code_that_only_the_store_names(poisoned: Outcome, canary: Path, tmp_path: Path) -> None:
    run, _ = find(winner(poisoned))
    with pytest.raises(UserError, match=r"the store names the code of sympy, .*--allow-code sympy"):
        export(run, "pt2", tmp_path / "a.pt2", code=[OWN])
    assert export(run, "onnx", tmp_path / "a.onnx")["agreement"] == 1  # the stored file needs no code
    assert not canary.exists()


@pytest.mark.parametrize("dry_run", [True, False])
def test_promote_runs_no_code_that_only_the_store_names(poisoned: Outcome, canary: Path, dry_run: bool) -> None:
    with contextlib.suppress(UserError):  # a model that is judged by its registered file needs no code at all
        promote(winner(poisoned), dry_run=dry_run, code=[OWN])
    assert not canary.exists()


def test_a_run_with_a_registered_teacher_runs_no_code_that_only_the_store_names(
    poisoned: Outcome, canary: Path
) -> None:
    version = tracking.register("poisoned", winner(poisoned), tags={}, description="")
    asked = Experiment.model_validate(SMALL | {"name": "taught", "teacher": {"registry": version.model + "/1"}})
    for command in (plan_only, distill):
        with pytest.raises(UserError, match=r"the store names the code of sympy, .*allow_code: \[sympy\]"):
            command(asked, Options())
    assert not canary.exists()


def test_a_registered_teacher_of_the_users_own_module_needs_its_name(outcome: Outcome) -> None:
    tracking.register("own-teacher", winner(outcome), tags={}, description="")
    raw = SMALL | {"name": "taught", "teacher": {"registry": "own-teacher/1"}, "student": {
        "network": {"mlp": [4]}, "epochs": 1, "seeds": 1}}  # fmt: skip
    with pytest.raises(UserError, match=rf"the store names the code of {OWN}, "):
        distill(Experiment.model_validate(raw))
    taught = distill(Experiment.model_validate(raw | {"allow_code": [OWN]}))
    assert [student.status for student in taught.students] == ["FINISHED"] * 2


def test_the_command_line_names_the_module(
    outcome: Outcome, tmp_path: Path, kd_here: Callable[..., tuple[int, str, str]]
) -> None:
    run_id, file = winner(outcome), tmp_path / "a.pt2"
    code, _, told = kd_here("export", run_id, "--pt2", "--out", str(file))
    assert code in (cli.ERROR, cli.USAGE)
    assert f"--allow-code {OWN}" in told
    assert not file.exists()
    code, _, told = kd_here("export", run_id, "--pt2", "--out", str(file), "--allow-code", OWN)
    assert (code, file.exists()) == (cli.DONE, True), told
    experiment = tmp_path / "taught.yaml"
    tracking.register("named-teacher", run_id, tags={}, description="")
    raw = SMALL | {"name": "taught", "teacher": {"registry": "named-teacher/1"}, "student": {
        "network": {"mlp": [4]}, "epochs": 1, "seeds": 1}}  # fmt: skip
    experiment.write_text(json.dumps(raw))
    assert kd_here("run", str(experiment), "--dry-run")[0] != cli.DONE
    assert kd_here("run", str(experiment), "--dry-run", "--allow-code", OWN)[0] == cli.DONE


def test_a_data_source_that_only_the_store_names_does_not_run(
    outcome: Outcome, canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`experiment.json` is the store's too: its data may be a function."""
    (tmp_path / "evil_data.py").write_text(f"import os\nos.mkdir({str(canary)!r})\n")
    monkeypatch.chdir(tmp_path)
    before = tracking.read_json(outcome.parent_run_id, "experiment.json")
    run, _ = find(winner(outcome))
    try:
        for source in ("evil_data:load", "./evil_data.py:load", f"{tmp_path}/evil_data.py:load"):
            data = before["data"] | {"source": source, "validation": 0.2}
            tracking.log_json(outcome.parent_run_id, "experiment.json", before | {"data": data, "allow_code": [source]})
            for command in (
                lambda: export(run, "onnx", tmp_path / "a.onnx", code=[OWN]),
                lambda: promote(outcome.parent_run_id, dry_run=True, code=[OWN]),
            ):
                with pytest.raises(UserError, match=r"data\.source: the store names the code of .*evil_data"):
                    command()
    finally:
        tracking.log_json(outcome.parent_run_id, "experiment.json", before)
    assert not canary.exists()
