"""The number of stored views: by the budget or the file, and never more than the student sees."""

import re
from typing import Any

import pytest

from kdmodels.errors import UserError
from kdmodels.experiment import Data, Experiment
from tasks.planning.views import choose_views
from tasks.references import DataReference, Views

MAP = {"deepest": (8, 4, 4)}
VIEW, VALIDATION = 2 * 1000 * (10 + 128), 2 * 100 * (10 + 128)  # bytes of logits and map of all examples


def choice(
    epochs: int, augment: list[Any] | None = None, variants: tuple[Any, ...] = ("kd",), **knowledge: Any
) -> Views:
    data = Data.model_validate({"source": "digits", "augment": augment or []})
    reference = DataReference(
        data=data, folder=None, digest="", training_digest="", distillation_digest="",
        examples={"train": 1000, "taught": 1000, "validation": 100, "test": 100},
        input_shape=(1, 8, 8), classes=[str(number) for number in range(10)], mean=[0.5], std=[0.2],
    )  # fmt: skip
    network = {"network": {"mlp": [4]}, "epochs": epochs}
    experiment = Experiment.model_validate(
        {
            "name": "x",
            "data": data,
            "teacher": network,
            "student": network,
            "variants": list(variants),
            "knowledge": knowledge,
        }
    )
    return choose_views(experiment, reference, MAP)


JITTER = [{"jitter": 1}]


@pytest.mark.parametrize(
    ("epochs", "augment", "budget", "count"),
    [
        (20, [], VIEW + VALIDATION, 1),
        (20, [], VIEW + VALIDATION - 1, 0),
        (20, JITTER, 20 * VIEW + VALIDATION, 20),
        (20, JITTER, 20 * VIEW + VALIDATION - 1, 19),
        (20, JITTER, 4 * VIEW + VALIDATION, 4),
        (20, JITTER, 4 * VIEW + VALIDATION - 1, 0),
        (3, JITTER, 3 * VIEW + VALIDATION, 3),
        (3, JITTER, 3 * VIEW + VALIDATION - 1, 0),
        (20, JITTER, 0, 0),
    ],
)  # fmt: skip
def test_as_many_views_are_stored_as_fit(epochs: int, augment: list[Any], budget: int, count: int) -> None:
    assert choice(epochs, augment, budget=budget).count == count


def test_the_reason_names_both_sizes() -> None:
    assert choice(20, JITTER, budget="2GB").reason == "take 5.5MB; the budget is 2.0GB"
    assert choice(20, JITTER, budget="1MB").reason == "4 views would take 1.1MB; the budget is 1.0MB"
    assert choice(20, [], budget=1000).reason == "1 view would take 303.6KB; the budget is 1.0KB"
    assert choice(20, JITTER, views=7).reason == "set in the file; take 2.0MB"
    assert choice(20, JITTER, views=0).reason == "set in the file"


def test_more_views_than_epochs_are_not_stored() -> None:
    assert choice(5, JITTER, views=7).count == 5
    assert choice(5, JITTER, views=0) == Views(count=0, reason="set in the file")


def test_the_longest_student_decides() -> None:
    longer = {"name": "long", "terms": "kd", "student": {"network": {"mlp": [4]}, "epochs": 9}}
    assert choice(5, JITTER, ("kd", longer)).count == 9
    assert choice(12, JITTER, ("kd", longer)).count == 12


def test_required_views_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(
        UserError,
        match=re.escape("knowledge.views: 9 views take 2.5MB, and knowledge.budget is 1.0MB. Allowed: at most 3, auto"),
    ):
        choice(20, JITTER, views=9, budget="1MB")
    with pytest.raises(UserError, match=r"1 view take.* Allowed: 0 \(a live teacher\), auto, or a larger budget"):
        choice(20, views=1, budget=10)
