"""`kd gc` on a real store: everything that is needed still works, and the rest is deleted for good."""

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import Timeout
from mlflow import MlflowClient

from flows import distill as flow
from flows.distill import Options, Outcome, distill, plan_only
from flows.promote import promote
from flows.rollback import rollback
from flows.services import doctor
from kdmodels.errors import UserError
from kdmodels.experiment import Experiment
from kdmodels.files.folders import cache_folder
from tasks import comparison_run, tracking
from tasks.cleanup import caches
from tasks.cleanup.gc import Collected, Deleted, collect
from tasks.execution.locks import PLANNING, copy_lock, lock_of
from tasks.export_model import export
from tasks.promotion_candidates import find_candidate
from tasks.queries import compare, show, spec
from tasks.tracking.served import load_model
from tests.conftest import SMALL

pytestmark = pytest.mark.fault
EXPERIMENT = SMALL | {"student": SMALL["student"] | {"seeds": 1}}
REFUSED = {"require": {"accuracy": ">= 0.999"}}
LONGER = EXPERIMENT["student"] | {"epochs": 25}
OTHER = {"seed": 7, "promote": REFUSED}
HOUR = 3600.0


class Ledger:
    """A store with comparisons that ended before `cut` (seconds since 1970) and one that ended after it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first = run()  # version 1, `previous`
        self.better = run(student=LONGER)  # version 2, `champion`
        self.lender = run(name="lender", **OTHER)
        self.gone = run(name="gone", **OTHER | {"seed": 9})
        self.cut = (tracking.get(self.gone.parent_run_id).end or 0) / 1000 + 0.001
        self.borrower = run(name="borrower", **OTHER, variants=["hard-labels", "hint"])

    def collect(self, **how: Any) -> tuple[dict[str, Deleted], Collected]:
        """Collect as of an hour after the cut. Return what was reported, by run or folder, and the result."""
        reported: list[Deleted] = []
        collected = collect(HOUR, reported.append, now=self.cut + HOUR, **how)
        assert collected.deleted == reported
        return {str(item.run_id or item.folder): item for item in reported}, collected

    def content(self) -> dict[str, str]:
        """Return digests of all rows of the database and of every file."""
        with closing(sqlite3.connect(self.folder / "mlflow.db")) as connection:
            rows = {"rows": sha256("\n".join(connection.iterdump()).encode()).hexdigest()}
        files = (self.folder / "artifacts").rglob("*")
        return rows | {str(file): sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}


def run(fresh: bool = False, **changes: Any) -> Outcome:
    return distill(Experiment.model_validate(EXPERIMENT | changes), Options(fresh=fresh))


@pytest.fixture(scope="module")
def built(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Iterator[Ledger]:
    folder = tmp_path_factory.mktemp("gc") / "mlruns"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(folder))
        patch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))
        yield Ledger(folder)


@pytest.fixture
def ledger(built: Ledger, tmp_path: Path) -> Iterator[Ledger]:
    """Return the store as it was built, and restore it after the test."""
    shutil.copytree(built.folder / "artifacts", tmp_path / "artifacts")
    copy(built.folder / "mlflow.db", tmp_path / "mlflow.db")
    yield built
    shutil.rmtree(built.folder / "artifacts")
    shutil.copytree(tmp_path / "artifacts", built.folder / "artifacts")
    copy(tmp_path / "mlflow.db", built.folder / "mlflow.db")


def copy(database: Path, to: Path) -> None:
    """Copy in place, so that open connections see the new content."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


def runs_of(outcome: Outcome) -> dict[str, str]:
    """Return run ids by variant, and those of `teacher` and `comparison`."""
    students = {student.variant: student.run_id for student in outcome.students if student.run_id}
    return students | {"teacher": outcome.teacher.run_id, "comparison": outcome.parent_run_id}


def images() -> np.ndarray:
    return np.random.default_rng(0).random((20, 1, 8, 8), dtype=np.float32)


def test_only_what_nothing_needs_is_deleted_for_good(ledger: Ledger) -> None:
    doomed = {*runs_of(ledger.gone).values(), runs_of(ledger.lender)["kd"]}
    knowledge = {runs_of(ledger.first)["teacher"]}  # nobody was taught by it since the cut
    kept = {run.run_id for run in tracking.every_run()} - doomed
    files = {run_id: tracking.run_bytes(run_id) for run_id in doomed}
    assert min(files[run_id] for run_id in runs_of(ledger.gone).values()) > 1_000
    before = sum(file.stat().st_size for file in ledger.folder.joinpath("artifacts").rglob("*") if file.is_file())

    reports, found = ledger.collect()
    assert reports.keys() == doomed | knowledge
    assert {run_id: reports[run_id].bytes for run_id in doomed} == files
    assert {reports[run_id].kind for run_id in knowledge} == {"knowledge"}
    after = sum(file.stat().st_size for file in ledger.folder.joinpath("artifacts").rglob("*") if file.is_file())
    assert before - after == found.bytes == sum(each.bytes for each in reports.values())
    # All four of the first, the second but for the teacher that it took over, the lender but for what nobody borrowed.
    assert (len(found.deleted), found.needed, found.for_good) == (len(reports), 10, True)

    assert {run.run_id for run in tracking.every_run()} == kept
    assert tracking.marked_runs() == []
    with closing(sqlite3.connect(ledger.folder / "mlflow.db")) as connection:
        for table, column in {"runs": "run_uuid", "metrics": "run_uuid", "tags": "run_uuid", "params": "run_uuid",
                              "latest_metrics": "run_uuid", "logged_models": "source_run_id"}.items():  # fmt: skip
            rows = {row[0] for row in connection.execute(f"SELECT {column} FROM {table}")}
            assert rows
            assert not rows & doomed, table
    names = {path.name for path in (ledger.folder / "artifacts").rglob("*")}
    assert not names & doomed
    assert ledger.collect()[0] == {}


def test_a_dry_run_reports_the_same_and_changes_nothing(ledger: Ledger) -> None:
    before = ledger.content()
    reports, found = ledger.collect(dry_run=True)
    assert ledger.content() == before
    assert (reports, found) == ledger.collect()
    assert ledger.content() != before


def test_what_the_registry_needs_still_works(ledger: Ledger, tmp_path: Path) -> None:
    words = ("small-student/1", "small-student@previous", "small-student/2", "small-student@champion")
    uris = [tracking.find_model(word).uri for word in words]
    said = [load_model(uri)(images()) for uri in uris]
    shown = {run_id: show(run_id) for outcome in (ledger.first, ledger.better) for run_id in runs_of(outcome).values()}
    rows = [compare([outcome.parent_run_id])[0] for outcome in (ledger.first, ledger.better)]
    ledger.collect()

    for uri, before in zip(uris, said, strict=True):
        np.testing.assert_array_equal(load_model(uri)(images()), before)
    for run_id, before in shown.items():
        after = show(run_id)
        if run_id == ledger.first.teacher.run_id:  # its knowledge alone can be made again
            before.artifacts.remove("knowledge")
            before.tags.pop("kd.knowledge")
        assert after == before
    again = [compare([outcome.parent_run_id]) for outcome in (ledger.first, ledger.better)]
    assert [found for found, _ in again] == rows
    assert all(row.run_id in right for found, right in again for row in found)  # the evidence stays too
    assert promote(ledger.better.parent_run_id).already_champion
    assert rollback("small-student").version == 1
    assert promote(ledger.better.parent_run_id).promoted
    winner = runs_of(ledger.better)[ledger.better.verdict.winner]
    assert find_candidate(winner)[0].run_id == ledger.better.parent_run_id
    assert "name: small" in spec(winner)
    report = export(tracking.get(winner), "pt2", tmp_path / "small.pt2")
    assert report.accuracy == report.exported_accuracy
    lent = runs_of(ledger.borrower)["hard-labels"]  # a younger comparison's, trained in an older one
    assert "name: lender" in spec(lent)
    assert "required >= 0.999" in promote(ledger.borrower.parent_run_id).reason


def test_the_next_run_reuses_what_was_kept_and_trains_what_was_deleted(ledger: Ledger) -> None:
    before = tracking.get(runs_of(ledger.gone)["kd"])
    ledger.collect()
    assert {step.action for step in plan_only(Experiment.model_validate(EXPERIMENT)).steps} == {"reuse"}
    assert {step.action for step in plan_only(Experiment.model_validate(EXPERIMENT | {"student": LONGER})).steps} == {
        "reuse"
    }
    again = run(name="gone", **OTHER | {"seed": 9})
    assert not any([again.teacher.reused, *(student.reused for student in again.students)])
    after = tracking.get(runs_of(again)["kd"])
    assert after.run_id != before.run_id
    figures = {name for name in before.metrics if name.startswith(("train/", "val/"))}
    assert {name: after.metrics[name] for name in figures} == {name: before.metrics[name] for name in figures}
    taught = run(variants=["hard-labels", "kd", "logit-regression"])  # by the teacher whose knowledge went
    assert (taught.teacher.reused, [row.reused for row in taught.students]) == (True, [True, True, False])
    assert caches.knowledge([tracking.get(taught.teacher.run_id)])[0].bytes > 1_000


def test_an_interrupted_deletion_is_completed(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first deletion stops after a run is marked, the second after the files of a run are deleted."""
    everything, _ = ledger.collect(dry_run=True)
    for call in ("_models", "_delete_files"):
        stopped = 0
        real = getattr(tracking.deletion, call)

        def stopping(word: str, real: Callable[[str], Any] = real) -> Any:
            nonlocal stopped
            found = real(word)
            if tracking.marked_runs():
                stopped += 1
                raise KeyboardInterrupt
            return found

        with monkeypatch.context() as patch:
            patch.setattr(tracking.deletion, call, stopping)
            with pytest.raises(KeyboardInterrupt):
                ledger.collect()
        assert stopped == 1
        marked = tracking.marked_runs()
        assert {run.run_id for run in marked} <= everything.keys()
        assert marked[0].run_id not in {run.run_id for run in tracking.every_run()}
        with pytest.raises(UserError, match="was deleted"):
            tracking.get(marked[0].run_id)
    reports, _ = ledger.collect()
    assert reports.keys() == everything.keys()
    assert tracking.marked_runs() == []
    assert ledger.collect()[0] == {}


def test_caches_are_deleted_by_their_last_use(ledger: Ledger) -> None:
    (digits,) = caches.decoded()
    training = tracking.machine_folder("checkpoints") / "key"
    training.mkdir()
    (training / "epoch-000001.safetensors").write_bytes(bytes(5_000))
    assert digits.folder is not None
    assert not {str(digits.folder), str(training)} & ledger.collect(dry_run=True)[0].keys()
    for path in (*digits.folder.glob("*/"), *training.iterdir()):
        os.utime(path, (ledger.cut - 1, ledger.cut - 1))
    for name in ("decoded data", "knowledge"):
        assert doctor.check(name).ok is True
    assert {str(digits.folder), str(training)} <= ledger.collect(dry_run=True)[0].keys()
    with lock_of("key"):  # somebody trains there
        reports, _ = ledger.collect()
    assert reports[str(digits.folder)].bytes == digits.bytes > 100_000
    assert training.exists()
    assert [path.name for path in digits.folder.iterdir()] == ["lock"]
    assert ledger.collect()[0].keys() == {str(training)}
    assert not training.exists()
    assert plan_only(Experiment.model_validate(EXPERIMENT)).teacher.action == "reuse"  # decoded again
    (again,) = caches.decoded()
    assert (again.bytes, again.used > digits.used) == (digits.bytes, True)


def test_a_copy_of_knowledge_is_deleted_unless_a_student_downloads_it(ledger: Ledger) -> None:
    folder = tracking.copies_folder() / "0123"
    (folder / "knowledge").mkdir(parents=True)
    (folder / "knowledge" / "logits.npy").write_bytes(b"12345")
    os.utime(folder / "knowledge", (ledger.cut - 1, ledger.cut - 1))
    with lock_of(copy_lock("0123")):
        assert str(folder) not in ledger.collect()[0]
    assert ledger.collect()[0][str(folder)].bytes == 5
    assert not folder.exists()
    (folder / "knowledge").mkdir(parents=True)
    assert str(folder) not in ledger.collect()[0]  # used after the cut


def test_checkpoints_are_kept_while_a_run_can_be_resumed_from_them(ledger: Ledger) -> None:
    """The run was resumed after the cut and was killed before its next checkpoint."""
    folder = tracking.machine_folder("checkpoints") / "interrupted"
    folder.mkdir()
    (folder / "claim").write_text("c0ffee")
    os.utime(folder / "claim", (ledger.cut - 1, ledger.cut - 1))
    run_id = tracking.start("small", "kd", "student", key="interrupted")
    tracking.end(run_id, "KILLED")
    assert not {run_id, str(folder)} & ledger.collect()[0].keys()
    tracking.delete_run(run_id)
    assert str(folder) in ledger.collect()[0]


def test_a_dataset_is_used_when_it_is_read(ledger: Ledger) -> None:
    (digits,) = caches.decoded()
    assert digits.folder is not None
    assert digits.folder.is_relative_to(cache_folder())
    for path in digits.folder.glob("*/"):
        os.utime(path, (1, 1))
    row = doctor.check("decoded data")
    assert (row.ok, row.remedy) == (None, "kd gc --older-than 30d deletes them")
    assert row.detail.startswith(f"1 dataset, {digits.bytes / 1e6:.1f} MB, in ")
    assert row.detail.endswith(f"; 1 of them, {digits.bytes / 1e6:.1f} MB, unused for 30 days")
    plan_only(Experiment.model_validate(EXPERIMENT))
    assert caches.decoded()[0].used >= digits.used
    assert doctor.check("decoded data").ok is True


def test_gc_waits_while_a_command_plans(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs that the command will reuse are kept."""
    gone = tracking.get(ledger.gone.parent_run_id)
    found: dict[str, Any] = {}
    thread = threading.Thread(target=lambda: found.update(ledger.collect()[0]))
    with lock_of(PLANNING):
        thread.start()
        going = tracking.start("small", "small", "comparison")
        sources = runs_of(ledger.gone)
        steps = {name: {"key": "", "source": sources[name]} for name in ("teacher", "kd")}
        tracking.log_json(going, "plan.json", {"members": [], "teacher": steps["teacher"], "students": [steps["kd"]]})
        thread.join(timeout=2)
        assert thread.is_alive()
    thread.join()
    tracking.end(going, "KILLED")
    assert found.keys() == {runs_of(ledger.lender)["kd"], sources["hard-labels"], runs_of(ledger.first)["teacher"]}
    assert tracking.get(sources["kd"]).parent == gone.run_id


def test_a_command_holds_the_planning_lock_only_while_it_plans(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, bool] = {}

    def watch(module: object, name: str) -> None:
        watched = getattr(module, name)

        def spy(*args: object, **named: object) -> object:
            try:
                with lock_of(PLANNING).acquire(blocking=False):
                    seen[name] = False
            except Timeout:
                seen[name] = True
            return watched(*args, **named)

        monkeypatch.setattr(module, name, spy)

    watch(comparison_run, "plan_folds")
    watch(comparison_run, "comparison_run")
    watch(flow, "train_teachers")
    run()
    assert seen == {"plan_folds": True, "comparison_run": True, "train_teachers": False}


def test_a_model_of_any_version_keeps_its_run(ledger: Ledger) -> None:
    """The version was registered by hand from the logged model alone."""
    gone = runs_of(ledger.gone)["kd"]
    client = MlflowClient()
    client.create_registered_model("mine")
    (model,) = client.search_logged_models([client.get_run(gone).info.experiment_id], f"source_run_id = '{gone}'")
    client.create_model_version("mine", f"models:/{model.model_id}", model_id=model.model_id)
    assert gone in tracking.registered_runs()
    reports, _ = ledger.collect()
    assert {each.name for each in reports.values() if each.kind != "knowledge"} == {"kd"}  # the lender's
    assert {run.run_id for run in tracking.every_run()} >= {*runs_of(ledger.gone).values()}
