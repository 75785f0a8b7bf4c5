"""How the gradient of the loss `soft_targets` depends on the temperature, as Hinton et al. derive it."""

from collections.abc import Callable

import torch
from torch import Tensor

from kdmodels.losses.logits import logit_regression, soft_targets
from kdmodels.papers.claims import Claim, Measurements, Table
from kdmodels.papers.reproduction import Reproduction, Results
from kdmodels.randomness import generator_for

EXAMPLES, CLASSES = 256, 10
TEMPERATURES = (1, 2, 4, 8, 16, 32, 64, 128)
HINTON = "Hinton et al. 2015, section 2.1"


def measure(results: Results) -> Measurements:
    """Measure the gradients with respect to random logits, which differ for each seed."""
    draws = [_draw(seed) for seed in results.seeds]
    hot, cold = TEMPERATURES[-1], TEMPERATURES[0]
    return Measurements(
        values={
            "formula": [_largest_deviation(*draw) for draw in draws],
            "exponent": [_exponent(*draw) for draw in draws],
            "limit": [_ratio_to_limit(*draw, hot) for draw in draws],
            "regression": [_ratio_to_regression(*draw, hot) for draw in draws],
            "without limit": [_ratio_to_limit(*draw, cold) for draw in draws],
        },
        tables=[
            Table(
                title="Norm of the gradient of T² KL, divided by the norm of its limit (z - v) / K",
                unit="ratio",
                rows={f"T = {t}": [_ratio_to_limit(*draw, t) for draw in draws] for t in TEMPERATURES},
            ),
            Table(
                title="Norm of the gradient of KL without T², divided by the norm at T = 1, times T²",
                unit="ratio",
                rows={f"T = {t}": [_scaled_without_factor(*draw, t) for draw in draws] for t in TEMPERATURES},
            ),
        ],
    )


def _draw(seed: int) -> tuple[Tensor, Tensor]:
    """Return logits of a student and of a teacher, (B, K), whose mean over the classes is zero."""
    generator = generator_for(seed, "notes-gradient")
    student, teacher = (3 * torch.randn(EXAMPLES, CLASSES, generator=generator) for _ in range(2))
    return tuple(logits - logits.mean(dim=1, keepdim=True) for logits in (student, teacher))  # type: ignore[return-value]  # two


def _gradient(loss: Callable[[Tensor], Tensor], student: Tensor) -> Tensor:
    """Return the gradient of each example's loss with respect to the example's logits, (B, K)."""
    logits = student.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits).sum(), logits)
    return gradient


def _of_soft_targets(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return _gradient(lambda logits: soft_targets(logits, teacher, temperature=temperature), student)


def _largest_deviation(student: Tensor, teacher: Tensor) -> float:
    """Return the largest deviation of the gradient from T (q - p), divided by the largest entry of T (q - p)."""
    deviations = []
    for temperature in TEMPERATURES:
        q, p = ((logits.double() / temperature).softmax(dim=1) for logits in (student, teacher))
        expected = temperature * (q - p)
        found = _of_soft_targets(student, teacher, temperature)
        deviations.append(((found - expected).abs().max() / expected.abs().max()).item())
    return max(deviations)


def _exponent(student: Tensor, teacher: Tensor) -> float:
    """Return the exponent e for which the norm of the gradient of KL is proportional to T^e, from T = 64 to 128.

    KL is taken without the factor T² of `soft_targets`.
    """
    low, high = TEMPERATURES[-2:]
    norms = [(_of_soft_targets(student, teacher, t) / t**2).norm() for t in (low, high)]
    return ((norms[1] / norms[0]).log2() / torch.tensor(high / low).log2()).item()


def _ratio_to_limit(student: Tensor, teacher: Tensor, temperature: float) -> float:
    limit = (student - teacher) / CLASSES
    return (_of_soft_targets(student, teacher, temperature).norm() / limit.norm()).item()


def _ratio_to_regression(student: Tensor, teacher: Tensor, temperature: float) -> float:
    regression = _gradient(lambda logits: logit_regression(logits, teacher), student)
    return (_of_soft_targets(student, teacher, temperature).norm() / regression.norm()).item()


def _scaled_without_factor(student: Tensor, teacher: Tensor, temperature: float) -> float:
    norms = [(_of_soft_targets(student, teacher, t) / t**2).norm() for t in (temperature, 1)]
    return (norms[0] / norms[1] * temperature**2).item()


REPRODUCTION = Reproduction(
    name="notes-gradient",
    title="The gradient of soft targets against the temperature",
    papers=("Hinton, Vinyals, Dean, Distilling the knowledge in a neural network, 2015",),
    cost="2 s",
    seeds=5,
    claims=(
        Claim(
            name="formula", text="Largest relative deviation of the gradient of T² KL from T (q - p), T = 1 to 128",
            published="0", source=HINTON, high=1e-4,
        ),
        Claim(
            name="exponent", text="Exponent of T in the size of the gradient without the factor T², T = 64 to 128",
            published="-2: gradients scale as 1 / T²", source="Hinton et al. 2015, section 2", low=-2.02, high=-1.98,
        ),
        Claim(
            name="limit", text="Size of the gradient of T² KL at T = 128, divided by that of (z - v) / K",
            published="1 for a high temperature and zero-mean logits", source=HINTON, low=0.98, high=1.02,
        ),
        Claim(
            name="regression", text="Size of the gradient of T² KL at T = 128, divided by that of mean (z - v)²",
            published="1/2: distillation is equivalent to minimising 1/2 (z - v)²", source=HINTON, low=0.49, high=0.51,
        ),
        Claim(
            name="without limit", text="Size of the gradient of T² KL at T = 1, divided by that of (z - v) / K",
            published="not 1: very negative logits are ignored at a low temperature", source=HINTON, high=0.9,
        ),
    ),
    measure=measure,
    differences=("Logits are random: zero-mean, with a standard deviation of 3, for 256 examples and 10 classes.",),
)  # fmt: skip
