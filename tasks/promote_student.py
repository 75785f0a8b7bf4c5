"""promote_student: decide whether the winner of a comparison becomes the champion, the model that is served.

The winner is measured on the test split. The gate, a set of rules, accepts or refuses the winner. A promoted student is
registered. The decision itself is made in `tasks/promotion.py`.
"""

from collections.abc import Collection
from dataclasses import replace
from hashlib import sha256

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from kdmodels.errors import UserError
from kdmodels.evaluation.looks import Look, pair_of
from kdmodels.experiment import Experiment
from tasks import tracking
from tasks.execution.team_locks import team_exclusive
from tasks.held_out import (
    HeldOut,
    candidate,
    champion_outcomes,
    classes_of,
    keep_trained,
    require_comparable,
    student_outcomes,
    teacher_outcomes,
)
from tasks.legacy_models import served_champion
from tasks.measure_metrics import metrics_to_measure
from tasks.model_cards import describe_version, record_evidence, version_tags
from tasks.prepare_data import load
from tasks.promotion import (
    Judgement,
    Measurements,
    PromoteOptions,
    Request,
    Settlement,
    SplitRecord,
    judge,
    judged_examples,
    name_of,
    reason_of_missing_classes,
)
from tasks.references import DataReference, LeaderboardReference, VerdictReference
from tasks.results import NETWORK, VERDICT
from tasks.tracking.tags import Tag

NO_OPTIONS = PromoteOptions()


@task(task_run_name="promote_student {experiment.promote.model}", cache_policy=NO_CACHE)
def promote_student(
    leaderboard: LeaderboardReference,
    experiment: Experiment,
    data: DataReference,
    *,
    code: Collection[str],
    options: PromoteOptions = NO_OPTIONS,
) -> VerdictReference:
    """Measure the winner on the test split, and promote it if the gate accepts it.

    The winner's control, the champion and the reported variants are measured too. If there is no champion, and the
    winner is worse than its control, the control can be promoted instead. The verdict and its evidence are recorded
    with the comparison. If a student is registered, the verdict and the evidence are also recorded with the student's
    run and its model version.

    Args:
        code: The modules and files whose code the user allows to run. A stored network may need them.

    Raises:
        UsageError: a requirement bounds a metric whose code the user does not allow to run.
        UserError: the champion was not made by kdflow, or takes images of another shape.
    """
    tracking.configure()
    promote = experiment.promote
    with team_exclusive(f"model {promote.model}"):  # held until the alias is set, so that the champion cannot change
        metrics = metrics_to_measure(experiment, code)
        test = HeldOut(data, leaderboard.parent_run_id, code, record=not options.dry_run, metrics=metrics)
        request = Request(leaderboard, promote, tracking.champion(promote.model), options)
        if request.champion and request.is_champion and not options.dry_run:
            request = replace(request, champion=served_champion(request.champion, load(data), code))
        settlement = _settle(request, test)
        measurements = _measure(request, settlement.rival, test)
        judgement = judge(request, settlement, measurements)
        return _apply(request.for_student(judgement.verdict.name), judgement, measurements, test)


def _settle(request: Request, test: HeldOut) -> Settlement:
    """Check whether the promotion is refused without the test split, and choose the champion to compare with."""
    model, winner, champion = request.promote.model, request.winner, request.champion
    reason = _reason_of_earlier_decision(request)
    if champion is None:
        return Settlement(reason)
    if request.is_champion:
        return Settlement(f"already champion: {winner.variant} is {model} version {champion.version}")
    require_comparable(champion, test)
    assert champion.run_id is not None
    missing = reason_of_missing_classes(
        winner.variant, name_of(champion), classes_of(champion.run_id), test.data.classes
    )
    if missing:
        return Settlement(missing)
    if reason:
        # A dry run still compares the winner with the champion, to show the result of each rule.
        return Settlement(reason, champion if request.options.dry_run else None)
    return Settlement(rival=champion)


def _reason_of_earlier_decision(request: Request) -> str | None:
    """Return why the winner is not promoted again after it was rolled back or rejected.

    If the winner was neither rolled back nor rejected, or the user named it or forces the promotion, return None.
    """
    if request.options.by_name or request.options.force:
        return None
    model, run_id = request.promote.model, request.run_id
    again = f"{request.winner.variant} was {{}}; to promote it again: kd promote {run_id[:8]}"
    if tracking.is_rolled_back(model, run_id):
        return again.format("rolled back")
    if tracking.is_marked(model, run_id, Tag.REVIEW, "rejected"):
        return again.format("rejected by a reviewer")
    return None


def _measure(request: Request, rival: tracking.Version | None, test: HeldOut) -> Measurements:
    """Measure the reported students and the rival on the test split. First, count this use of the split.

    The rival is the champion that the winner is compared with.
    """
    look = _take_look(request, rival, test) if rival else None
    outcomes = {student.variant: student_outcomes(student, test) for student in request.reported}
    rival_outcomes = champion_outcomes(rival, test) if rival else None
    rival_name = name_of(rival) if rival else ""
    winner = request.winner.variant
    examples = judged_examples(winner, outcomes[winner], rival_name, rival_outcomes)
    teacher_classes = _teacher_classes(request, test) if request.promote.require.agreement else None
    candidates = {
        student.variant: candidate(
            student.variant, student, outcomes[student.variant], test, examples.kept, teacher_classes
        )
        for student in request.reported
    }
    opponent = None
    if rival and rival_outcomes:
        opponent = candidate(rival_name, rival, rival_outcomes, test, examples.kept)
    promoted_on = rival.tags.get(Tag.TEST_DIGEST) if rival else None
    changed = promoted_on is not None and promoted_on != test.digest
    split = SplitRecord(digest=test.digest, changed=changed, reads=test.reads, copies=examples.copies)
    return Measurements(candidates, opponent, look, examples, split)


def _take_look(request: Request, champion: tracking.Version, test: HeldOut) -> Look:
    """Count this comparison as a look at the test split, before the split is read.

    A look is one use of the test split to compare a winner with a champion. Repeated comparisons of the same two models
    on the same split count once.
    """
    files = sorted(tracking.artifact(request.run_id, NETWORK).iterdir())
    # A retrained network with identical weights counts as the same network.
    network = [sha256(file.read_bytes()).hexdigest() for file in files]
    return tracking.take_look(
        request.promote.model,
        pair_of(network, champion.version, test.digest),
        digest=test.digest,
        sketch=test.sketch,
        looks=request.promote.looks,
    )


def _teacher_classes(request: Request, test: HeldOut) -> np.ndarray:
    """Return the class that the teacher predicts for each test example: (N,)."""
    if request.leaderboard.teacher_run_id is None:
        raise UserError(
            "promote.require.agreement: the comparison does not say which run its teacher is; kd run it again"
        )
    return teacher_outcomes(request.leaderboard.teacher_run_id, test).predicted


def _apply(request: Request, judgement: Judgement, measurements: Measurements, test: HeldOut) -> VerdictReference:
    """If the verdict promotes the student, make the student the champion. Record and return the verdict.

    Args:
        request: The request for the student that the verdict is about.
    """
    version = request.champion.version if request.champion else None
    if (judgement.verdict.promoted or request.is_champion) and not request.options.dry_run:
        keep_trained(request.run_id, test)
    if judgement.verdict.promoted and not request.options.dry_run:
        version, judgement = _register(request, judgement, measurements, test)
    verdict = judgement.verdict
    reference = VerdictReference(
        promoted=verdict.promoted,
        already_champion=request.is_champion,
        accepted=judgement.accepted,
        model=request.promote.model,
        version=version,
        reason=verdict.reason,
        winner=request.winner.variant,
        evidence=verdict.evidence,
        test_accuracy={name: float(each.correct.mean()) for name, each in measurements.candidates.items()},
        forced=judgement.forced,
        dry_run=request.options.dry_run,
        pending=judgement.pending,
    )
    if not request.options.dry_run:
        parent = request.leaderboard.parent_run_id
        tracking.log_json(parent, VERDICT, reference.model_dump(mode="json"))
        tracking.set_tags(parent, {Tag.VERDICT: reference.reason, Tag.PROMOTED: reference.promoted})
    return reference


def _register(
    request: Request, judgement: Judgement, measurements: Measurements, test: HeldOut
) -> tuple[int | None, Judgement]:
    """Register the student, and make it the champion or let it wait for a person's approval.

    The evidence is stored with the student's run, and the version is described by a model card.

    If another machine has changed the champion in the meantime, refuse the promotion. Such a change is possible if this
    process has lost the lock around the promotion, see `tasks.execution.team_locks`.

    Returns:
        The version of the champion after the promotion, and the final judgement.
    """
    model, verdict = request.promote.model, judgement.verdict
    champion = tracking.champion(model)
    current = champion.version if champion else None
    if current != (request.champion.version if request.champion else None):
        reason = f"the champion of {model} was changed in the meantime; try again with: kd promote {request.run_id[:8]}"
        return current, Judgement(replace(verdict, promoted=False, reason=reason), accepted=False)
    record_evidence(request, judgement)
    tags = version_tags(request, judgement, measurements)
    registered = tracking.register(model, request.run_id, tags=tags, description=verdict.reason)
    describe_version(registered, request, judgement, measurements, test)
    if not request.promote.approval:
        return tracking.set_champion(registered).version, judgement
    tracking.propose(registered)
    number = registered.version
    reason = f"{model} version {number} waits for approval (kd approve {model}, kd reject {model}). {verdict.reason}"
    return current, replace(judgement, verdict=replace(verdict, promoted=False, reason=reason), pending=number)
