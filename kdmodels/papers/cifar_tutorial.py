"""PyTorch's tutorial on knowledge distillation, repeated with several seeds to test which of its gains remain."""

from collections.abc import Sequence

from kdmodels.papers.claims import Claim, Measurements, Table
from kdmodels.papers.reproduction import TEACHER, PaperExperiment, Reproduction, Results, accuracies, minus

EXPERIMENT = "cifar-tutorial"
TUTORIAL = "PyTorch's Knowledge Distillation Tutorial"
STUDENTS = ("hard-labels", "kd", "cosine", "regressor")
NOISE = 1.0
"""Points by which an accuracy of 70 % on 10,000 test images can differ by chance: two standard errors, rounded up."""


def measure(results: Results) -> Measurements:
    """Measure the test accuracy of the teacher and of all students, and the gains over the control."""
    accuracy = accuracies(results, EXPERIMENT, (TEACHER, *STUDENTS))
    values: dict[str, Sequence[float]] = {}
    if len(accuracy) == 1 + len(STUDENTS):
        values = dict(accuracy)
        values |= {f"{name} gain": minus(accuracy[name], accuracy["hard-labels"]) for name in STUDENTS[1:]}
    return Measurements(values=values, tables=[Table(title="Test accuracy", unit="%", rows=accuracy)])


def _accuracy(name: str, text: str, published: float) -> Claim:
    return Claim(
        name=name, text=f"Accuracy of {text}", published=f"{published} %", source=TUTORIAL,
        low=published - NOISE, high=published + NOISE, unit="%",
    )  # fmt: skip


def _gain(name: str, text: str, published: float) -> Claim:
    return Claim(
        name=f"{name} gain", text=f"Accuracy of {text}, less that of labels alone", published=f"+{published} points",
        source=TUTORIAL, low=0, unit="points",
    )  # fmt: skip


REPRODUCTION = Reproduction(
    name=EXPERIMENT,
    title="A deep and a light CNN on CIFAR-10",
    papers=("Chariton, Knowledge Distillation Tutorial, pytorch.org",),
    cost="about 1 hour (estimated)",
    seeds=5,
    claims=(
        _accuracy(TEACHER, "the deep CNN", 75.1),
        _accuracy("hard-labels", "the light CNN on labels alone", 69.9),
        _gain("kd", "soft targets", 0.9),
        _gain("cosine", "the cosine loss", 1.6),
        _gain("regressor", "the regressor", 0.9),
    ),
    measure=measure,
    experiments=(
        PaperExperiment(
            EXPERIMENT,
            (
                "data.subset=400", "teacher.epochs=1", "student.epochs=1", "runner.kind=thread",
                "variants=[hard-labels]",
                'teacher.network={module: "kdmodels.papers.networks:tutorial_light"}',
            ),
        ),
    ),
    own_teachers=False,
    differences=(
        "All students have the same teacher, so the intervals leave out how teachers differ. The accuracy of the one "
        "teacher decides nothing.",
        "2,500 of the 50,000 training images are held out for validation, and the images are JPEG files.",
        "The cosine loss compares features after the mean over positions, and the tutorial compares them flattened. "
        "The regressor is a 1x1 convolution, and that of the tutorial is 3x3.",
    ),
)  # fmt: skip
