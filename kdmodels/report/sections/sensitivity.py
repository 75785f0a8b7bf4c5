"""The section about sensitivity: the accuracy against each hyperparameter of a grid or of a search."""

from collections.abc import Sequence

from kdmodels.report.channels import Channel, colours, grid, number, tooltip, values
from kdmodels.report.components import Chart, Component, Section, Spec
from kdmodels.report.contents import Contents, Trial
from kdmodels.report.numbers import points, rounded

COLUMNS = 3  # number of panels side by side
FEWEST = 3  # minimum number of variants of a grid that is drawn
LARGE_RATIO = 10.0  # minimum ratio of the largest to the smallest value for a logarithmic axis


def sensitivity_section(contents: Contents) -> Section | None:
    """Return the section about sensitivity. `None` if there is neither a grid nor a search."""
    components: list[Component] = []
    if len(_finished(contents.grid)) >= FEWEST:
        title = "Grids: accuracy on the validation images against each hyperparameter"
        components.append(_chart("grid", title, "validation accuracy (%)", contents.grid))
    if _finished(contents.trials):
        title = "Searches: accuracy on the inner split of the training images against each hyperparameter"
        components.append(_chart("search", title, "inner accuracy (%)", contents.trials))
    return Section("sensitivity", "Sensitivity to hyperparameters", components) if components else None


def _chart(chart_name: str, title: str, y_title: str, trials: Sequence[Trial]) -> Chart:
    finished = _finished(trials)
    names = list(dict.fromkeys(hyperparameter for trial in finished for hyperparameter in trial.values))
    variants = list(dict.fromkeys(trial.variant for trial in finished))
    colour = colours("variant", "variant", variants)
    panels = [_panel(names.index(each), each, y_title, finished, colour) for each in names]
    spec: Spec = grid(panels, COLUMNS)
    diverged = len(trials) - len(finished)
    left_out = f" {diverged} more diverged and are left out." if diverged else ""
    best = max(finished, key=lambda trial: trial.accuracy or 0.0)
    chosen = ", ".join(f"{hyperparameter} {value:.4g}" for hyperparameter, value in best.values.items())
    description = (
        f"One point for each of {len(finished)} settings of {', '.join(variants)}.{left_out} The most accurate setting "
        f"is {chosen} of {best.variant}."
    )
    return Chart(chart_name, title, description, spec)


def _panel(index: int, hyperparameter: str, y_title: str, trials: Sequence[Trial], colour: Channel) -> Channel:
    chosen = [trial for trial in trials if hyperparameter in trial.values]
    rows: list[Channel] = [
        {
            "variant": trial.variant,
            "value": rounded(trial.values[hyperparameter]),
            "accuracy": points(trial.accuracy),
        }
        for trial in chosen
    ]
    numbers = [trial.values[hyperparameter] for trial in chosen]
    log = min(numbers) > 0 and max(numbers) >= LARGE_RATIO * min(numbers)
    return {
        "width": 230,
        "height": 170,
        "data": values(rows),
        "mark": {"type": "point", "filled": True, "size": 60, "opacity": 0.8},
        "encoding": {
            "x": number("value", hyperparameter, log=log),
            "y": number("accuracy", y_title if index % COLUMNS == 0 else None),
            "color": colour,
            "shape": colour,
            "tooltip": tooltip("variant", value=".4~g", accuracy=".2f"),
        },
    }


def _finished(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that did not diverge and that have hyperparameters."""
    return [trial for trial in trials if trial.values and trial.accuracy is not None]
