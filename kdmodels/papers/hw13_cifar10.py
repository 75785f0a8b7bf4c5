"""A course homework on network compression, on CIFAR-10. Each of its levels should be more accurate than the last."""

from collections.abc import Sequence

from kdmodels.papers.claims import Claim, Measurements, Table
from kdmodels.papers.reproduction import TEACHER, PaperExperiment, Reproduction, Results, accuracies, minus

EXPERIMENT = "hw13-cifar10"
HOMEWORK = "Course homework on network compression"
BOSSES = {"fitnet": "FitNet", "rkd": "RKD", "dm": "DM"}
STUDENTS = ("hard-labels", "medium", "strong", *(f"boss-{name}" for name in BOSSES))


def measure(results: Results) -> Measurements:
    """Measure the test accuracy of the teacher and of all levels, and the gain of each level over the level below."""
    accuracy = accuracies(results, EXPERIMENT, (TEACHER, *STUDENTS))
    values: dict[str, Sequence[float]] = {}
    if len(accuracy) == 1 + len(STUDENTS):
        values = {
            "medium": minus(accuracy["medium"], accuracy["hard-labels"]),
            "strong": minus(accuracy["strong"], accuracy["medium"]),
            **{f"boss-{name}": minus(accuracy[f"boss-{name}"], accuracy["strong"]) for name in BOSSES},
        }
    return Measurements(values=values, tables=[Table(title="Test accuracy", unit="%", rows=accuracy)])


def _claim(name: str, text: str) -> Claim:
    published = "no number: each level is more accurate"
    return Claim(name=name, text=text, published=published, source=HOMEWORK, low=0, unit="points")


REPRODUCTION = Reproduction(
    name=EXPERIMENT,
    title="The levels of the homework on network compression",
    papers=(HOMEWORK,),
    cost="about 5 hours (estimated)",
    seeds=3,
    claims=(
        _claim("medium", "Accuracy with soft targets, less that on labels alone"),
        _claim("strong", "Accuracy with depthwise convolutions and twice the epochs, less that of the medium level"),
        *(
            _claim(f"boss-{name}", f"Accuracy with {word}, less that of the strong level")
            for name, word in BOSSES.items()
        ),
    ),
    measure=measure,
    experiments=(
        PaperExperiment(
            EXPERIMENT,
            (
                "data.subset=400", "data.augment=[]", "teacher.epochs=1", "teacher.network={conv: [8, 8]}",
                "student.epochs=1", "student.network={conv: [4, 4]}", "runner.kind=thread", "variants=[hard-labels]",
            ),
        ),
    ),
    own_teachers=False,
    differences=(
        "The homework has 11 classes of food at 128 x 128 pixels, and ours is CIFAR-10 at 32 x 32.",
        "20,000 of the 50,000 training images are used.",
        "The teacher is a small CNN that trains on a CPU, and that of the homework is a ResNet-18.",
        "All students have the same teacher, so the intervals leave out how teachers differ.",
    ),
)  # fmt: skip
