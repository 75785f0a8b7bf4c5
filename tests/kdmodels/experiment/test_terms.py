"""Weighted losses and their shorthands."""

import pytest
from pydantic import ValidationError

from kdmodels.experiment.terms import Calibrated, TapPair, Term


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("hard_labels", {"loss": "hard_labels", "weight": 1.0}),
        ({"hard_labels": 0.5}, {"loss": "hard_labels", "weight": 0.5}),
        (
            {"soft_targets": {"weight": 0.5, "temperature": 2}},
            {"loss": "soft_targets", "weight": 0.5, "hyperparameters": {"temperature": 2.0}},
        ),
        ({"loss": "hint"}, {"loss": "hint", "weight": 1.0, "at": "middle"}),
        (
            {"dist": {"weight": 2, "warmup": 0.1, "cosine": True}},
            {
                "loss": "dist",
                "weight": 2.0,
                "warmup": 0.1,
                "cosine": True,
                "hyperparameters": {"beta": 2.0, "gamma": 2.0, "temperature": 4.0},
            },
        ),
        (
            {"hint": {"at": ["last", {"student": "a.b", "teacher": "c"}]}},
            {"loss": "hint", "weight": 1.0, "at": ["last", {"student": "a.b", "teacher": "c"}]},
        ),
    ],
)
def test_a_term_s_shorthands(written: object, normal: dict[str, object]) -> None:
    rest = {"warmup": 0.0, "cosine": False, "at": None, "hyperparameters": {}}
    assert Term.model_validate(written).model_dump(mode="json") == rest | normal


def test_a_pair_of_places_is_a_pair() -> None:
    term = Term.model_validate({"hint": {"at": {"student": "a", "teacher": "b"}}})
    assert term.at == TapPair(student="a", teacher="b")


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf"), "1", True, 10**400])
def test_a_weight_is_a_positive_number(weight: object) -> None:
    with pytest.raises(ValidationError):
        Term.model_validate({"hard_labels": weight})


@pytest.mark.parametrize(
    ("weight", "ratio"), [("auto", 1), ({"auto": 0.3}, 0.3), ({"auto": 2}, 2), (Calibrated(auto=5), 5)]
)
def test_a_weight_can_be_calibrated(weight: object, ratio: float) -> None:
    for written in ({"soft_targets": weight}, {"soft_targets": {"weight": weight}}, {"loss": "hint", "weight": weight}):
        term = Term.model_validate(written)
        assert term.weight == Calibrated(auto=ratio)
        assert Term.model_validate(term.model_dump()) == term
        with pytest.raises(ValueError, match=f"the weight of {term.loss} is not calibrated yet"):
            assert term.factor


@pytest.mark.parametrize(
    "weight",
    ["Auto", "1", {"auto": 0}, {"auto": -1}, {"auto": "1"}, {"auto": True}, {"auto": float("inf")}, {}, {"aut": 1}],
)
def test_a_wrong_weight_is_a_mistake(weight: object) -> None:
    with pytest.raises(ValidationError, match=r"expected a number above 0, auto, or {auto: RATIO}, got "):
        Term.model_validate({"loss": "hint", "weight": weight})


@pytest.mark.parametrize("loss", ["hard_labels", "label_smoothing"])
def test_the_weight_of_a_term_on_labels_is_a_number(loss: str) -> None:
    with pytest.raises(ValidationError, match=f"{loss} does not use the teacher. Allowed: a number above 0"):
        Term.model_validate({loss: "auto"})
