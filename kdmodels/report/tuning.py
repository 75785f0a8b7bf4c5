"""The plot of a hyperparameter search: the accuracy of the trials against the value of each hyperparameter."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from kdmodels.experiment.tune import LR
from kdmodels.training.tuning import Trial, best

PANEL_INCHES, HEIGHT_INCHES, DPI = 3.6, 4.0, 100
LEFT_INCHES, RIGHT_INCHES, TOP_INCHES = 0.75, 0.15, 0.55
FEW_DECADES = 1_000
"""Ticks between powers of 10 are labelled if the ratio of the highest to the lowest value is below this number."""


def figure_of_search(trials: Sequence[Trial], variant: str) -> Figure:
    """Draw the trials of a search, with one panel per hyperparameter.

    The x-axis is the value, on a logarithmic scale. The y-axis is the accuracy on the inner split. A star marks the
    chosen trial, and a square marks the trial with the values of the experiment file. Diverged trials are left out.

    The figure does not use pyplot's global state, so several threads can draw at the same time.

    Args:
        trials: The trials, at least one. The first trial has the values of the experiment file.
        variant: The name of the variant, for the title.

    Returns:
        The figure. Its method `savefig` writes a file.
    """
    names = list(trials[0].values)
    width, legend_columns = PANEL_INCHES * len(names), 3 if len(names) > 1 else 1
    figure = Figure(figsize=(width, HEIGHT_INCHES), dpi=DPI)
    figure.subplots_adjust(  # a layout engine would double the time
        left=LEFT_INCHES / width,
        right=1 - RIGHT_INCHES / width,
        bottom=(1.4 if legend_columns == 1 else 0.95) / HEIGHT_INCHES,
        top=1 - TOP_INCHES / HEIGHT_INCHES,
        wspace=0.08,
    )
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for name, panel in zip(names, panels, strict=True):
        _draw(panel, name, trials)
    panels[0].set_ylabel("accuracy on the inner split (%)")
    diverged = sum(trial.accuracy is None for trial in trials)
    left_out = f", {diverged} diverged and left out" if diverged else ""
    figure.suptitle(f"{variant}\n{len(trials)} trials{left_out}", fontsize="medium")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="lower center", ncols=legend_columns)
    return figure


def axis_in_words(name: str) -> str:
    """Return the axis label of a hyperparameter.

    >>> axis_in_words("lr"), axis_in_words("soft_targets.weight"), axis_in_words("dist.gamma")
    ('learning rate', 'weight factor of soft_targets', 'gamma of dist')
    """
    if name == LR:
        return "learning rate"
    loss, _, number = name.rpartition(".")
    return f"{'weight factor' if number == 'weight' else number} of {loss}"


def _draw(panel: Axes, name: str, trials: Sequence[Trial]) -> None:
    """Draw the finished trials in the panel of a hyperparameter. The markers can be told apart without colour."""
    for label, shown, marker, size, fill in [
        ("trial", trials, "o", 5, "none"),
        ("values of the experiment file", trials[:1], "s", 13, "none"),
        ("chosen trial", [best(trials)], "*", 11, "black"),
    ]:
        finished = [(trial.values[name], 100 * trial.accuracy) for trial in shown if trial.accuracy is not None]
        panel.plot(
            [value for value, _ in finished],
            [accuracy for _, accuracy in finished],
            label=label,
            linestyle="none",
            marker=marker,
            markersize=size,
            markerfacecolor=fill,
            markeredgecolor="black",
        )
    panel.set_xscale("log")
    values = [trial.values[name] for trial in trials]
    steps = (1.0, 3.0) if max(values) < FEW_DECADES * min(values) else (1.0,)
    panel.xaxis.set_major_locator(LogLocator(subs=steps))
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlabel(axis_in_words(name))
    panel.grid(visible=True, linewidth=0.3)
