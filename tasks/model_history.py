"""The history of a registered model: its versions, its promotion decisions, and the number of looks at test splits.

A look at a test split is one comparison of a network with the champion on this split.

This module imports neither torch nor prefect, so that `kd history` starts quickly.
"""

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from tasks import results, tracking
from tasks.references import GeneratorVerdict, VerdictReference
from tasks.results import ACCURACY, VERDICT
from tasks.tracking.tags import Tag


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DecisionLine(_Line):
    """A decision of the promotion gate about a model.

    Attributes:
        started: The start of the comparison or generation in UTC, in ISO 8601 format.
        comparison: The id of the run of the comparison or generation.
        winner: The student that the decision is about, or "generator".
        validation_accuracy: The highest mean validation accuracy of the comparison, from 0 to 1.
        test_accuracy: The winner's accuracy on the test split, from 0 to 1. `None` for a generator, or if the split was
            not needed.
        decision: `promoted`, `champion already`, `waits for approval` or `refused`.
        champion: The version that is the champion after the decision. `None` if there is no champion.
        reason: The decision in words.
    """

    started: str
    comparison: str
    winner: str
    validation_accuracy: float | None
    test_accuracy: float | None
    decision: str
    champion: int | None
    reason: str


class VersionLine(_Line):
    """A version of a model.

    Attributes:
        aliases: The aliases of the version, e.g. `champion`.
        run_id: The id of the run that made the model. `None` if kdflow did not make the model.
        promoted: The start of the latest comparison that promoted the version. `None` if no such comparison is
            recorded.
    """

    version: int
    aliases: list[str]
    run_id: str | None
    promoted: str | None


class LooksLine(_Line):
    """The number of looks at one test split. A look is one comparison of a network with the champion.

    Attributes:
        test_split: The beginning of the split's digest.
        looks: The number of looks so far.
        of: The planned number of looks.
    """

    test_split: str
    looks: int
    of: int


class History(_Line):
    """The history of a model. In `decisions`, the oldest comes first. In `versions`, the newest comes first."""

    model: str
    decisions: list[DecisionLine]
    versions: list[VersionLine]
    looks: list[LooksLine]


def read_history(model: str) -> History:
    """Return the history of a registered model.

    Raises:
        UserError: the model does not exist.
    """
    tracking.configure()
    versions = tracking.versions(model)
    comparisons = [
        run
        for kind in tracking.PARENTS
        for run in reversed(tracking.runs(kind=kind, limit=results.ALL))
        if run.params.get("promote.model") == model
        and Tag.IMPORTED not in run.tags  # the decision was about a model in another store
        and tracking.has_artifact(run.run_id, VERDICT)
    ]
    decisions = [_decision(run) for run in comparisons]
    promoted = {line.champion: line.started for line in decisions if line.decision == "promoted"}
    return History(
        model=model,
        decisions=decisions,
        versions=[
            VersionLine(
                version=each.version,
                aliases=sorted(each.aliases),
                run_id=each.run_id,
                promoted=promoted.get(each.version),
            )
            for each in versions
        ],
        looks=[LooksLine(test_split=each.name, looks=len(each.pairs), of=each.of) for each in tracking.ledgers(model)],
    )


def _decision(run: tracking.Run) -> DecisionLine:
    recorded = tracking.read_json(run.run_id, VERDICT)
    if run.kind == "generation":
        return _decision_on_generator(run, GeneratorVerdict.model_validate(recorded))
    verdict = VerdictReference.model_validate(recorded)
    return DecisionLine(
        started=_started(run),
        comparison=run.run_id,
        winner=verdict.winner,
        validation_accuracy=run.metrics.get(ACCURACY),
        test_accuracy=verdict.test_accuracy.get(verdict.winner),
        decision=_in_words(verdict),
        champion=verdict.version,
        reason=verdict.reason,
    )


def _decision_on_generator(run: tracking.Run, verdict: GeneratorVerdict) -> DecisionLine:
    return DecisionLine(
        started=_started(run),
        comparison=run.run_id,
        winner="generator",
        validation_accuracy=None,
        test_accuracy=None,
        decision=_in_words(verdict),
        champion=verdict.version,
        reason=verdict.reason,
    )


def _started(run: tracking.Run) -> str:
    return datetime.fromtimestamp(run.start / 1000, UTC).isoformat(timespec="seconds")


def _in_words(verdict: VerdictReference | GeneratorVerdict) -> str:
    if verdict.promoted:
        return "promoted"
    if isinstance(verdict, VerdictReference) and verdict.pending:
        return "waits for approval"
    return "champion already" if verdict.already_champion else "refused"
