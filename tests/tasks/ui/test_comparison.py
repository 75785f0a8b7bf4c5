"""What a comparison shows on a Prefect server with a UI: names, log lines, artifacts, assets and links."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import Artifact

from flows.distill import distill
from flows.promote import promote
from flows.services.prefect_internals.client import refresh_settings, send_queued_logs_and_events
from kdmodels.experiment import Experiment
from tasks import tracking
from tasks.references import Outcome, Plan, VerdictReference
from tasks.results import PLAN
from tasks.tracking.tags import Tag
from tasks.ui.comparison import comparison_markdown, verdict_markdown
from tests.conftest import SMALL

UI = "http://prefect.example"
NAMED = SMALL | {"name": "Named", "variants": ["hard-labels", "kd"]}


@dataclass(frozen=True)
class Shown:
    """A comparison with a UI: its outcome, the lines of its log, and what the server knows of its flow run."""

    outcome: Outcome
    lines: list[str]
    flow_run: Any
    task_runs: list[str]
    artifacts: dict[str | None, Artifact]
    tags: dict[str, str]


def read(client: SyncPrefectClient, outcome: Outcome, lines: list[str]) -> Shown:
    tags = tracking.get(outcome.parent_run_id).tags
    run_id = tags[Tag.PREFECT_FLOW_RUN]
    send_queued_logs_and_events(10)
    artifacts = client.read_artifacts(
        artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
    )
    names: list[str] = []
    deadline = time.monotonic() + 60
    while "write_report" not in names:  # the server records task runs a moment later
        assert time.monotonic() < deadline, names
        time.sleep(0.1)
        task_runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])))
        names = [run.name for run in task_runs]
    return Shown(
        outcome=outcome,
        lines=lines,
        flow_run=client.read_flow_run(run_id),
        task_runs=names,
        artifacts={artifact.key: artifact for artifact in artifacts},
        tags=tags,
    )


@pytest.fixture(scope="module")
def runs(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Iterator[tuple[Shown, Shown]]:
    """Provide a comparison, and the same comparison again, in which everything is reused."""
    logger, handler = logging.getLogger("prefect.flow_runs"), Lines()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("ui") / "mlruns"))
        patch.setenv("PREFECT_UI_URL", UI)
        refresh_settings()
        tracking.configure()
        level = logger.level
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        try:
            with get_client(sync_client=True) as client:
                first = read(client, distill(Experiment.model_validate(NAMED)), handler.take())
                yield first, read(client, distill(Experiment.model_validate(NAMED)), handler.take())
        finally:
            logger.setLevel(level)
            logger.removeHandler(handler)
    refresh_settings()


class Lines(logging.Handler):
    """A log handler that keeps the lines of kdflow."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())

    def take(self) -> list[str]:
        taken, self._lines = self._lines, []
        return [line for line in taken if not re.match("Beginning|Finished in|View at", line)]


@pytest.fixture
def first(runs: tuple[Shown, Shown]) -> Shown:
    return runs[0]


@pytest.fixture
def again(runs: tuple[Shown, Shown]) -> Shown:
    return runs[1]


def test_runs_have_names(first: Shown) -> None:
    assert re.fullmatch(r"Named \d{4}-\d\d-\d\d \d\d:\d\d", first.flow_run.name)
    local = first.flow_run.expected_start_time.astimezone()
    assert first.flow_run.name.endswith(f"{local:%H:%M}")
    named = {"prepare_data digits", "train_teacher teacher", "distil_knowledge teacher", "train_student kd"}
    named |= {"train_student hard-labels", "promote_student Named-student", "write_report"}
    assert named <= set(first.task_runs)


def test_the_log_has_a_line_for_each_stage_and_student(first: Shown, again: Shown) -> None:
    seconds = r" \(\d+\.\d s\)"
    student = r"validation accuracy \d\d\.\d\d ± \d+\.\d\d %, trained in \d+\.\d s"
    patterns = {
        "data": r"digits, 1,150 train, 288 validation, 359 test examples" + seconds,
        "plan": r"0 earlier runs are reused\. To train or load: teacher, hard-labels, kd",
        "teacher": r"validation accuracy \d\d\.\d\d %, new" + seconds,
        "knowledge": r"outputs of the teacher for 1 view of the training images, stored" + seconds,
        "hard-labels": student,
        "kd": student,
        "students": r"2 trained" + seconds,
        "compare": r"(kd|hard-labels) is best, validation accuracy .* %" + seconds,
        "promote": r".*" + seconds,
    }
    lines = [line.partition(": ")[::2] for line in first.lines]
    assert sorted(name for name, _ in lines if name in patterns) == sorted(patterns)
    for name, text in lines:
        assert name not in patterns or re.fullmatch(patterns[name], text), (name, text)
    assert "plan: nothing has changed: all 3 earlier runs are reused" in again.lines
    assert any(line.startswith("kd: ") and line.endswith("%, reused") for line in again.lines)
    assert any(line.startswith("students: 2 reused") for line in again.lines)


def test_each_trained_student_has_a_progress_artifact(first: Shown, again: Shown) -> None:
    for variant in ("hard-labels", "kd"):
        artifact = first.artifacts[f"named-{variant}"]
        assert (artifact.type, artifact.data) == ("progress", 100.0)
        assert re.fullmatch(rf"{variant}: finished, validation accuracy .* %", artifact.description or "")
        assert artifact.task_run_id is not None
    assert list(again.artifacts) == ["named-comparison"]  # reused students have no progress


def test_the_comparison_is_a_markdown_artifact(first: Shown) -> None:
    artifact = first.artifacts["named-comparison"]
    assert artifact.type == "markdown"
    text = str(artifact.data)
    assert first.outcome.verdict.reason.split(".")[0] in text
    assert "| # | variant | result | points above the control | parameters | training |" in text
    assert "| kd | train | " in text
    assert f"`{first.outcome.parent_run_id}` (`kd ui` serves the MLflow UI" in text
    assert f"Report: `kd report {first.outcome.parent_run_id[:8]} --open`" in text


def test_mlflow_links_to_the_flow_run(first: Shown) -> None:
    assert first.tags[Tag.PREFECT_URL] == f"{UI}/runs/flow-run/{first.flow_run.id}"


def test_the_markdown_links_to_an_announced_mlflow_ui(first: Shown, runs: object) -> None:
    plan = tracking.read_json(first.outcome.parent_run_id, PLAN)
    with tracking.ui_announced(tracking.configure(), "http://127.0.0.1:1234"):
        text = comparison_markdown(first.outcome, Plan.model_validate(plan), has_report=True)
    run = first.outcome.parent_run_id
    assert f"[report.html](http://127.0.0.1:1234/{tracking.artifact_link(run, 'report.html')})" in text
    assert f"[{run}](http://127.0.0.1:1234/{tracking.run_link(run)})" in text


def test_text_of_a_verdict_is_no_markdown() -> None:
    verdict = VerdictReference(
        promoted=False, already_champion=False, accepted=False, model="m", version=None, winner="kd",
        reason="<img src=x> [link](http://evil.example) | *bold*", evidence={}, test_accuracy={"kd": 0.5}, dry_run=True,
    )  # fmt: skip
    assert verdict_markdown(verdict) == (
        "**Dry run, nothing is promoted: &lt;img src=x&gt; \\[link\\](http://evil.example) \\| \\*bold\\***\n\n"
        "Champion of m: none\n\nTest accuracy: kd 50.00 %"
    )


def test_a_promotion_is_named_and_shown(first: Shown, runs: object) -> None:
    verdict = promote(first.outcome.parent_run_id, force="a test")
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter.model_validate({"key": {"any_": ["named-student-verdict"]}})
        )
        run = client.read_flow_run(found[0].flow_run_id)
    assert run.name.startswith(f"promote {first.outcome.parent_run_id} 20")
    assert verdict.reason.split(".")[0] in str(found[0].data)
