"""The MNIST experiments of Hinton et al.: distillation, and classes that the student never saw."""

from collections.abc import Sequence

from kdmodels.papers.claims import Claim, Measurements, chance
from kdmodels.papers.reproduction import TEACHER, PaperExperiment, Predictions, Reproduction, Results, minus

SECTION = "Hinton et al. 2015, section 3"
TRIPLET, WITHOUT_3, ONLY_7_8 = "hinton-mnist", "hinton-mnist-without-3", "hinton-mnist-only-7-8"
ERRORS = "errors"
PAPER = "Hinton, Vinyals, Dean, Distilling the knowledge in a neural network, 2015"


def measure(results: Results) -> Measurements:
    """Measure the numbers of test errors that the paper reports."""
    values: dict[str, Sequence[float]] = {}
    if teacher := results.of(TRIPLET, TEACHER):
        values["teacher"] = teacher.errors
    labels, distilled = results.of(TRIPLET, "hard-labels"), results.of(TRIPLET, "distilled")
    if labels and distilled:
        gain = minus(labels.errors, distilled.errors)
        values |= {"labels": labels.errors, "distilled": distilled.errors, "gain": gain}
    values |= _of_omitted(results.of(WITHOUT_3, "distilled"), "omitted", ["3"])
    values |= _of_omitted(results.of(ONLY_7_8, "distilled"), "alone", ["7", "8"])
    return Measurements(values=values)


def _of_omitted(predictions: Predictions | None, name: str, classes: list[str]) -> dict[str, Sequence[float]]:
    """Return the test errors of students that did not see all classes, before and after a bias correction.

    The errors are counted on all test images, and on the test images of `classes`. The bias correction applies to
    `classes`.
    """
    if predictions is None:
        return {}
    corrected = predictions.shifted(classes)
    return {
        name: predictions.errors,
        f"{name}, on the classes": predictions.errors_of(classes),
        f"{name}, corrected": corrected.errors,
        f"{name}, corrected, on the classes": corrected.errors_of(classes),
    }


def _errors(name: str, text: str, published: int, *, at_most: bool = True) -> Claim:
    """Return a claim about a number of errors. Its range allows for chance in the published number."""
    return Claim(
        name=name,
        text=text,
        published=f"{published:,}",
        source=SECTION,
        low=None if at_most else published - chance(published),
        high=published + chance(published),
        unit=ERRORS,
    )


SMALL = "student.seeds=1", "data.subset=1500", "student.network.mlp=[32]", "student.epochs=2", "teacher.epochs=2"
QUICK = (*SMALL, "teacher.network.mlp=[48]", "runner.kind=thread")
REPRODUCTION = Reproduction(
    name="hinton-mnist",
    title="Distillation on MNIST, and omitted classes",
    papers=(PAPER,),
    cost="about 4 hours (estimated)",
    seeds=5,
    claims=(
        _errors("teacher", "Teacher with 2 x 1,200 units, dropout, max-norm and jitter", 67),
        _errors("labels", "Student with 2 x 800 units on labels alone", 146, at_most=False),
        _errors("distilled", "The same student, distilled at T = 20", 74),
        Claim(
            name="gain", text="Errors on labels alone, less errors when distilled at T = 20", published="72",
            source=SECTION, low=36, unit=ERRORS,
        ),
        _errors("omitted", "No 3 in the transfer set: errors", 206),
        _errors("omitted, on the classes", "No 3 in the transfer set: errors on the 1,010 threes", 133),
        _errors("omitted, corrected", "No 3 in the transfer set, after a bias correction: errors", 109),
        _errors("omitted, corrected, on the classes", "No 3, after a bias correction: errors on the 1,010 threes", 14),
        _errors("alone", "Only 7 and 8 in the transfer set: errors (47.3 %)", 4730),
        _errors("alone, corrected", "Only 7 and 8 in the transfer set, after a bias correction: errors (13.2 %)", 1320),
    ),
    measure=measure,
    experiments=(
        PaperExperiment(TRIPLET, QUICK),
        PaperExperiment(WITHOUT_3, QUICK),
        PaperExperiment(ONLY_7_8, QUICK),
    ),
    differences=(
        "3,000 of the 60,000 training images are held out for validation. The bias correction is chosen on them, and "
        "that of the paper on the test set.",
        "The paper names no optimizer and no number of epochs. Ours are in the experiment files.",
        "A published number of errors counts as reproduced within two standard errors of the number itself.",
        "Each seed has a teacher of its own.",
    ),
)  # fmt: skip
