"""The decision whether the winner of a comparison becomes the champion, the model that is served.

The gate, a set of rules, compares the winner with its control, the teacher and the current champion on the test split.
This module computes decisions from measurements, and neither reads nor writes the MLflow store. Its caller,
`tasks/promote_student.py`, first decides everything for which no test split is needed. Then it measures the networks,
calls `judge`, and carries out the decision.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np

from kdmodels.evaluation.candidate import Candidate
from kdmodels.evaluation.gate import ONLY_LOOK, Verdict, decide, decide_on_control
from kdmodels.evaluation.looks import Look
from kdmodels.experiment import Promote
from tasks import tracking
from tasks.held_out import Outcomes
from tasks.references import LeaderboardReference, StudentReference

FEW = 100  # a promotion needs this many test examples that are not copies, or half the split if it is small


@dataclass(frozen=True)
class PromoteOptions:
    """The user's options for a promotion, in addition to the rules of the experiment file.

    Attributes:
        by_name: Whether the user named the student to promote. A student that was rolled back can become the champion
            again only if the user names it. If a named student is refused, its control is not promoted instead.
        force: The user's reason for promoting the student even if the gate refuses. The reason is recorded on the
            model version. `None` if the promotion is not forced.
        dry_run: Whether this is a dry run. A dry run promotes nothing and records no results, but it counts as a use
            of the test split.
    """

    by_name: bool = False
    force: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class Request:
    """A request to make a student the champion, with the rules that apply.

    Attributes:
        champion: The version that the student would replace. `None` if the model has no champion.
    """

    leaderboard: LeaderboardReference
    promote: Promote
    champion: tracking.Version | None
    options: PromoteOptions

    @cached_property
    def finished(self) -> dict[str, StudentReference]:
        """The finished students, by variant."""
        return {student.variant: student for student in self.leaderboard.students if student.finished}

    @property
    def winner(self) -> StudentReference:
        """The student that is a candidate for the promotion."""
        return self.finished[self.leaderboard.winner]

    @property
    def run_id(self) -> str:
        """The id of the winner's run."""
        assert self.winner.run_id is not None
        return self.winner.run_id

    @property
    def is_champion(self) -> bool:
        """Whether the winner is the champion already."""
        return self.champion is not None and self.champion.run_id == self.run_id

    def for_student(self, variant: str) -> "Request":
        """Return the same request for another student of the comparison."""
        return replace(self, leaderboard=self.leaderboard.model_copy(update={"winner": variant}))

    @property
    def reported(self) -> list[StudentReference]:
        """The students whose test accuracy is reported: the winner, its control, and those in `promote.report`."""
        names = dict.fromkeys([self.winner.variant, self.winner.control or "", *self.promote.report])
        return [self.finished[name] for name in names if name in self.finished]


@dataclass(frozen=True)
class Settlement:
    """The part of a decision that is made before the test split is read.

    Attributes:
        reason: The reason for refusing a promotion, whatever the test split shows. `None` if there is no such reason.
        rival: The champion that the winner is compared with. `None` if the winner is compared with no champion.
    """

    reason: str | None = None
    rival: tracking.Version | None = None


@dataclass(frozen=True, eq=False)
class Examples:
    """The choice of the test examples on which the networks are judged. Copies of training images are left out.

    Attributes:
        kept: Whether each test example is judged, (N,) bool.
        copies: Number of test examples that are copies of images on which a model was trained or validated.
        note: Sentences for the user about the examples that are left out. Each sentence begins with a space. Empty if
            there is nothing to report.
        refusal: The reason for refusing a promotion because too few examples can be judged. `None` if there are enough
            examples.
    """

    kept: np.ndarray
    copies: int = 0
    note: str = ""
    refusal: str | None = None


@dataclass(frozen=True)
class SplitRecord:
    """The facts about the test split that are recorded with a verdict.

    Attributes:
        digest: Digest of the split's content.
        changed: Whether the champion was promoted on a different test split.
        reads: Number of times that the split was read for this comparison.
        copies: Number of test examples that are copies of training or validation images, see `Examples`.
    """

    digest: str
    changed: bool
    reads: int
    copies: int


@dataclass(frozen=True, eq=False)
class Measurements:
    """The measurements on the test examples that are judged.

    Attributes:
        candidates: The measured students by variant, see `Request.reported`.
        rival: The champion that the winner is compared with. `None` if the winner is compared with no champion.
        look: The number of this comparison among all comparisons with a champion on this test split. `None` if the
            winner is compared with no champion.
    """

    candidates: dict[str, Candidate]
    rival: Candidate | None
    look: Look | None
    examples: Examples
    test: SplitRecord


@dataclass(frozen=True)
class Judgement:
    """The decision about a request for a promotion.

    Attributes:
        verdict: The verdict on the winner. If the winner's control is promoted instead, the verdict on the control.
        accepted: Whether a student is promoted, its promotion waits for a person, or the winner is already the champion
            and still meets all requirements.
        forced: The user's reason for forcing the promotion. `None` if the promotion was not forced.
        pending: The version that waits until a person approves its promotion. `None` if no promotion waits.
    """

    verdict: Verdict
    accepted: bool
    forced: str | None = None
    pending: int | None = None


def judge(request: Request, settlement: Settlement, measurements: Measurements) -> Judgement:
    """Decide whether the winner becomes the champion, and give the reason.

    If there is no champion, and the winner is refused because it is worse than its control, the control can become the
    champion instead. The control is not promoted if the user named the student or forced the promotion.

    Args:
        request: The request to make the winner the champion.
        settlement: The part of the decision that was made before the test split was read.
        measurements: The measurements on the test split.
    """
    winner, promote, look = request.winner, request.promote, measurements.look
    control = measurements.candidates.get(winner.control or "")
    verdict = decide(
        measurements.candidates[winner.variant],
        control,
        measurements.rival,
        margin=promote.margin,
        require=promote.require,
        look=look or ONLY_LOOK,
    )
    if control and verdict.worse_than_control and _may_promote_control(request, measurements):
        verdict = decide_on_control(verdict, control, margin=promote.margin, require=promote.require)
    meets_requirements = not verdict.unmet
    verdict = _with_other_reasons(request, settlement, measurements, verdict)
    if look and look.of != promote.looks:
        note = f" promote.looks is now {promote.looks}, but this test split keeps its first value, {look.of}."
        verdict = replace(verdict, reason=verdict.reason + note)
    force = request.options.force
    if force and not (verdict.promoted or request.is_champion):
        reason = f"{winner.variant} is promoted by force: {force}. The gate said: {verdict.reason}"
        return Judgement(replace(verdict, promoted=True, reason=reason), accepted=True, forced=force)
    return Judgement(verdict, accepted=verdict.promoted or (request.is_champion and meets_requirements))


def judged_examples(winner: str, outcomes: Outcomes, rival: str, rival_outcomes: Outcomes | None) -> Examples:
    """Choose the test examples that are judged.

    A test example is left out if it is a copy of an image that the winner or the rival was trained or validated on.
    The rival is the champion that the winner is compared with.

    Args:
        winner: Name of the winner, for the note and the refusal.
        outcomes: The predictions of the winner on the test split.
        rival: Name of the rival, for the note and the refusal.
        rival_outcomes: The predictions of the rival on the test split. `None` if there is no rival.
    """
    total, models, note = len(outcomes.labels), winner, ""
    seen = np.zeros(total, dtype=bool) if outcomes.seen is None else outcomes.seen
    if rival_outcomes is not None:
        models = f"{winner} or {rival}"
        if rival_outcomes.seen is None:
            note = f" It is not known whether {rival} was trained on some of the test images."
        else:
            seen = seen | rival_outcomes.seen
    copies = int(seen.sum())
    if not copies:
        return Examples(~seen, note=note)
    remaining = total - copies
    copies_of = f"copies of images that {models} was trained or validated on"
    if remaining < min(FEW, total / 2):
        refusal = (
            f"{winner} is not promoted: {copies} of {total} test images are {copies_of}, and the other {remaining} are "
            "too few. Allowed: other test images, or kd promote --force --reason TEXT."
        )
        return Examples(np.ones(total, dtype=bool), copies, note, refusal)
    return Examples(~seen, copies, f"{note} {copies} of {total} test images were left out: they are {copies_of}.")


def reason_of_missing_classes(winner: str, champion: str, known: Sequence[str], needed: Sequence[str]) -> str | None:
    """Return a refusal if the champion cannot be compared, because the data lack some of the champion's classes.

    If the data have all classes of the champion, return `None`.

    Args:
        winner: Name of the winner, for the refusal.
        champion: Name of the champion, for the refusal.
        known: The classes that the champion can predict.
        needed: The classes that the data have.
    """
    missing = [name for name in known if name not in needed]
    if not missing:
        return None
    new = [name for name in needed if name not in known]
    return (
        f"{winner} does not replace {champion}: the champion knows classes that the data do not have "
        f"({_quoted(missing)}), and the data have classes that it does not know ({_quoted(new) or 'none'}). "
        "If a class was renamed or merged, every such example would count against the champion. Allowed: the old "
        "class names, another promote.model, or kd promote --force --reason TEXT."
    )


def name_of(champion: tracking.Version) -> str:
    """Return the name by which the text of a decision refers to a champion."""
    return f"the champion, version {champion.version}"


def _may_promote_control(request: Request, measurements: Measurements) -> bool:
    """Return whether the winner's control may be promoted instead of the winner."""
    is_chosen_by_user = request.options.by_name or request.options.force is not None
    return request.champion is None and not is_chosen_by_user and measurements.examples.refusal is None


def _with_other_reasons(
    request: Request, settlement: Settlement, measurements: Measurements, verdict: Verdict
) -> Verdict:
    """Return the final verdict: the gate's verdict, unless a reason outside the gate rules out a promotion.

    The promotion is ruled out if the settlement has a reason, or if too few test examples can be judged. Facts about
    the test split are added to the evidence.
    """
    evidence = verdict.evidence | {"test": asdict(measurements.test)}
    if settlement.reason:
        reason = settlement.reason
        if request.is_champion and verdict.unmet:
            reason = f"{reason}, but it does not meet the requirements: {verdict.unmet}"
        return replace(verdict, promoted=False, reason=reason, evidence=evidence)
    if measurements.examples.refusal:
        return replace(verdict, promoted=False, reason=measurements.examples.refusal, evidence=evidence)
    note = measurements.examples.note
    if settlement.rival and measurements.test.changed:
        note += f" The test split is not the one on which {name_of(settlement.rival)} was promoted."
    return replace(verdict, reason=verdict.reason + note, evidence=evidence)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
