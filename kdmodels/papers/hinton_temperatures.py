"""The temperatures of Hinton et al. on MNIST, for students of three sizes."""

from collections.abc import Sequence

from kdmodels.papers.claims import Claim, Measurements, Table, chance
from kdmodels.papers.hinton_mnist import ERRORS, PAPER, QUICK, SECTION
from kdmodels.papers.reproduction import PaperExperiment, Reproduction, Results, minus

EXPERIMENT = "hinton-temperatures"
TEMPERATURES = {800: (1, 2, 4, 8, 12, 20), 300: (1, 2, 4, 8, 12, 20), 30: (1, 2.5, 4, 8, 20)}
"""The temperatures at which students are trained, by the number of units in each of the two hidden layers."""
HOT = 20
DISTILLED = 74  # published errors with 2 x 800 units; numbers that differ by at most `chance(DISTILLED)` count as alike


def student(units: int, temperature: float) -> str:
    """Return the name of the variant with this number of units and this temperature.

    >>> student(30, 2.5)
    'distilled-30-soft_targets.temperature=2.5'
    """
    return f"distilled-{units}-soft_targets.temperature={temperature:g}"


def measure(results: Results) -> Measurements:
    """Measure how the errors differ between temperatures, for each size of student that was trained at all of them."""
    values: dict[str, Sequence[float]] = {}
    for units in (800, 300):
        hot, warm = (results.of(EXPERIMENT, student(units, temperature)) for temperature in (HOT, 8))
        if hot and warm:
            values[f"alike at {units}"] = minus(warm.errors, hot.errors)
    cold, low, middle, hot = (results.of(EXPERIMENT, student(30, temperature)) for temperature in (1, 2.5, 4, HOT))
    if cold and low and middle and hot:
        best = [(one + other) / 2 for one, other in zip(low.errors, middle.errors, strict=True)]
        values |= {"too cold at 30": minus(cold.errors, best), "too hot at 30": minus(hot.errors, best)}
    return Measurements(values=values, tables=[_table(results, units) for units in TEMPERATURES])


def _table(results: Results, units: int) -> Table:
    labels = "hard-labels" if units == 800 else f"labels-{units}"
    names = {"labels alone": labels} | {f"T = {t:g}": student(units, t) for t in TEMPERATURES[units]}
    runs = {row: results.of(EXPERIMENT, name) for row, name in names.items()}
    return Table(
        title=f"Test errors of students with 2 x {units} units",
        unit=ERRORS,
        rows={row: predictions.errors for row, predictions in runs.items() if predictions},
    )


TWO_TEMPERATURES = (
    "variants=[hard-labels, {name: distilled-800, terms: [{hard_labels: 0.1}, "
    "{soft_targets: {weight: 0.9, temperature: [8, 20]}}]}]"
)
REPRODUCTION = Reproduction(
    name="hinton-temperatures",
    title="Temperatures on MNIST, for students of three sizes",
    papers=(PAPER,),
    cost="about 4 hours (estimated)",
    seeds=3,
    claims=(
        *(
            Claim(
                name=f"alike at {units}", text=f"2 x {units} units: errors at T = 8, less errors at T = 20",
                published="fairly similar for all temperatures above 8", source=SECTION,
                low=-chance(DISTILLED), high=chance(DISTILLED), unit=ERRORS,
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
    ),
    measure=measure,
    experiments=(PaperExperiment(EXPERIMENT, (*QUICK, TWO_TEMPERATURES)),),
    differences=(
        "3,000 of the 60,000 training images are held out for validation.",
        "The paper names no optimizer and no number of epochs. Ours are in the experiment file.",
    ),
)  # fmt: skip
