"""Messages to a local receiver: their content, and receivers that are down, slow or broken."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock

from kdmodels.experiment.notify import Notify
from tasks import notify as sending
from tasks import tracking
from tasks.notify import Report, events, notify
from tasks.references import Outcome, StudentReference
from tests.support.receiver import Receiver, running_receiver

SECRET = "topsecret"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as receiver:
        yield receiver


@pytest.fixture
def warnings(prefect_server: str) -> Iterator[list[str]]:
    """Collect the warnings of tasks and of httpx. No log entry, also of a lower level, may contain the secret."""
    entries: list[str] = []
    warnings: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            entries.append(record.getMessage())
            if record.levelno >= logging.WARNING:
                warnings.append(record.getMessage())

    handler = Collect()
    loggers = [logging.getLogger(name) for name in ("prefect.task_runs", "httpx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
    logging.getLogger("httpx").setLevel(logging.INFO)
    yield warnings
    assert SECRET not in str(entries)
    for logger, level in zip(loggers, levels, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)


@pytest.fixture
def report(store: Path, student: StudentReference) -> Report:
    other = student.model_copy(update={"variant": "hard-labels", "status": "FAILED", "metrics": {}})
    run_id = tracking.start("small", "small", "comparison")
    verdict = "kd becomes the first champion. <All> requirements\x1b are met: http://ann:pw1234@ml.example/x"
    return Report(event="promoted", experiment="small", verdict=verdict, students=[other, student], run_id=run_id)


@pytest.fixture
def student() -> StudentReference:
    return StudentReference(
        variant="kd",
        run_id="1",
        status="FINISHED",
        reused=False,
        seeds=[0, 1],
        metrics={"val/accuracy": 0.9722, "val/accuracy/std": 0.004},
        per_seed={"val/accuracy": [0.9682, 0.9762]},
        parameters=10,
    )


def webhook(receiver: Receiver) -> Notify:
    return Notify.model_validate({"on": ["promoted"], "webhook": f"{receiver.address}/{SECRET}"})


def test_a_webhook_gets_a_documented_json_document(receiver: Receiver, report: Report, warnings: list[str]) -> None:
    notify(webhook(receiver), report)
    (document,) = receiver.documents
    leaderboard = "1  kd           validation accuracy 97.22 ± 0.40 %\n-  hard-labels  failed"
    sentence = "kd becomes the first champion. {0}All{1} requirements\\x1b are met: http://ml.example"
    assert document == {
        "event": "promoted",
        "experiment": "small",
        "verdict": sentence.format("<", ">"),
        "leaderboard": leaderboard,
        "run_id": report.run_id,
        "links": {"mlflow": None, "prefect": document["links"]["prefect"]},
        "text": document["text"],
    }
    lines = ["small: promoted", sentence.format("&lt;", "&gt;"), "```", *leaderboard.splitlines(), "```"]
    assert document["text"].splitlines()[:6] == lines
    assert warnings == []


@pytest.mark.parametrize(
    ("status", "warning"),
    [(500, "answered with HTTP status 500"), (307, "answered with HTTP status 307"), (204, None)],
)
def test_an_http_error_is_one_warning(
    receiver: Receiver, report: Report, warnings: list[str], status: int, warning: str | None
) -> None:
    receiver.status = status
    notify(webhook(receiver), report)
    assert warnings == ([f"no message was sent: {receiver.address} {warning}"] if warning else [])
    assert len(receiver.documents) == 1  # a redirect is not followed


def test_a_slow_receiver_is_one_warning(
    receiver: Receiver, report: Report, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "SECONDS", 0.2)
    receiver.delay = 2
    notify(webhook(receiver), report)
    assert warnings == [f"no message was sent: {receiver.address} did not answer within 0.2 s"]


def test_a_receiver_that_is_down_is_one_warning(report: Report, warnings: list[str]) -> None:
    notify(Notify.model_validate({"on": ["promoted"], "webhook": f"http://127.0.0.1:9/{SECRET}"}), report)
    assert warnings == ["no message was sent: http://127.0.0.1:9 cannot be reached (ConnectError)"]


def test_a_missing_address_is_one_warning(report: Report, warnings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_HOOK", raising=False)
    notify(Notify.model_validate({"on": ["promoted"], "webhook": {"env": "MY_HOOK"}}), report)
    assert warnings == ["no message was sent: notify.webhook: expected an https address in $MY_HOOK, which is not set"]


def test_a_block_of_prefect_gets_the_text(receiver: Receiver, report: Report, warnings: list[str]) -> None:
    block = CustomWebhookNotificationBlock(
        name="hook", url=f"{receiver.address}/{SECRET}", json_data={"subject": "{{subject}}", "body": "{{body}}"}
    )
    block.save("kd-hook", overwrite=True)
    settings = Notify.model_validate({"on": ["promoted"], "block": "custom-webhook/kd-hook"})
    notify(settings, report)
    (document,) = receiver.documents
    assert document["subject"] == "small: promoted"
    assert document["body"].splitlines()[1].startswith("kd becomes the first champion. <All> requirements")
    receiver.status = 500
    notify(settings, report)
    assert warnings == ["no message was sent: the block custom-webhook/kd-hook failed with HTTPStatusError"]


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(
    ("block", "warning"),
    [
        ("custom-webhook/none", "notify.block: the Prefect server has no block custom-webhook/none"),
        ("webhook/kd-plain", "notify.block: webhook/kd-plain is not a notification block"),
    ],
)
def test_another_block_is_one_warning(report: Report, warnings: list[str], block: str, warning: str) -> None:
    from prefect.blocks.webhook import Webhook

    Webhook(url="http://127.0.0.1:9/x").save("kd-plain", overwrite=True)
    notify(Notify.model_validate({"on": ["promoted"], "block": block}), report)
    assert warnings == [f"no message was sent: {warning}"]


@pytest.mark.parametrize(
    ("verdict", "failed", "expected"),
    [
        ({"promoted": True, "accepted": True}, False, ["promoted"]),
        ({"promoted": True, "accepted": True}, True, ["promoted", "failed"]),
        ({"promoted": False, "accepted": True, "pending": 2}, False, ["pending"]),
        ({"promoted": False, "accepted": False}, True, ["refused", "failed"]),
        ({"promoted": False, "accepted": True, "already_champion": True}, False, []),
    ],
)
def test_the_events_of_a_comparison(
    new_outcome: Callable[..., Outcome], verdict: dict[str, bool | int], failed: bool, expected: list[str]
) -> None:
    assert list(events(new_outcome(verdict, failed))) == expected


@pytest.fixture
def new_outcome(student: StudentReference) -> Callable[..., Outcome]:
    def new_outcome(verdict: dict[str, bool | int], failed: bool) -> Outcome:
        other = student.model_copy(update={"status": "FAILED" if failed else "FINISHED"})
        fields = {
            "already_champion": False,
            "model": "m",
            "version": 1,
            "reason": "",
            "winner": "kd",
        }
        return Outcome.model_validate(
            {
                "experiment": "small",
                "parent_run_id": "1",
                "teacher": {"run_id": "2", "reused": False, "metrics": {}},
                "students": [student, other],
                "notes": [],
                "verdict": {**fields, "evidence": {}, "test_accuracy": {}, **verdict},
                "seconds": {},
            }
        )

    return new_outcome
