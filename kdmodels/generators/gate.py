"""The promotion gate of generators, which decides whether a new generator becomes the champion.

The gate computes the decision from measurements, and neither reads nor writes a store.
"""

from dataclasses import asdict, dataclass

from pydantic import JsonValue

from kdmodels.evaluation.comparison import one_sided_p
from kdmodels.evaluation.gate import Verdict
from kdmodels.evaluation.looks import Look
from kdmodels.generators.comparison import PairedComparison

LOOKS = 365  # maximum number of comparisons with a champion on one test split; the default of promote.looks


@dataclass(frozen=True)
class GeneratorCandidate:
    """A generator that the gate compares, with its measures on held-out images.

    Attributes:
        name: The name of the generator in the verdict.
        distance: The Fréchet distance to the held-out images. The embeddings come from the challenger's judge, the
            classifier that measures the challenger's images.
        elbo: The mean evidence lower bound of the held-out images, in nats. `None` for a generator that is not a VAE.
    """

    name: str
    distance: float
    elbo: float | None


@dataclass(frozen=True)
class Challenge:
    """A comparison of a generator with the champion.

    Attributes:
        champion: The champion.
        distance: The comparison of the Fréchet distances.
        elbo: The comparison of the evidence lower bounds. `None` if they can't be compared, because one of the
            generators is not a VAE, or only one of them is conditional.
        look: The number of this comparison on the test split, and the number of comparisons that the experiment
            declares.
    """

    champion: GeneratorCandidate
    distance: PairedComparison
    elbo: PairedComparison | None
    look: Look


def reason_without_test(name: str, *, collapse: str | None, giving_up_classes: str | None) -> str | None:
    """Return the reason not to promote a generator, or `None` if the decision needs the test split.

    Args:
        name: The name of the generator.
        collapse: A sentence that describes mode collapse. `None` if the generator has not collapsed.
        giving_up_classes: The name of the champion, if the champion is conditional and the new generator is not.
            Otherwise `None`.
    """
    if collapse:
        return f"{name} is not promoted: {collapse}."
    if giving_up_classes:
        return f"{name} does not replace {giving_up_classes}: it can't make images of a class, and the champion can."
    return None


def decide(challenger: GeneratorCandidate, challenge: Challenge | None, images: int) -> Verdict:
    """Decide whether a generator becomes the champion, and give the reason in one sentence.

    Without a champion, the generator becomes the first champion. Otherwise, its Fréchet distance must be significantly
    lower than the champion's. Between two VAEs, its evidence lower bound must be significantly higher too. Each test is
    one-sided, at the significance level of this comparison on the test split (`Challenge.look`). Because all tests must
    succeed, their levels need no correction.

    Args:
        challenger: The new generator. `reason_without_test` has returned `None` for this generator.
        challenge: The comparison with the champion. `None` if there is no champion.
        images: The number of held-out images.

    References:
        Berger, "Multiparameter hypothesis testing and acceptance sampling", 1982, for the intersection of tests.
    """
    evidence: dict[str, JsonValue] = {"n": images, "challenger": asdict(challenger)}
    if challenge is None:
        reason = f"{challenger.name} becomes the first champion: its training neither diverged nor collapsed."
        return Verdict(challenger.name, True, reason, evidence)
    look = challenge.look
    evidence |= {
        "champion": asdict(challenge.champion),
        "distance": asdict(challenge.distance),
        "elbo": asdict(challenge.elbo) if challenge.elbo else None,
        "look": {"number": look.number, "of": look.of, "level": look.level},
    }
    problems = _problems(challenge, images)
    if problems:
        reason = f"{challenger.name} does not replace {challenge.champion.name}: {' and '.join(problems)}."
    else:
        reason = f"{challenger.name} replaces {challenge.champion.name}: {_advantages(challenge, images)}."
    return Verdict(challenger.name, not problems, reason, evidence)


def _problems(challenge: Challenge, images: int) -> list[str]:
    """Return the reasons not to replace the champion, or an empty list."""
    look = challenge.look
    if look.is_spent:
        return [f"all {look.of} looks at this test split are spent, and only new test images allow another one"]
    problems = []
    if challenge.distance.p >= look.level:
        figures = _figures(challenge.distance, "", look)
        problems.append(f"its Fréchet distance on {images:,} test images is not significantly lower ({figures})")
    if challenge.elbo and challenge.elbo.p >= look.level:
        figures = _figures(challenge.elbo, " nats", look)
        problems.append(f"its ELBO on {images:,} test images is not significantly higher ({figures})")
    return problems


def _advantages(challenge: Challenge, images: int) -> str:
    look, elbo = challenge.look, challenge.elbo
    words = f"its Fréchet distance on {images:,} test images is lower ({_figures(challenge.distance, '', look)})"
    return words + (f", and its ELBO is higher ({_figures(elbo, ' nats', look)})" if elbo else "")


def _figures(comparison: PairedComparison, unit: str, look: Look) -> str:
    return (
        f"{comparison.difference:+.4g}{unit}, 95% interval {comparison.low:+.4g} to {comparison.high:+.4g}, "
        f"{one_sided_p(comparison.p)} at look {look.number} of {look.of} with level {look.level:.2g}"
    )
