"""notify: send a message about the end of a comparison to the receiver that the experiment file names.

A failure of the receiver does not change the run. It is logged as one warning, without the address, which is a secret.
"""

import asyncio
import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from html import escape

import httpx
from prefect import task
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from kdmodels.errors import UserError, redacted
from kdmodels.evaluation.ranking import ranked
from kdmodels.experiment import Experiment
from kdmodels.experiment.notify import Event, Notify
from kdmodels.redaction import shown_address
from kdmodels.text import escaped
from tasks import tracking
from tasks.references import Outcome, Reference, StudentReference
from tasks.ui.links import flow_run_url
from tasks.ui.summaries import accuracy

SECONDS = 10.0  # timeout for the receiver's answer


class Links(Reference):
    """The addresses of the MLflow run and of the Prefect run. An address is None if there is no such page."""

    mlflow: str | None
    prefect: str | None


class Message(Reference):
    """A message about the end of a comparison. docs/nightly.md describes its JSON form."""

    event: Event
    experiment: str
    verdict: str
    leaderboard: str
    run_id: str | None
    links: Links

    @property
    def text(self) -> str:
        """The message as text."""
        table = f"```\n{self.leaderboard}\n```" if self.leaderboard else None
        mlflow = self.links.mlflow and f"MLflow: {self.links.mlflow}"
        prefect = self.links.prefect and f"Prefect: {self.links.prefect}"
        return "\n".join(filter(None, [f"{self.experiment}: {self.event}", self.verdict, table, mlflow, prefect]))


class Report(Reference):
    """The facts about the end of a comparison, from which the message is made.

    Attributes:
        verdict: The verdict of the promotion gate, or the error of a failed comparison.
        students: The rows of the leaderboard. Empty if the comparison failed.
        run_id: The id of the comparison's run. `None` if the comparison failed before the run was created.
    """

    event: Event
    experiment: str
    verdict: str
    students: list[StudentReference]
    run_id: str | None

    def message(self) -> Message:
        """Return the message, without secrets and control characters."""
        return Message(
            event=self.event,
            experiment=self.experiment,
            verdict=escaped(redacted(" ".join(self.verdict.split()))),
            leaderboard=leaderboard_text(self.students),
            run_id=self.run_id,
            links=Links(mlflow=tracking.run_url(self.run_id) if self.run_id else None, prefect=flow_run_url()),
        )


def report_end(outcome: Outcome, settings: Notify | None) -> None:
    """Send a message about a comparison that has ended, if the experiment file asks for it."""
    event = next((event for event in events(outcome) if settings and event in settings.on), None)
    if settings and event:
        failed = [f"{each.variant}: {each.error or each.status}" for each in outcome.students if not each.finished]
        verdict = " ".join([outcome.verdict.reason, *(["Failed:", "; ".join(failed)] if failed else [])])
        report = Report(
            event=event,
            experiment=outcome.experiment,
            verdict=verdict,
            students=outcome.students,
            run_id=outcome.parent_run_id,
        )
        notify(settings, report)


def report_failure(error: Exception, experiment: Experiment) -> None:
    """Send a message about a comparison that has failed, if the experiment file asks for it."""
    if experiment.notify is None or "failed" not in experiment.notify.on:
        return
    with suppress(Exception):  # the flow raises the comparison's error, not an error of this function
        outage = tracking.outage(error)
        run = None if outage else tracking.find_by_flow_run(str(flow_run.get_id()))
        problem = outage or (error if isinstance(error, UserError) else f"{type(error).__name__}: {error}")
        report = Report(
            event="failed",
            experiment=experiment.name,
            verdict=str(problem),
            students=[],
            run_id=run.run_id if run else None,
        )
        notify(experiment.notify, report)


def events(outcome: Outcome) -> Iterator[Event]:
    """Yield the events of a comparison that has ended, the most important first.

    A comparison has no event if its winner is already the champion and still meets the requirements.
    """
    if outcome.verdict.promoted:
        yield "promoted"
    elif outcome.verdict.pending:
        yield "pending"
    elif not outcome.verdict.accepted:
        yield "refused"
    if not all(student.finished for student in outcome.students):
        yield "failed"


def leaderboard_text(students: Sequence[StudentReference]) -> str:
    """Return the ranked students as lines of text. Students that did not finish come last.

    >>> kd = StudentReference(
    ...     variant="kd", run_id="1", status="FINISHED", reused=False, seeds=[0, 1], parameters=10, per_seed={},
    ...     metrics={"val/accuracy": 0.9722, "val/accuracy/std": 0.004},
    ... )
    >>> print(leaderboard_text([kd.model_copy(update={"variant": "hint", "status": "FAILED"}), kd]))
    1  kd    validation accuracy 97.22 ± 0.40 %
    -  hint  failed
    """
    width = max((len(student.variant) for student in students), default=0)
    finished = [
        f"{rank}  {student.variant:{width}}  {accuracy(student.metrics)}"
        for rank, student in enumerate(ranked(students), 1)
    ]
    others = [f"-  {each.variant:{width}}  {each.status.lower()}" for each in students if not each.finished]
    return "\n".join([*finished, *others])


@task(task_run_name="notify {report.event}", cache_policy=NO_CACHE)
def notify(settings: Notify, report: Report) -> None:
    """Send a message. If that fails, log a warning."""
    receiver = f"the block {settings.block}" if settings.block else "the webhook"
    try:
        if settings.block:
            _send_to_block(settings.block, report.message())
        else:
            _post(settings.address, report.message())
    except UserError as error:
        get_run_logger().warning(f"no message was sent: {error}")
    except Exception as error:  # the text of the error may contain the address
        get_run_logger().warning(f"no message was sent: {receiver} failed with {type(error).__name__}")


def _post(address: str, message: Message) -> None:
    """Post a message to a webhook. Redirects are not followed, and the answer's body is not read.

    Raises:
        UserError: The receiver does not answer in time, or answers with an HTTP error.
    """
    host = shown_address(address)
    # Slack and Mattermost expect that `&`, `<` and `>` are escaped as in HTML.
    body = message.model_dump(mode="json") | {"text": escape(message.text, quote=False)}
    use_proxy = address.startswith("https:")  # an http address is on this machine, which a proxy cannot reach
    try:
        with (
            _silent_httpx(),
            httpx.Client(timeout=SECONDS, trust_env=use_proxy) as client,
            client.stream("POST", address, json=body) as response,
        ):
            status = response.status_code
    except httpx.TimeoutException as error:
        raise UserError(f"{host} did not answer within {SECONDS:g} s") from error
    except httpx.TransportError as error:
        raise UserError(f"{host} cannot be reached ({type(error).__name__})") from error
    if not 200 <= status < 300:
        raise UserError(f"{host} answered with HTTP status {status}")


@contextmanager
def _silent_httpx() -> Iterator[None]:
    """Keep the receiver's address, a secret, out of the log. At level INFO, httpx logs each address."""
    logger = logging.getLogger("httpx")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _send_to_block(name: str, message: Message) -> None:
    """Send the text of a message to a notification block of the user's Prefect server.

    Raises:
        UserError: The server has no notification block of this name.
    """
    try:
        block = Block.load(name)
    except ValueError as error:
        raise UserError(f"notify.block: the Prefect server has no block {name}") from error
    if not isinstance(block, NotificationBlock):
        raise UserError(f"notify.block: {name} is not a notification block")
    with block.raise_on_failure(), _silent_httpx():
        sending: object = block.notify(message.text, subject=f"{message.experiment}: {message.event}")
        if inspect.iscoroutine(sending):  # the blocks of Prefect itself return None, because no event loop runs here
            asyncio.run(sending)
