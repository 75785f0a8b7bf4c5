"""Soft targets, features and both, with and without labels, on MNIST and on the digits."""

from collections.abc import Sequence

from kdmodels.papers.claims import Claim, Measurements, Table
from kdmodels.papers.reproduction import TEACHER, PaperExperiment, Reproduction, Results, accuracies, minus

NOTES = "Course notes on soft-label, feature and combined distillation"
EXPERIMENTS = {"MNIST": "soft-feature-mnist", "digits": "soft-feature-digits"}
ALPHAS = ("0.1", "1", "10")
POINTS = "points"
VARIANTS = [
    "hard-labels", "soft", "features", *(f"combined-hint.weight={alpha}" for alpha in ALPHAS),
    "labels+soft", "labels+features", *(f"labels+combined-hint.weight={alpha}" for alpha in ALPHAS),
]  # fmt: skip
MIDDLE = "combined-hint.weight=1"


def measure(results: Results) -> Measurements:
    """Measure the test accuracy of all students, and the differences between them."""
    values: dict[str, Sequence[float]] = {}
    tables = []
    for data, experiment in EXPERIMENTS.items():
        accuracy = accuracies(results, experiment, (TEACHER, *VARIANTS))
        tables.append(Table(title=f"Test accuracy on {data}", unit="%", rows=accuracy))
        if len(accuracy) == 1 + len(VARIANTS):
            values |= {
                f"{data}: soft": minus(accuracy["soft"], accuracy["hard-labels"]),
                f"{data}: features": minus(accuracy["soft"], accuracy["features"]),
                f"{data}: combined": minus(accuracy[MIDDLE], accuracy["soft"]),
                f"{data}: combined with labels": minus(accuracy[f"labels+{MIDDLE}"], accuracy["labels+soft"]),
            }
    return Measurements(values=values, tables=tables)


def _claims(data: str) -> tuple[Claim, ...]:
    return (
        Claim(
            name=f"{data}: soft", text=f"{data}: accuracy of soft targets without labels, less that of labels alone",
            published="no number: soft targets alone teach the student", source=NOTES, low=-0.5, unit=POINTS,
        ),
        Claim(
            name=f"{data}: features", text=f"{data}: accuracy of soft targets alone, less that of features alone",
            published="no number: features alone train no last layer", source=NOTES, low=0, unit=POINTS,
        ),
        Claim(
            name=f"{data}: combined", text=f"{data}: accuracy of soft targets and features (α 1), less soft alone",
            published="no number: features add to soft targets", source=NOTES, low=0, unit=POINTS,
        ),
        Claim(
            name=f"{data}: combined with labels", text=f"{data}: the same, with labels in both",
            published="no number: features add to soft targets", source=NOTES, low=0, unit=POINTS,
        ),
    )  # fmt: skip


QUICK = ("student.epochs=2", "teacher.epochs=2", "teacher.network.mlp=[24, 12]", "runner.kind=thread")
REPRODUCTION = Reproduction(
    name="soft-feature-combined",
    title="Soft-label, feature and combined distillation",
    papers=(NOTES,),
    cost="10 minutes",
    seeds=5,
    claims=tuple(claim for data in EXPERIMENTS for claim in _claims(data)),
    measure=measure,
    experiments=(
        PaperExperiment(
            EXPERIMENTS["MNIST"], (*QUICK, "data.subset=500", "variants=[hard-labels]", "student.network.mlp=[8]")
        ),
        PaperExperiment(EXPERIMENTS["digits"], (*QUICK, "student.network.mlp=[8]")),
    ),
    differences=(
        "The notes publish no numbers. The ranges are our reading of what the notes expect.",
        "The last layer of a student that learns from features alone is a linear probe, trained on the labels.",
        "On MNIST, 20,000 training images are used.",
    ),
)
