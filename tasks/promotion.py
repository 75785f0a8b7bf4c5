"""promote_student: the only reader of the test split, and the gate between a winner and the registry."""

from collections.abc import Collection
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
    """The test split, opened when it is first asked for; the comparison counts how often that was.

    `code` are the modules that the user named, whose code a network that is measured may run.
    """

    data: DataReference
    comparison: str
    code: Collection[str]

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
    code: Collection[str],
    asked: bool = False,
    force: str | None = None,
    dry_run: bool = False,
) -> VerdictReference:
    """Read the test split for the winner, its control, the champion and the reported variants, and let the gate decide.

    The verdict and its evidence are recorded on the comparison, and on the model version when there is one.

    Args:
        device: the experiment's.
        code: the modules that the user named, whose code a stored network may run.
        asked: a person named this student, so that even one that was rolled back may be the champion again.
        force: why a person wants this student promoted though the gate refuses; it is recorded on the version.
        dry_run: promote and record nothing, but for the count of how often test was read.

    Raises:
        UserError: the champion was not made by kdflow, or takes other images.
    """
    tracking.configure()
    with alone(f"model {promote.model}"):  # from what the gate sees to the alias that it sets
        request = Request(
            leaderboard=leaderboard,
            promote=promote,
            test=HeldOut(data, leaderboard.parent_run_id, code),
            device=device,
            asked=asked,
            force=force,
            dry_run=dry_run,
            champion=tracking.champion(promote.model),
        )
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
    device: str
    asked: bool
    force: str | None
    dry_run: bool
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


def _answered(request: Request) -> VerdictReference:
    """Settle the request without the test split or measure and decide; then apply the verdict."""
    settled = _settled(request)
    candidates: dict[str, Candidate] = {}
    verdict = Verdict(False, settled or "", {})
    if request.dry_run or not settled:  # a dry run shows each rule
        candidates = _candidates(request)
        verdict = _decided(candidates, request)
        if settled:
            verdict = replace(verdict, promoted=False, reason=settled)
    forced = request.force if not (verdict.promoted or request.is_champion) else None
    if forced:
        reason = f"{request.best.variant} is promoted by force: {forced}. The gate said: {verdict.reason}"
        verdict = replace(verdict, promoted=True, reason=reason)
    return _applied(request, verdict, candidates, forced)


def _settled(request: Request) -> str | None:
    """Return the reason of a verdict that needs no test example; None: the gate has to decide."""
    model, best = request.promote.model, request.best
    if request.is_champion:
        assert request.champion is not None
        return f"already champion: {best.variant} is {model} version {request.champion.version}"
    if not (request.asked or request.force) and tracking.is_rolled_back(model, request.run_id):
        return f"{best.variant} was rolled back; to promote it again: kd promote {request.run_id[:8]}"
    return None


def _candidates(request: Request) -> dict[str, Candidate]:
    """Measure the students that are read, by variant."""
    taught = _taught(request.leaderboard, request.test, request.device) if request.promote.require.agreement else None
    return {
        student.variant: _candidate(student, request.test, request.device, taught, record=not request.dry_run)
        for student in request.read
    }


def _decided(candidates: dict[str, Candidate], request: Request) -> Verdict:
    """Ask the gate, and add to its verdict what is known of the test split."""
    champion, test = None if request.is_champion else request.champion, request.test
    verdict = decide(
        candidates[request.best.variant],
        candidates.get(request.best.control),
        _champion_candidate(champion, test) if champion else None,
        margin=request.promote.margin,
        require=request.promote.require,
    )
    before = champion.tags.get("kd.test.digest") if champion else None
    changed = before is not None and before != test.digest
    evidence = verdict.evidence | {"test": {"digest": test.digest, "changed": changed, "reads": test.reads}}
    told = f" The test split is not the one on which {_named(champion)} was promoted." if champion and changed else ""
    return replace(verdict, reason=verdict.reason + told, evidence=evidence)


def _applied(
    request: Request, verdict: Verdict, candidates: dict[str, Candidate], forced: str | None
) -> VerdictReference:
    """Set the champion if the verdict says so, record the verdict with the comparison, and return it."""
    model, version = request.promote.model, request.champion.version if request.champion else None
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
    told = VerdictReference(
        promoted=verdict.promoted,
        already_champion=request.is_champion,
        model=model,
        version=version,
        reason=verdict.reason,
        winner=request.best.variant,
        evidence=verdict.evidence,
        test_accuracy={
            student.variant: float(candidates[student.variant].correct.mean())
            if student.variant in candidates
            else _test_accuracy(student, request.test, request.device, record=not request.dry_run)
            for student in request.read
        },
        forced=forced,
        dry_run=request.dry_run,
    )
    if not request.dry_run:
        parent = request.leaderboard.parent_run_id
        tracking.log_json(parent, VERDICT, told.model_dump(mode="json"))
        tracking.set_tags(parent, {"kd.verdict": told.reason, "kd.promoted": told.promoted})
    return told


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
    network, description = load_network(tracking.artifact(student.run_id, NETWORK), test.code)
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
    network, description = runs.recorded_network(leaderboard.teacher_run_id, test.code)
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
    metrics, promised = measured(run_id, test.code), confidences(torch.from_numpy(logits))
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
