"""The plot of a search: its size, and what each panel shows."""

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from kdmodels.report.tuning import figure_of_search
from kdmodels.training.tuning import Trial

TRIALS = [
    Trial({"lr": 0.001, "soft_targets.weight": 1.0, "soft_targets.temperature": 4.0}, 0.75),
    Trial({"lr": 0.01, "soft_targets.weight": 0.2, "soft_targets.temperature": 9.0}, 0.875),
    Trial({"lr": 0.005, "soft_targets.weight": 7.0, "soft_targets.temperature": 2.0}, None),
    Trial({"lr": 0.0002, "soft_targets.weight": 3.0, "soft_targets.temperature": 1.5}, 0.5),
]


def points(panel: Axes) -> dict[str, list[tuple[float, float]]]:
    """Return the points of each line by its label."""
    return {
        str(line.get_label()): list(zip(*map(np.ndarray.tolist, map(np.asarray, line.get_data())), strict=True))
        for line in panel.get_lines()
    }


def test_the_image_has_one_panel_of_360_by_400_pixels_per_hyperparameter() -> None:
    file = BytesIO()
    figure_of_search(TRIALS, "kd").savefig(file, format="png")
    with Image.open(file) as image:
        assert (image.format, image.size) == ("PNG", (1080, 400))


def test_each_panel_shows_the_finished_trials_the_chosen_one_and_that_of_the_file() -> None:
    figure = figure_of_search(TRIALS, "kd")
    rates, weights, temperatures = figure.axes
    assert points(rates) == {
        "trial": [(0.001, 75.0), (0.01, 87.5), (0.0002, 50.0)],
        "values of the experiment file": [(0.001, 75.0)],
        "chosen trial": [(0.01, 87.5)],
    }
    assert points(weights)["trial"] == [(1.0, 75.0), (0.2, 87.5), (3.0, 50.0)]
    assert points(temperatures)["chosen trial"] == [(9.0, 87.5)]
    markers = [str(line.get_marker()) for line in rates.get_lines()]
    assert len(set(markers)) == 3
    assert {panel.get_xscale() for panel in figure.axes} == {"log"}


def test_the_labels_are_words() -> None:
    figure = figure_of_search(TRIALS, "kd")
    assert [panel.get_xlabel() for panel in figure.axes] == [
        "learning rate",
        "weight factor of soft_targets",
        "temperature of soft_targets",
    ]
    assert figure.axes[0].get_ylabel() == "accuracy on the inner split (%)"
    assert figure.get_suptitle() == "kd\n4 trials, 1 diverged and left out"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "trial",
        "values of the experiment file",
        "chosen trial",
    ]


def test_every_x_axis_has_at_least_two_labelled_ticks() -> None:
    figure = figure_of_search(TRIALS, "kd")
    figure.savefig(BytesIO(), format="png")
    for panel in figure.axes:
        low, high = panel.get_xlim()
        labels = [tick.get_text() for tick, place in zip(panel.get_xticklabels(), panel.get_xticks(), strict=True)
                  if low <= place <= high]  # fmt: skip
        assert len(list(filter(None, labels))) >= 2


def test_a_search_whose_trials_all_diverged_has_an_empty_plot() -> None:
    figure = figure_of_search([Trial({"lr": 0.1}, None), Trial({"lr": 1.0}, None)], "hard-labels")
    (panel,) = figure.axes
    assert set(map(len, points(panel).values())) == {0}
    figure.savefig(BytesIO(), format="png")


def test_threads_can_draw_at_the_same_time() -> None:
    def drawn(_: int) -> bytes:
        file = BytesIO()
        figure_of_search(TRIALS, "kd").savefig(file, format="png")
        return file.getvalue()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(drawn, range(8)))) == 1
