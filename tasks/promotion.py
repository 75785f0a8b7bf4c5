"""promote_student: the gate between a winner and the registry."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from kdmodels.errors import UserError
from kdmodels.experiment import Promote
from kdmodels.gate import ONLY_LOOK, Candidate, Rule, Verdict, broken_budgets, decide
from kdmodels.looks import Look, pair_of
from tasks import tracking
from tasks.data import load
from tasks.held_out import (
    HeldOut,
    Outcomes,
    candidate,
    champion_outcomes,
    classes_of,
    keep_trained,
    require_comparable,
    student_outcomes,
    teacher_outcomes,
)
from tasks.plan import flatten
from tasks.references import DataReference, LeaderboardReference, StudentReference, VerdictReference
from tasks.restored import served_champion
from tasks.results import NETWORK, VERDICT
from tasks.steps import alone

FEW = 100  # test examples that have to remain if most were left out


@task(cache_policy=NO_CACHE)
def promote_student(
    leaderboard: LeaderboardReference,
    promote: Promote,
    data: DataReference,
    *,
    code: Collection[str],
    asked: bool = False,
    force: str | None = None,
    dry_run: bool = False,
) -> VerdictReference:
    """Read the test split for the winner, its control, the champion and the reported variants, and let the gate decide.

    The verdict and its evidence are recorded on the comparison, and on the model version when there is one.

    Args:
        code: the modules that the user named, whose code a stored network may run.
        asked: a person named this student, so that even one that was rolled back may be the champion again.
        force: why a person wants this student promoted though the gate refuses; it is recorded on the version.
        dry_run: promote and record nothing, but count looks at the test split and how often it was read.

    Raises:
        UserError: the champion was not made by kdflow, or takes other images.
    """
    tracking.configure()
    with alone(f"model {promote.model}"):  # from what the gate sees to the alias that it sets
        test = HeldOut(data, leaderboard.parent_run_id, code, record=not dry_run)
        request = Request(leaderboard, promote, test, asked, force, tracking.champion(promote.model))
        if request.champion and request.is_champion and not dry_run:
            request = replace(request, champion=served_champion(request.champion, load(data), code))
        return _answered(request)


@dataclass(frozen=True)
class Request:
    """A student that is to become the champion, the rules, and how that was asked for.

    `champion` is the version that it would replace; None: the model has none. The other fields are those of
    `promote_student`.
    """

    leaderboard: LeaderboardReference
    promote: Promote
    test: HeldOut
    asked: bool
    force: str | None
    champion: tracking.Version | None

    @cached_property
    def finished(self) -> dict[str, StudentReference]:
        """By variant, the students that finished."""
        students = self.leaderboard.students
        return {student.variant: student for student in students if student.status == "FINISHED"}

    @property
    def best(self) -> StudentReference:
        """The student that is to be promoted."""
        return self.finished[self.leaderboard.winner]

    @property
    def run_id(self) -> str:
        """The run of that student."""
        assert self.best.run_id is not None
        return self.best.run_id

    @property
    def is_champion(self) -> bool:
        """Whether that student is the champion already."""
        return self.champion is not None and self.champion.run_id == self.run_id

    @property
    def read(self) -> list[StudentReference]:
        """The students whose test accuracy is reported: the winner, its control, and those that the file names."""
        names = dict.fromkeys([self.best.variant, self.best.control, *self.promote.report])
        return [self.finished[name] for name in names if name in self.finished]

    @property
    def dry_run(self) -> bool:
        """Whether the gate is only asked, and nothing is promoted or recorded."""
        return not self.test.record


@dataclass(frozen=True)
class Examples:
    """The test examples that are judged: `kept` (N,) bool.

    copies: how many are copies of images that a model was trained or selected on; they are left out. note: what a
    reader should know of them. refusal: why the rest cannot decide about a promotion; None: they can.
    """

    kept: np.ndarray
    copies: int = 0
    note: str = ""
    refusal: str | None = None


def _answered(request: Request) -> VerdictReference:
    """Settle the request without a comparison, or compare and decide; then apply the verdict."""
    settled, rival = _settled(request)
    look = _take_look(request, rival) if rival else None
    outcomes = {student.variant: student_outcomes(student, request.test) for student in request.read}
    against = champion_outcomes(rival, request.test) if rival else None
    examples = _examples(request, outcomes[request.best.variant], rival, against)
    candidates = _candidates(request, outcomes, examples)
    opponent = candidate(_named(rival), rival, against, request.test, examples.kept) if rival and against else None
    verdict = decide(
        candidates[request.best.variant],
        candidates.get(request.best.control),
        opponent,
        margin=request.promote.margin,
        require=request.promote.require,
        look=look or ONLY_LOOK,
    )
    accepted = request.is_champion and verdict.promoted
    verdict = _explained(request, verdict, settled, examples, rival)
    if look and look.of != request.promote.looks:
        note = f" promote.looks is {request.promote.looks} now; this test split keeps the {look.of} that it began with."
        verdict = replace(verdict, reason=verdict.reason + note)
    forced = request.force if not (verdict.promoted or request.is_champion) else None
    if forced:
        reason = f"{request.best.variant} is promoted by force: {forced}. The gate said: {verdict.reason}"
        verdict = replace(verdict, promoted=True, reason=reason)
    accuracies = {name: float(each.correct.mean()) for name, each in candidates.items()}
    return _applied(request, verdict, accepted, forced, accuracies)


def _settled(request: Request) -> tuple[str | None, tracking.Version | None]:
    """Return why nothing is promoted, whatever test says, or None; and the champion to compare with, or None."""
    model, best, champion = request.promote.model, request.best, request.champion
    if champion is None:
        return None, None
    if request.is_champion:
        return f"already champion: {best.variant} is {model} version {champion.version}", None
    require_comparable(champion, request.test)
    assert champion.run_id is not None
    known, needed = classes_of(champion.run_id), request.test.data.classes
    if missing := [name for name in known if name not in needed]:
        new = [name for name in needed if name not in known]
        return (
            f"{best.variant} does not replace {_named(champion)}: the champion knows classes that the data do not have "
            f"({_quoted(missing)}), and the data have classes that it does not know ({_quoted(new) or 'none'}). "
            "If a class was renamed or merged, every such example would count against the champion. Allowed: the old "
            "class names, another promote.model, or kd promote --force --reason TEXT."
        ), None
    if not (request.asked or request.force) and tracking.is_rolled_back(model, request.run_id):
        told = f"{best.variant} was rolled back; to promote it again: kd promote {request.run_id[:8]}"
        return told, champion if request.dry_run else None  # a dry run shows each rule
    return None, champion


def _take_look(request: Request, champion: tracking.Version) -> Look:
    """Count this comparison, before the test split is read. The same pair on the same split counts once."""
    files = sorted(tracking.artifact(request.run_id, NETWORK).iterdir())
    network = [sha256(file.read_bytes()).hexdigest() for file in files]  # equal if it was trained again, bit for bit
    return tracking.take_look(
        request.promote.model,
        pair_of(network, champion.version, request.test.digest),
        digest=request.test.digest,
        sketch=request.test.sketch,
        looks=request.promote.looks,
    )


def _examples(request: Request, own: Outcomes, rival: tracking.Version | None, against: Outcomes | None) -> Examples:
    """Leave out the test images that the challenger, or the champion, was trained or selected on."""
    total, note = len(own.labels), ""
    seen = np.zeros(total, dtype=bool) if own.seen is None else own.seen
    who = request.best.variant
    if rival is not None and against is not None:
        who = f"{who} or {_named(rival)}"
        if against.seen is None:
            note = f" It is not known whether {_named(rival)} was trained on some of the test images."
        else:
            seen = seen | against.seen
    copies = int(seen.sum())
    if not copies:
        return Examples(~seen, note=note)
    remaining = total - copies
    told = f"copies of images that {who} was trained or validated on"
    if remaining < min(FEW, total / 2):
        refusal = (
            f"{request.best.variant} is not promoted: {copies} of {total} test images are {told}, and the other "
            f"{remaining} are too few. Allowed: other test images, or kd promote --force --reason TEXT."
        )
        return Examples(np.ones(total, dtype=bool), copies, note, refusal)
    return Examples(~seen, copies, f"{note} {copies} of {total} test images were left out: they are {told}.")


def _candidates(request: Request, outcomes: Mapping[str, Outcomes], examples: Examples) -> dict[str, Candidate]:
    """Return the students that are read as the gate sees them, by variant."""
    taught = _taught(request) if request.promote.require.agreement else None
    return {
        student.variant: candidate(
            student.variant, student, outcomes[student.variant], request.test, examples.kept, taught
        )
        for student in request.read
    }


def _explained(
    request: Request, verdict: Verdict, settled: str | None, examples: Examples, rival: tracking.Version | None
) -> Verdict:
    """Return the verdict with all that decides beside the gate, and with what is known of the test split."""
    test = request.test
    before = rival.tags.get("kd.test.digest") if rival else None
    changed = before is not None and before != test.digest
    known = {"digest": test.digest, "changed": changed, "reads": test.reads, "copies": examples.copies}
    evidence = verdict.evidence | {"test": known}
    if settled:
        broken = broken_budgets([Rule(**rule) for rule in verdict.evidence["budgets"]])
        if request.is_champion and broken:
            settled = f"{settled}, but it does not meet the requirements: {broken}"
        return Verdict(False, settled, evidence)
    if examples.refusal:
        return Verdict(False, examples.refusal, evidence)
    note = examples.note
    if rival and changed:
        note += f" The test split is not the one on which {_named(rival)} was promoted."
    return Verdict(verdict.promoted, verdict.reason + note, evidence)


def _applied(
    request: Request, verdict: Verdict, accepted: bool, forced: str | None, accuracies: dict[str, float]
) -> VerdictReference:
    """Set the champion if the verdict says so, record the verdict with the comparison, and return it.

    Args:
        accepted: whether the student is the champion already and meets the requirements.
    """
    model, version = request.promote.model, request.champion.version if request.champion else None
    if (verdict.promoted or request.is_champion) and not request.dry_run:
        keep_trained(request.run_id, request.test)
    if verdict.promoted and not request.dry_run:
        now = tracking.champion(model)
        if (now.version if now else None) == version:
            tags = _tags(verdict.evidence | {"forced": forced})
            registered = tracking.register(model, request.run_id, tags=tags, description=verdict.reason)
            version = tracking.crown(registered).version
        else:  # on another machine, where this one's lock does not hold
            version, reason = now.version if now else None, f"the champion of {model} was changed meanwhile"
            verdict = replace(verdict, promoted=False, reason=f"{reason}; ask again: kd promote {request.run_id[:8]}")
            forced = None
    reference = VerdictReference(
        promoted=verdict.promoted,
        already_champion=request.is_champion,
        accepted=verdict.promoted or accepted,
        model=model,
        version=version,
        reason=verdict.reason,
        winner=request.best.variant,
        evidence=verdict.evidence,
        test_accuracy=accuracies,
        forced=forced,
        dry_run=request.dry_run,
    )
    if not request.dry_run:
        parent = request.leaderboard.parent_run_id
        tracking.log_json(parent, VERDICT, reference.model_dump(mode="json"))
        tracking.set_tags(parent, {"kd.verdict": reference.reason, "kd.promoted": reference.promoted})
    return reference


def _named(champion: tracking.Version) -> str:
    return f"the champion, version {champion.version}"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _taught(request: Request) -> np.ndarray:
    """(N,), the class that the teacher predicts for each test example."""
    if request.leaderboard.teacher_run_id is None:
        raise UserError(
            "promote.require.agreement: the comparison does not say which run its teacher is; kd run it again"
        )
    return teacher_outcomes(request.leaderboard.teacher_run_id, request.test).predicted


def _tags(evidence: dict[str, Any]) -> dict[str, str]:
    return {f"kd.{name}": str(value) for name, value in flatten(evidence).items() if value is not None}
