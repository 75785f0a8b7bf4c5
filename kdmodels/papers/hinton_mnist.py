"""The MNIST experiments of Hinton et al.: distillation, temperatures, and classes that the student never saw."""

from collections.abc import Sequence

from kdmodels.papers.claims import Claim, Measurements, Table, chance
from kdmodels.papers.reproduction import TEACHER, PaperExperiment, Predictions, Reproduction, Results, minus

SECTION = "Hinton et al. 2015, section 3"
TRIPLET, WITHOUT_3, ONLY_7_8 = "hinton-mnist", "hinton-mnist-without-3", "hinton-mnist-only-7-8"
TEMPERATURES = {800: (1, 2, 4, 8, 12, 20), 300: (1, 2, 4, 8, 12, 20), 30: (1, 2.5, 4, 8, 20)}
"""The temperatures of the students with this number of units in each of two hidden layers."""
HOT = 20
ERRORS = "errors"


def student(units: int, temperature: float) -> str:
    """Return the name of the variant with this number of units and this temperature.

    >>> student(30, 2.5)
    'distilled-30-soft_targets.temperature=2.5'
    """
    return f"distilled-{units}-soft_targets.temperature={temperature:g}"


def measure(results: Results) -> Measurements:
    """Measure the numbers of test errors that the paper reports."""
    values: dict[str, Sequence[float]] = {}
    if teacher := results.of(TRIPLET, TEACHER):
        values["teacher"] = teacher.errors
    labels, hot = results.of(TRIPLET, "hard-labels"), results.of(TRIPLET, student(800, HOT))
    if labels and hot:
        values |= {"labels": labels.errors, "distilled": hot.errors, "gain": minus(labels.errors, hot.errors)}
    values |= _of_temperatures(results)
    values |= _of_omitted(results.of(WITHOUT_3, "distilled"), "omitted", ["3"])
    values |= _of_omitted(results.of(ONLY_7_8, "distilled"), "alone", ["7", "8"])
    return Measurements(values=values, tables=[_table(results, units) for units in TEMPERATURES])


def _of_temperatures(results: Results) -> dict[str, Sequence[float]]:
    """Return the differences between temperatures, for the students that were trained at all of them."""
    values: dict[str, Sequence[float]] = {}
    for units in (800, 300):
        hot, warm = (results.of(TRIPLET, student(units, temperature)) for temperature in (HOT, 8))
        if hot and warm:
            values[f"alike at {units}"] = minus(warm.errors, hot.errors)
    cold, low, middle, hot = (results.of(TRIPLET, student(30, temperature)) for temperature in (1, 2.5, 4, HOT))
    if cold and low and middle and hot:
        best = [(one + other) / 2 for one, other in zip(low.errors, middle.errors, strict=True)]
        values |= {"too cold at 30": minus(cold.errors, best), "too hot at 30": minus(hot.errors, best)}
    return values


def _of_omitted(predictions: Predictions | None, name: str, classes: list[str]) -> dict[str, Sequence[float]]:
    """Return the errors, and the errors on these classes, before and after a bias correction of the classes."""
    if predictions is None:
        return {}
    corrected = predictions.shifted(classes)
    return {
        name: predictions.errors,
        f"{name}, on the classes": predictions.errors_of(classes),
        f"{name}, corrected": corrected.errors,
        f"{name}, corrected, on the classes": corrected.errors_of(classes),
    }


def _table(results: Results, units: int) -> Table:
    labels = "hard-labels" if units == 800 else f"labels-{units}"
    names = {"labels alone": labels} | {f"T = {t:g}": student(units, t) for t in TEMPERATURES[units]}
    runs = {row: results.of(TRIPLET, name) for row, name in names.items()}
    return Table(
        title=f"Test errors of students with 2 x {units} units",
        unit=ERRORS,
        rows={row: predictions.errors for row, predictions in runs.items() if predictions},
    )


def _errors(name: str, text: str, published: int, *, at_most: bool = True) -> Claim:
    """Return a claim about a number of errors. The published number itself varies by chance."""
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
TRIPLET_ALONE = "variants=[hard-labels, {name: distilled-800, terms: [{hard_labels: 0.1}, {soft_targets: {weight: 0.9, "
REPRODUCTION = Reproduction(
    name="hinton-mnist",
    title="Distillation on MNIST, temperatures, and omitted classes",
    papers=("Hinton, Vinyals, Dean, Distilling the knowledge in a neural network, 2015",),
    cost="about 7 hours (estimated)",
    seeds=5,
    claims=(
        _errors("teacher", "Teacher with 2 x 1,200 units, dropout, max-norm and jitter", 67),
        _errors("labels", "Student with 2 x 800 units on labels alone", 146, at_most=False),
        _errors("distilled", "The same student, distilled at T = 20", 74),
        Claim(
            name="gain", text="Errors on labels alone, less errors when distilled at T = 20", published="72",
            source=SECTION, low=36, unit=ERRORS,
        ),
        *(
            Claim(
                name=f"alike at {units}", text=f"2 x {units} units: errors at T = 8, less errors at T = 20",
                published="fairly similar for all temperatures above 8", source=SECTION,
                low=-chance(74), high=chance(74), unit=ERRORS,
            )
            for units in (800, 300)
        ),
        Claim(
            name="too cold at 30", text="2 x 30 units: errors at T = 1, less mean errors at T = 2.5 and 4",
            published="2.5 to 4 works significantly better than lower temperatures", source=SECTION, low=0, unit=ERRORS,
        ),
        Claim(
            name="too hot at 30", text="2 x 30 units: errors at T = 20, less mean errors at T = 2.5 and 4",
            published="2.5 to 4 works significantly better than higher temperatures", source=SECTION, low=0,
            unit=ERRORS,
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
        PaperExperiment(TRIPLET, (*QUICK, TRIPLET_ALONE + "temperature: [8, 20]}}]}]")),
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
