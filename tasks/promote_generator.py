"""promote_generator: decide whether a new generator becomes the champion of its registered model.

Both generators are measured on the test split by the same judge. The decision itself is made in
`kdmodels/generators/gate.py`.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import JsonValue
from torch import Tensor, nn

from kdmodels.data import Split
from kdmodels.data.likeness import look_alike
from kdmodels.errors import UsageError, UserError
from kdmodels.evaluation.gate import Verdict
from kdmodels.evaluation.looks import Look, pair_of
from kdmodels.experiment import GeneratorExperiment
from kdmodels.experiment.user_code import named_modules
from kdmodels.generators.comparison import compare_distances, compare_elbos
from kdmodels.generators.gan import ImageGenerator
from kdmodels.generators.gate import LOOKS, Challenge, GeneratorCandidate, decide, reason_without_test
from kdmodels.generators.quality import Moments, frechet_distance
from kdmodels.generators.vae import Vae
from kdmodels.randomness import generator_for
from kdmodels.serving.generator_file import ServedGenerator
from tasks import tracking
from tasks import training_runs as runs
from tasks.execution.team_locks import team_exclusive
from tasks.generator_cards import describe_version, record_evidence
from tasks.generator_results import MEASURED, NETWORK, SEED, elbos, judged, log_likelihood_bound, stored_generator
from tasks.held_out import HeldOut, keep_trained, seen_by_champion
from tasks.promotion import FEW, name_of
from tasks.references import DataReference, GeneratorReference, GeneratorVerdict, TeacherReference
from tasks.results import VERDICT
from tasks.tracking.contents import model_uri
from tasks.tracking.served import load_generator
from tasks.tracking.tags import GENERATOR, Tag

RESAMPLES = 200  # number of bootstrap resamples; the estimated standard error is then within 5 %


@dataclass(frozen=True)
class Request:
    """A request to make a generator the champion.

    Attributes:
        generator: The new generator.
        champion: The version that the generator would replace. `None` if the model has no champion.
        judge: The classifier that measures both generators.
        test: The test split.
    """

    experiment: GeneratorExperiment
    generator: GeneratorReference
    champion: tracking.Version | None
    judge: nn.Module
    test: HeldOut

    @property
    def is_champion(self) -> bool:
        """Whether the generator is the champion already."""
        return self.champion is not None and self.champion.run_id == self.generator.run_id


@dataclass(frozen=True, eq=False)
class Measured:
    """The results of measuring a generator on held-out images.

    Attributes:
        network: The generator, in eval mode.
        candidate: The name and the metrics of the generator, as an input of the promotion gate.
        embeddings: The judge's embeddings of generated images, (M, D).
        elbos: The evidence lower bound of each held-out image, (N,). `None` if the generator is not a VAE.
    """

    network: Vae | ImageGenerator
    candidate: GeneratorCandidate
    embeddings: Tensor
    elbos: Tensor | None


@task(task_run_name="promote_generator {experiment.name}", cache_policy=NO_CACHE)
def promote_generator(
    experiment: GeneratorExperiment,
    data: DataReference,
    generator: GeneratorReference,
    judge: TeacherReference,
    parent: str,
) -> GeneratorVerdict:
    """Measure a generator and the champion on the test split, and promote the generator if the gate accepts it.

    The verdict is recorded with the generation's run. If the generator is registered, the evidence is also recorded
    with the generator's run and its model version.

    Args:
        parent: The id of the generation's run.

    Raises:
        UserError: The champion is not a generator of kdflow, or its images have another shape or other classes.
    """
    tracking.configure()
    network, _ = runs.recorded_network(judge.run_id, named_modules(experiment.of_judge))
    model = experiment.name
    with team_exclusive(f"model {model}"):  # held until the alias is set, so that the champion cannot change
        test = HeldOut(data, parent, (), record=True)
        request = Request(experiment, generator, tracking.champion(model), network, test)
        if request.champion:
            require_comparable(request.champion, data)
        if reason := _reason_without_test(request):
            return _apply(request, Verdict(model, False, reason, {}), {})
        return _apply(request, *_judge(request))


def require_comparable(champion: tracking.Version, data: DataReference) -> None:
    """Raise a UserError if the champion is not a generator of kdflow, or its images have another shape or classes."""
    model, run_id = champion.model, champion.run_id
    if champion.tags.get(Tag.KIND) != GENERATOR or run_id is None or not tracking.has_artifact(run_id, NETWORK):
        raise UsageError(f"name: the registered model {model} holds no generators. Allowed: another name")
    network, description = stored_generator(run_id)
    classes = description.classes if network.classes else data.classes
    for what, made, known in (
        ("images of", description.input_shape, data.input_shape),
        ("the classes", classes, data.classes),
    ):
        if made != known:
            raise UserError(
                f"name: the champion of {model}, version {champion.version}, makes {what} {made}, but "
                f"{data.data.source} has {known}. Allowed: another name"
            )


def _reason_without_test(request: Request) -> str | None:
    model, run_id = request.experiment.name, request.generator.run_id
    if request.is_champion:
        assert request.champion is not None
        return f"{model} is already the champion, version {request.champion.version}."
    if tracking.is_rolled_back(model, run_id):
        return f"{model} was rolled back; to make a version the champion again: kd rollback {model} --to VERSION."
    champion = request.champion
    gives_up = champion is not None and _is_conditional(champion) and not request.experiment.generator.conditional
    return reason_without_test(
        model,
        collapse=tracking.get(run_id).tags.get(Tag.COLLAPSE),
        giving_up_classes=name_of(champion) if champion and gives_up else None,
    )


def _is_conditional(champion: tracking.Version) -> bool:
    assert champion.run_id is not None
    _, description = stored_generator(champion.run_id)
    return description.generator.conditional


def _judge(request: Request) -> tuple[Verdict, dict[str, float]]:
    """Measure both generators on the test split and decide. First, count this use of the split.

    Returns:
        The verdict, and the test metrics of the new generator by name.
    """
    model, champion, test = request.experiment.name, request.champion, request.test
    look = _take_look(request, champion) if champion else None
    kept = _unseen(request)
    facts: dict[str, JsonValue] = {"digest": test.digest, "reads": test.reads, "copies": int((~kept).sum())}
    if kept.sum() < min(FEW, len(kept) / 2):
        copies = f"all but {kept.sum()} of {len(kept)} test images are copies of training images"
        reason = f"{model} is not promoted: {copies}."
        return Verdict(model, False, reason, {"test": facts}), {}
    split = test.split.take(torch.from_numpy(np.flatnonzero(kept))[:MEASURED])
    _, real = judged(request.judge, split)
    challenger = _measured(model, request.generator.run_id, request.judge, split, real)
    challenge = None
    if champion and look:
        assert champion.run_id is not None
        rival = _measured(name_of(champion), champion.run_id, request.judge, split, real)
        challenge = _challenge(challenger, rival, real, look)
    verdict = decide(challenger.candidate, challenge, len(split))
    return replace(verdict, evidence={**verdict.evidence, "test": facts}), _figures(request, challenger, split)


def _take_look(request: Request, champion: tracking.Version) -> Look:
    """Count this comparison with the champion as a use of the test split (a look), before the split is read."""
    test = request.test
    return tracking.take_look(
        request.experiment.name,
        pair_of(_served(request.generator.run_id).digest, champion.version, test.digest),
        digest=test.digest,
        sketch=test.sketch,
        looks=LOOKS,
    )


def _served(run_id: str) -> ServedGenerator:
    uri = model_uri(run_id)
    assert uri is not None, "a finished generator has a model"
    return load_generator(uri)


def _unseen(request: Request) -> np.ndarray:
    """Return which test images can be used, (N,) bool.

    An image can't be used if it is a copy of an image on which one of the two generators was trained or validated.
    """
    test, champion = request.test, request.champion
    seen = look_alike(test.images, test.trained)
    if champion and champion.run_id:
        others = seen_by_champion(champion.run_id, test)
        seen = seen if others is None else seen | others
    return ~seen


def _measured(name: str, run_id: str, judge: nn.Module, split: Split, real: Tensor) -> Measured:
    """Measure a generator. The images come from the generator's ONNX file, because this file is served.

    Args:
        name: The name of the generator in the verdict.
        real: The judge's embeddings of the held-out images, (N, D).
    """
    network, _ = stored_generator(run_id)
    labels = split.labels[torch.arange(MEASURED) % len(split)]  # classes as frequent as in the split
    images = torch.from_numpy(_served(run_id).sample(labels.numpy(), SEED))
    _, embeddings = judged(judge, Split(images, labels))
    bounds = elbos(network, split) if isinstance(network, Vae) else None
    candidate = GeneratorCandidate(
        name,
        frechet_distance(Moments.of(embeddings), Moments.of(real)),
        bounds.mean().item() if bounds is not None else None,
    )
    return Measured(network, candidate, embeddings, bounds)


def _challenge(challenger: Measured, rival: Measured, real: Tensor, look: Look) -> Challenge:
    distance = compare_distances(
        real,
        challenger.embeddings,
        rival.embeddings,
        resamples=RESAMPLES,
        generator=generator_for(SEED, "resamples"),
    )
    elbo = None
    # The ELBO of a conditional VAE bounds the likelihood of an image given its class. The ELBO of an unconditional VAE
    # bounds another likelihood, so the two can't be compared.
    is_same_bound = bool(challenger.network.classes) == bool(rival.network.classes)
    if challenger.elbos is not None and rival.elbos is not None and is_same_bound:
        elbo = compare_elbos(challenger.elbos, rival.elbos)
    return Challenge(rival.candidate, distance, elbo, look)


def _figures(request: Request, challenger: Measured, split: Split) -> dict[str, float]:
    """Log the test metrics of the new generator with its run, and return them."""
    figures = {"test/frechet_distance": challenger.candidate.distance}
    if challenger.candidate.elbo is not None:
        figures["test/elbo"] = challenger.candidate.elbo
    if isinstance(challenger.network, Vae):
        figures["test/log_likelihood_bound"] = log_likelihood_bound(challenger.network, split)
    recorded = tracking.get(request.generator.run_id).metrics
    new = [(name, value, 0) for name, value in figures.items() if recorded.get(name) != value]
    tracking.log_metrics(request.generator.run_id, new)
    return figures


def _apply(request: Request, verdict: Verdict, figures: dict[str, float]) -> GeneratorVerdict:
    """If the verdict promotes the generator, register the generator as the champion. Record and return the verdict."""
    version = request.champion.version if request.champion else None
    if verdict.promoted:
        keep_trained(request.generator.run_id, request.test)
        record_evidence(request.generator.run_id, request.experiment.name, request.test.comparison, verdict)
        registered = tracking.register(
            request.experiment.name,
            request.generator.run_id,
            tags={
                Tag.KIND: GENERATOR,
                Tag.COMPARISON: request.test.comparison,
                Tag.TEST_DIGEST: request.test.digest,
            },
            description=verdict.reason,
        )
        describe_version(registered, request.experiment, verdict, request.test, figures)
        version = tracking.set_champion(registered).version
    reference = GeneratorVerdict(
        promoted=verdict.promoted,
        already_champion=request.is_champion,
        accepted=verdict.promoted or request.is_champion,
        model=request.experiment.name,
        version=version,
        reason=verdict.reason,
        evidence=verdict.evidence,
        test=figures,
    )
    parent = request.test.comparison
    tracking.log_json(parent, VERDICT, reference.model_dump(mode="json"))
    tracking.set_tags(parent, {Tag.VERDICT: reference.reason, Tag.PROMOTED: reference.promoted})
    tracking.describe(parent, reference.reason)
    return reference
