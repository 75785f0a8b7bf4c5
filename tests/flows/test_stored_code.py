"""Code that is named only in the store never runs: the user has to name it too."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.distill import Options, Outcome, distill, plan_only
from flows.promote import promote
from kd import main as cli
from kdmodels.errors import UserError
from kdmodels.experiment import Experiment
from tasks import tracking
from tasks.export_model import export, find
from tests.conftest import SMALL

OWN = "tests.support.networks"
EXPERIMENT = SMALL | {
    "name": "stored",
    "teacher": {"network": {"mlp": [8]}, "epochs": 1},
    "student": {"network": {"module": f"{OWN}:by_function"}, "epochs": 1, "seeds": 1},
    "variants": ["kd"],
}


@pytest.fixture(scope="module")
def outcome(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Iterator[Outcome]:
    """Run an experiment whose networks are user code, in a store for this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("store") / "mlruns"))
        yield distill(Experiment.model_validate(EXPERIMENT))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.fixture
def poisoned(outcome: Outcome, canary: Path) -> Iterator[Outcome]:
    """The run, after its stored network descriptions were changed to name other code."""
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


def test_a_run_uses_the_code_that_its_experiment_file_names(outcome: Outcome) -> None:
    assert [student.status for student in outcome.students] == ["FINISHED"] * 2
    again = distill(Experiment.model_validate(EXPERIMENT))
    assert all(student.reused for student in again.students)


def test_export_runs_no_code_that_only_the_store_names(poisoned: Outcome, canary: Path, tmp_path: Path) -> None:
    run, _ = find(winner(poisoned))
    with pytest.raises(UserError, match=r"the store names the code of sympy, .*--allow-code sympy"):
        export(run, "pt2", tmp_path / "a.pt2", code=[OWN])
    assert export(run, "onnx", tmp_path / "a.onnx").agreement == 1  # the stored ONNX file needs no code
    assert not canary.exists()


@pytest.mark.parametrize("dry_run", [True, False])
def test_promote_runs_no_code_that_only_the_store_names(poisoned: Outcome, canary: Path, dry_run: bool) -> None:
    with contextlib.suppress(UserError):  # the gate reads the registered ONNX file, which needs no code
        promote(winner(poisoned), dry_run=dry_run, code=[OWN])
    assert not canary.exists()


def test_a_run_with_a_registered_teacher_runs_no_code_that_only_the_store_names(
    poisoned: Outcome, canary: Path
) -> None:
    version = tracking.register("poisoned", winner(poisoned), tags={}, description="")
    asked = Experiment.model_validate(EXPERIMENT | {"name": "taught", "teacher": {"registry": version.model + "/1"}})
    for command in (plan_only, distill):
        with pytest.raises(UserError, match=r"the store names the code of sympy, .*allow_code: \[sympy\]"):
            command(asked, Options())
    assert not canary.exists()


def test_a_registered_teacher_of_user_code_needs_the_name_of_its_module(outcome: Outcome) -> None:
    tracking.register("own-teacher", winner(outcome), tags={}, description="")
    raw = EXPERIMENT | {"name": "taught", "teacher": {"registry": "own-teacher/1"}, "student": {
        "network": {"mlp": [4]}, "epochs": 1, "seeds": 1}}  # fmt: skip
    with pytest.raises(UserError, match=rf"the store names the code of {OWN}, "):
        distill(Experiment.model_validate(raw))
    taught = distill(Experiment.model_validate(raw | {"allow_code": [OWN]}))
    assert [student.status for student in taught.students] == ["FINISHED"] * 2


def test_the_command_line_names_the_module(
    outcome: Outcome, tmp_path: Path, kd_here: Callable[..., tuple[int, str, str]]
) -> None:
    run_id, file = winner(outcome), tmp_path / "a.pt2"
    code, _, error = kd_here("export", run_id, "--pt2", "--out", str(file))
    assert code in (cli.ERROR, cli.USAGE)
    assert f"--allow-code {OWN}" in error
    assert not file.exists()
    code, _, error = kd_here("export", run_id, "--pt2", "--out", str(file), "--allow-code", OWN)
    assert (code, file.exists()) == (cli.DONE, True), error
    experiment = tmp_path / "taught.yaml"
    tracking.register("named-teacher", run_id, tags={}, description="")
    raw = EXPERIMENT | {"name": "taught", "teacher": {"registry": "named-teacher/1"}, "student": {
        "network": {"mlp": [4]}, "epochs": 1, "seeds": 1}}  # fmt: skip
    experiment.write_text(json.dumps(raw))
    assert kd_here("run", str(experiment), "--dry-run")[0] != cli.DONE
    assert kd_here("run", str(experiment), "--dry-run", "--allow-code", OWN)[0] == cli.DONE


def test_a_data_source_that_only_the_store_names_does_not_run(
    outcome: Outcome, canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`experiment.json` comes from the store, and its data source may be a function."""
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
