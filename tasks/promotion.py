"""promote_student: the only reader of the test split, and the gate between a winner and the registry."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from prefect import task
from prefect.cache_policies import NO_CACHE

from kdmodels.costs import P50
from kdmodels.data import Split
from kdmodels.device import find_device
from kdmodels.errors import UserError
from kdmodels.evaluation import BATCH, by_class, macro, predict
from kdmodels.experiment import Promote
from kdmodels.gate import Candidate, Verdict, decide
from kdmodels.networks import Description, load_network, read_description
from tasks import tracking
from tasks.costs import measured
from tasks.data import load
from tasks.plan import flatten
from tasks.references import DataReference, LeaderboardReference, StudentReference, VerdictReference
from tasks.results import NETWORK, SIZE, VERDICT
from tasks.steps import alone

TESTED = "kd.test_digest"  # the tag that says of which data a run's figures on test are
UNKNOWN = -1  # a class that an older champion knows and the data no longer have


@task(cache_policy=NO_CACHE)
def promote_student(
    leaderboard: LeaderboardReference, promote: Promote, data: DataReference, *, device: str, asked: bool = False
) -> VerdictReference:
    """Read the test split for the winner, its control, the champion and the reported variants, and let the gate decide.

    The verdict and its evidence are recorded on the comparison, and on the model version when there is one.

    Args:
        device: the experiment's.
        asked: a person named this student, so that even one that was rolled back may be the champion again.

    Raises:
        UserError: the champion was not made by kdflow, or takes other images.
    """
    tracking.configure()
    with alone(f"model {promote.model}"):  # from what the gate sees to the alias that it sets
        return _judged(leaderboard, promote, data, device, asked)


def _judged(
    leaderboard: LeaderboardReference, promote: Promote, data: DataReference, device: str, asked: bool
) -> VerdictReference:
    finished = {student.variant: student for student in leaderboard.students if student.status == "FINISHED"}
    best = finished[leaderboard.winner]
    assert best.run_id is not None
    read = [finished[name] for name in _read_for(leaderboard, promote) if name in finished]
    champion = tracking.champion(promote.model)
    version = champion.version if champion else None
    already = champion is not None and champion.run_id == best.run_id
    if already:
        decision = Verdict(False, f"already champion: {best.variant} is {promote.model} version {version}", {})
    elif not asked and tracking.is_rolled_back(promote.model, best.run_id):
        reason = f"{best.variant} was rolled back; to promote it again: kd promote {best.run_id[:8]}"
        decision = Verdict(False, reason, {})
    else:
        candidates = {student.variant: _candidate(student, data, device) for student in read}
        rival = _champion_candidate(champion, data) if champion else None
        decision = decide(
            candidates[best.variant],
            candidates.get(best.control),
            rival,
            margin=promote.margin,
            require=promote.require,
        )
    if decision.promoted:
        registered = tracking.register(
            promote.model, best.run_id, tags=_tags(decision.evidence), description=decision.reason
        )
        version = tracking.crown(registered).version
    verdict = VerdictReference(
        promoted=decision.promoted,
        already_champion=already,
        model=promote.model,
        version=version,
        reason=decision.reason,
        winner=best.variant,
        evidence=decision.evidence,
        test_accuracy={student.variant: _test_accuracy(student, data, device) for student in read},
    )
    tracking.log_json(leaderboard.parent_run_id, VERDICT, verdict.model_dump(mode="json"))
    tracking.set_tags(leaderboard.parent_run_id, {"kd.verdict": verdict.reason, "kd.promoted": verdict.promoted})
    return verdict


def _read_for(leaderboard: LeaderboardReference, promote: Promote) -> list[str]:
    """The variants for which the test split is read: the winner, its control, and those the file wants reported."""
    controls = [student.control for student in leaderboard.students if student.variant == leaderboard.winner]
    return list(dict.fromkeys([leaderboard.winner, *controls, *promote.report]))


def _test_accuracy(student: StudentReference, data: DataReference, device: str) -> float:
    """As it was measured on this dataset before, or now."""
    assert student.run_id is not None
    run = tracking.get(student.run_id)
    if run.tags.get(TESTED) == data.digest:
        return run.metrics["test/accuracy"]
    return float(_candidate(student, data, device).correct.mean())


def _candidate(student: StudentReference, data: DataReference, device: str) -> Candidate:
    """Its figures on test are recorded with its run, once for each dataset."""
    assert student.run_id is not None
    network, description = load_network(tracking.artifact(student.run_id, NETWORK))
    found = find_device(device)
    candidate, figures = measure(
        student.variant, student.run_id, description, lambda test: predict(network, test, found).numpy(), data
    )
    run = tracking.get(student.run_id)
    if run.tags.get(TESTED) != data.digest:
        new = {name: value for name, value in figures.items() if run.metrics.get(name) != value}
        tracking.log_metrics(student.run_id, [(name, value, 0) for name, value in new.items()])
        tracking.set_tags(student.run_id, {TESTED: data.digest})
    return candidate


def _champion_candidate(champion: tracking.Version, data: DataReference) -> Candidate:
    """Measured as it is served, by its stored program: the code that its network was made of may have changed since."""
    name = f"the champion, version {champion.version}"
    if champion.run_id is None or not tracking.has_artifact(champion.run_id, NETWORK):
        raise UserError(
            f"model {champion.model}: version {champion.version}, its champion, was not made by kdflow and can't be "
            "compared with; promote under another name (promote.model)"
        )
    served = tracking.load_predictor(champion.uri)

    def logits(test: Split) -> np.ndarray:
        batches = torch.arange(len(test)).split(BATCH)
        return np.concatenate([served(test.batch(rows).numpy()) for rows in batches])

    description = read_description(tracking.artifact(champion.run_id, NETWORK))
    return measure(name, champion.run_id, description, logits, data)[0]


def measure(
    name: str,
    run_id: str,
    description: Description,
    logits: Callable[[Split], np.ndarray],
    data: DataReference,
) -> tuple[Candidate, dict[str, float]]:
    """What the gate needs to know of a network, and its metrics on test.

    Classes are matched by name: since an older champion was trained, the data may have got another.

    Args:
        logits: the network's, (N, K), of a split.
    """
    if description.input_shape != data.input_shape:
        raise UserError(
            f"{name} takes images of {description.input_shape}, but {data.data.source} has {data.input_shape}; "
            "promote under another name (promote.model)"
        )
    test = load(data).read_test()
    places = np.array([data.classes.index(name) if name in data.classes else UNKNOWN for name in description.classes])
    predicted = places[logits(test).argmax(axis=1)]
    labels = test.labels.numpy()
    metrics = measured(run_id)
    candidate = Candidate(
        name=name,
        correct=predicted == labels,
        labels=np.array(data.classes)[labels],
        parameters=int(metrics[SIZE]),
        file_bytes=round(metrics["size/file_mb"] * 1e6),
        latency_ms=metrics[P50],
    )
    figures = {"accuracy": float(candidate.correct.mean()), **macro(by_class(predicted, labels, data.classes))}
    return candidate, {f"test/{figure}": value for figure, value in figures.items()}


def _tags(evidence: dict[str, Any]) -> dict[str, str]:
    return {f"kd.{name}": str(value) for name, value in flatten(evidence).items() if value is not None}
