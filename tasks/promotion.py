"""promote_student: the only reader of the test split, and the gate between a winner and the registry."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from prefect import task
from prefect.cache_policies import NO_CACHE

from kdmodels.costs import P50
from kdmodels.data import Split
from kdmodels.device import find_device
from kdmodels.errors import UserError
from kdmodels.evaluation import BATCH, by_class, confidences, macro, predict
from kdmodels.experiment import Promote
from kdmodels.gate import Candidate, Verdict, decide
from kdmodels.losses import ensemble_logits
from kdmodels.networks import Description, load_network, read_description
from kdmodels.statistics import expected_calibration_error
from tasks import runs, tracking
from tasks.costs import measured
from tasks.data import load
from tasks.plan import flatten
from tasks.references import DataReference, LeaderboardReference, StudentReference, VerdictReference
from tasks.results import NETWORK, SIZE, VERDICT
from tasks.steps import alone

TESTED = "kd.test_digest"  # the tag that says of which test split a run's figures on test are
READS = "kd.test_reads"  # a comparison's: how many times its promotion opened the test split
UNKNOWN = -1  # a class that an older champion knows and the data no longer have


@dataclass(frozen=True)
class HeldOut:
    """The test split, opened when it is first asked for; the comparison counts how often that was."""

    data: DataReference
    comparison: str

    @cached_property
    def split(self) -> Split:
        tracking.set_tags(self.comparison, {READS: self.reads + 1})
        return load(self.data).read_test()

    @property
    def reads(self) -> int:
        return int(tracking.get(self.comparison).tags.get(READS, 0))

    @property
    def digest(self) -> str:
        return load(self.data).split_digests["test"]


@task(cache_policy=NO_CACHE)
def promote_student(
    leaderboard: LeaderboardReference,
    promote: Promote,
    data: DataReference,
    *,
    device: str,
    asked: bool = False,
    force: str | None = None,
    dry_run: bool = False,
) -> VerdictReference:
    """Read the test split for the winner, its control, the champion and the reported variants, and let the gate decide.

    The verdict and its evidence are recorded on the comparison, and on the model version when there is one.

    Args:
        device: the experiment's.
        asked: a person named this student, so that even one that was rolled back may be the champion again.
        force: why a person wants this student promoted though the gate refuses; it is recorded on the version.
        dry_run: promote and record nothing, but for the count of how often test was read.

    Raises:
        UserError: the champion was not made by kdflow, or takes other images.
    """
    tracking.configure()
    with alone(f"model {promote.model}"):  # from what the gate sees to the alias that it sets
        return _judged(leaderboard, promote, HeldOut(data, leaderboard.parent_run_id), device, asked, force, dry_run)


def _judged(
    leaderboard: LeaderboardReference,
    promote: Promote,
    test: HeldOut,
    device: str,
    asked: bool,
    force: str | None,
    dry_run: bool,
) -> VerdictReference:
    finished = {student.variant: student for student in leaderboard.students if student.status == "FINISHED"}
    best = finished[leaderboard.winner]
    assert best.run_id is not None
    read = [finished[name] for name in _read_for(leaderboard, promote) if name in finished]
    champion = tracking.champion(promote.model)
    version = champion.version if champion else None
    already = champion is not None and champion.run_id == best.run_id
    candidates: dict[str, Candidate] = {}
    settled = None
    if already:
        settled = f"already champion: {best.variant} is {promote.model} version {version}"
    elif not (asked or force) and tracking.is_rolled_back(promote.model, best.run_id):
        settled = f"{best.variant} was rolled back; to promote it again: kd promote {best.run_id[:8]}"
    decision = Verdict(False, "", {})
    if dry_run or not settled:  # a dry run shows each rule
        taught = _taught(leaderboard, test, device) if promote.require.agreement else None
        for student in read:
            candidates[student.variant] = _candidate(student, test, device, taught, record=not dry_run)
        decision = _decided(candidates, best, None if already else champion, promote, test)
    if settled:
        decision = replace(decision, promoted=False, reason=settled)
    forced = force if not (decision.promoted or already) else None
    if forced:
        reason = f"{best.variant} is promoted by force: {forced}. The gate said: {decision.reason}"
        decision = replace(decision, promoted=True, reason=reason)
    if decision.promoted and not dry_run:
        now = tracking.champion(promote.model)
        if (now.version if now else None) == version:
            tags = _tags(decision.evidence | {"forced": forced})
            registered = tracking.register(promote.model, best.run_id, tags=tags, description=decision.reason)
            version = tracking.crown(registered).version
        else:  # on another machine, where this one's lock does not hold
            version, reason = now.version if now else None, f"the champion of {promote.model} was changed meanwhile"
            decision = replace(decision, promoted=False, reason=f"{reason}; ask again: kd promote {best.run_id[:8]}")
            forced = None
    verdict = VerdictReference(
        promoted=decision.promoted,
        already_champion=already,
        model=promote.model,
        version=version,
        reason=decision.reason,
        winner=best.variant,
        evidence=decision.evidence,
        test_accuracy={
            student.variant: float(candidates[student.variant].correct.mean())
            if student.variant in candidates
            else _test_accuracy(student, test, device, record=not dry_run)
            for student in read
        },
        forced=forced,
        dry_run=dry_run,
    )
    if not dry_run:
        parent = leaderboard.parent_run_id
        tracking.log_json(parent, VERDICT, verdict.model_dump(mode="json"))
        tracking.set_tags(parent, {"kd.verdict": verdict.reason, "kd.promoted": verdict.promoted})
    return verdict


def _decided(
    candidates: dict[str, Candidate],
    best: StudentReference,
    champion: tracking.Version | None,
    promote: Promote,
    test: HeldOut,
) -> Verdict:
    decision = decide(
        candidates[best.variant],
        candidates.get(best.control),
        _champion_candidate(champion, test) if champion else None,
        margin=promote.margin,
        require=promote.require,
    )
    before = champion.tags.get("kd.test.digest") if champion else None
    changed = before is not None and before != test.digest
    evidence = decision.evidence | {"test": {"digest": test.digest, "changed": changed, "reads": test.reads}}
    told = f" The test split is not the one on which {_named(champion)} was promoted." if champion and changed else ""
    return replace(decision, reason=decision.reason + told, evidence=evidence)


def _read_for(leaderboard: LeaderboardReference, promote: Promote) -> list[str]:
    """The variants for which the test split is read: the winner, its control, and those the file wants reported."""
    controls = [student.control for student in leaderboard.students if student.variant == leaderboard.winner]
    return list(dict.fromkeys([leaderboard.winner, *controls, *promote.report]))


def _test_accuracy(student: StudentReference, test: HeldOut, device: str, *, record: bool) -> float:
    """As it was measured on this test split before, or now."""
    assert student.run_id is not None
    run = tracking.get(student.run_id)
    if run.tags.get(TESTED) == test.digest:
        return run.metrics["test/accuracy"]
    return float(_candidate(student, test, device, None, record=record).correct.mean())


def _candidate(
    student: StudentReference, test: HeldOut, device: str, taught: np.ndarray | None, *, record: bool
) -> Candidate:
    """Its figures on test are recorded with its run, once for each test split."""
    assert student.run_id is not None
    network, description = load_network(tracking.artifact(student.run_id, NETWORK))
    logits = predict(network, test.split, find_device(device))
    candidate, figures = measure(student.variant, student.run_id, description, logits.numpy(), test, taught)
    run = tracking.get(student.run_id)
    if record and run.tags.get(TESTED) != test.digest:
        new = {name: value for name, value in figures.items() if run.metrics.get(name) != value}
        tracking.log_metrics(student.run_id, [(name, value, 0) for name, value in new.items()])
        tracking.set_tags(student.run_id, {TESTED: test.digest})
    return candidate


def _champion_candidate(champion: tracking.Version, test: HeldOut) -> Candidate:
    """Measured as it is served, by its stored program: the code that its network was made of may have changed since."""
    if champion.run_id is None or not tracking.has_artifact(champion.run_id, NETWORK):
        raise UserError(
            f"model {champion.model}: version {champion.version}, its champion, was not made by kdflow and can't be "
            "compared with; promote under another name (promote.model)"
        )
    description = read_description(tracking.artifact(champion.run_id, NETWORK))
    if description.input_shape != test.data.input_shape:
        raise UserError(
            f"{_named(champion)} takes images of {description.input_shape}, but {test.data.data.source} has "
            f"{test.data.input_shape}; promote under another name (promote.model)"
        )
    served = tracking.load_predictor(champion.uri)
    batches = torch.arange(len(test.split)).split(BATCH)
    logits = np.concatenate([served(test.split.batch(rows).numpy()) for rows in batches])
    return measure(_named(champion), champion.run_id, description, logits, test, None)[0]


def _named(champion: tracking.Version) -> str:
    return f"the champion, version {champion.version}"


def _taught(leaderboard: LeaderboardReference, test: HeldOut, device: str) -> np.ndarray:
    """(N,), the classes that the teacher says the test split's examples are of."""
    if leaderboard.teacher_run_id is None:
        raise UserError(
            "promote.require.agreement: the comparison does not say which run its teacher is; kd run it again"
        )
    network, description = runs.recorded_network(leaderboard.teacher_run_id)
    logits = predict(network, test.split, find_device(device))
    joined = ensemble_logits(logits) if logits.ndim == 3 else logits
    return _places(description, test.data)[joined.argmax(dim=1).numpy()]


def _places(description: Description, data: DataReference) -> np.ndarray:
    """Of each of a network's classes the number that it has in the data.

    They are matched by name: since an older champion was trained, the data may have got another.
    """
    return np.array([data.classes.index(name) if name in data.classes else UNKNOWN for name in description.classes])


def measure(
    name: str, run_id: str, description: Description, logits: np.ndarray, test: HeldOut, taught: np.ndarray | None
) -> tuple[Candidate, dict[str, float]]:
    """What the gate needs to know of a network, and its metrics on test.

    Args:
        logits: (N, K), the network's of the test split. taught: (N,), the teacher's classes; None: not asked for.
    """
    predicted = _places(description, test.data)[logits.argmax(axis=1)]
    labels = test.split.labels.numpy()
    metrics, promised = measured(run_id), confidences(torch.from_numpy(logits))
    candidate = Candidate(
        name=name,
        correct=predicted == labels,
        labels=np.array(test.data.classes)[labels],
        parameters=int(metrics[SIZE]),
        file_bytes=round(metrics["size/file_mb"] * 1e6),
        latency_ms=metrics[P50],
        confidences=promised,
        agrees=None if taught is None else predicted == taught,
    )
    figures = {
        "accuracy": float(candidate.correct.mean()),
        **macro(by_class(predicted, labels, test.data.classes)),
        "ece": expected_calibration_error(promised, candidate.correct),
    }
    return candidate, {f"test/{figure}": value for figure, value in figures.items()}


def _tags(evidence: dict[str, Any]) -> dict[str, str]:
    return {f"kd.{name}": str(value) for name, value in flatten(evidence).items() if value is not None}
