"""Functions that record the promotion of a generator: the model card of the registered version, and the evidence."""

from kdmodels.evaluation.gate import Verdict
from kdmodels.experiment import GeneratorExperiment
from kdmodels.report.generator_card import GeneratorCard, generator_card
from tasks import tracking
from tasks.held_out import HeldOut
from tasks.model_cards import add_promotion, facts_of
from tasks.report_contents import VERSIONS
from tasks.results import SIZE

ABOUT = (
    "Generators that kdflow's promotion gate accepted. Each version is one ONNX file, and its description is its model "
    "card. The alias `champion` marks the version in use, and `previous` the champion before it."
)
MEASURES = {
    "test/frechet_distance": "Fréchet distance",
    "test/elbo": "evidence lower bound in nats",
    "test/log_likelihood_bound": "importance-weighted bound of the log-likelihood in nats",
}


def record_evidence(run_id: str, model: str, generation: str, verdict: Verdict) -> None:
    """Store the evidence that justifies a promotion with the generator's run, under the name of the registered model.

    Args:
        run_id: The id of the generator's run.
        generation: The id of the generation's run, which is the run of the command that trained the generator.
    """
    add_promotion(run_id, model, {"generation": generation, "reason": verdict.reason, "evidence": verdict.evidence})


def describe_version(
    version: tracking.Version,
    experiment: GeneratorExperiment,
    verdict: Verdict,
    test: HeldOut,
    figures: dict[str, float],
) -> None:
    """Write the model card of a version into the version's description, and describe the registered model.

    Args:
        figures: The test metrics of the generator, by name.
    """
    assert version.run_id is not None
    data, generation = test.data, tracking.get(test.comparison)
    networks = experiment.generator.networks
    look = verdict.evidence.get("look")
    card = GeneratorCard(
        model=version.model,
        version=version.version,
        decision=verdict.reason,
        kind=networks.IN_WORDS,
        latent=networks.latent,
        conditional=experiment.generator.conditional,
        image=data.input_shape,
        results={
            **{words: f"{figures[name]:.4g}" for name, words in MEASURES.items() if name in figures},
            "images": f"{verdict.evidence['n']:,}",
            "look": f"{look['number']} of {look['of']} at this test split" if isinstance(look, dict) else "none",
            "parameters": f"{int(tracking.get(version.run_id).metrics[SIZE]):,}",
        },
        data=facts_of(test),
        facts={
            "run of the generator": version.run_id,
            "run of the generation": generation.run_id,
            **{library: generation.tags[tag] for library, tag in VERSIONS.items() if tag in generation.tags},
        },
    )
    tracking.describe_version(version, generator_card(card))
    tracking.describe_model(version.model, ABOUT)
