"""Users' own losses are trained as those of the catalogue, stacked and one seed after the other."""

from typing import Any

import pytest
import torch

from kdmodels.data import Split
from kdmodels.experiment import Network, Recipe, Term
from kdmodels.knowledge import Knowledge, distil_knowledge
from kdmodels.networks import build, initialise
from kdmodels.randomness import generator_for
from kdmodels.training import Replica, fit

SHAPE: dict[str, Any] = {"input_shape": (1, 8, 8), "classes": 3, "mean": [0.5], "std": [0.25]}
OWN = "tests.support.losses:"
MLP, CONV = Network(mlp=[6, 5]), Network(conv=[4, 5])
PLACES = ["first", "middle", "deepest", "last"]


def split(examples: int, purpose: str) -> Split:
    generator = generator_for(7, purpose)
    labels = torch.randint(3, (examples,), generator=generator)
    return Split(torch.rand(examples, 1, 8, 8, generator=generator) + labels.view(-1, 1, 1, 1) * 0.3, labels)


TRAIN, VALIDATION = split(41, "train"), split(20, "validation")


@pytest.fixture(scope="module")
def knowledge() -> tuple[Knowledge, Knowledge]:
    teacher = build(Network(conv=[6, 8]), **SHAPE)
    initialise(teacher, generator_for(1, "teacher"))
    train, validation = (distil_knowledge(teacher, part, PLACES) for part in (TRAIN, VALIDATION))
    return train, validation


def trained(
    student: Network, term: object, known: tuple[Knowledge, Knowledge], seeds: tuple[int, ...] = (0, 1), **recipe: Any
) -> list[Replica]:
    settings = Recipe.model_validate({"epochs": 2, "batch": 16, **recipe})
    terms = [Term(loss="hard_labels"), Term.model_validate(term)]
    return fit(build(student, **SHAPE), terms, settings, TRAIN, VALIDATION, seeds=seeds, knowledge=known)


def assert_equal(own: list[Replica], catalogue: list[Replica], loss: str, name: str) -> None:
    for one, other in zip(own, catalogue, strict=True):
        assert one.state.keys() == other.state.keys()
        assert all(torch.equal(one.state[key], other.state[key]) for key in other.state)
        renamed = [{key.replace(OWN + loss, name): value for key, value in figures.items()} for figures in one.history]
        assert renamed == other.history


@pytest.mark.parametrize("student", [MLP, CONV], ids=["stacked", "alone"])
@pytest.mark.parametrize(
    ("loss", "fields", "name", "catalogue"),
    [
        ("soft", {"temperature": 2}, "soft_targets", {}),
        ("soft", {"weight": "auto"}, "soft_targets", {}),
        ("smoothed", {}, "label_smoothing", {}),
        ("correlated", {}, "dist", {}),
        ("attention", {"at": "first"}, "attention_transfer", {}),
    ],
)
def test_a_function_equal_to_a_catalogue_loss_trains_bit_for_bit_as_it(
    student: Network, loss: str, fields: dict[str, Any], name: str, catalogue: dict[str, Any],
    knowledge: tuple[Knowledge, Knowledge],
) -> None:  # fmt: skip
    if loss == "attention" and student == MLP:
        pytest.skip("attention needs maps")
    own, expected = (trained(student, {each: fields}, knowledge) for each in (OWN + loss, name))
    assert_equal(own, expected, loss, name)


@pytest.mark.parametrize("loss", ["Projected", "by_numpy", "noisy", "relations"])
def test_a_seed_does_not_depend_on_the_seeds_beside_it(loss: str, knowledge: tuple[Knowledge, Knowledge]) -> None:
    """Parameters of the loss, no vmap, draws from the global generator, and values that depend on the batch."""
    at = {"at": "last"} if loss in ("Projected", "relations") else {}
    both = trained(MLP, {OWN + loss: at}, knowledge)
    for replica in both:
        (alone,) = trained(MLP, {OWN + loss: at}, knowledge, (replica.seed,))
        assert alone.state.keys() | alone.own.keys() == replica.state.keys() | replica.own.keys()
        for one, other in ((alone.state, replica.state), (alone.own, replica.own)):
            for name, tensor in one.items():
                torch.testing.assert_close(tensor, other[name], rtol=1e-4, atol=1e-5)


def test_a_class_is_trained_and_stored_with_the_student(knowledge: tuple[Knowledge, Knowledge]) -> None:
    name = "objective.own.tests/support/losses:Projected.0.loss.bias".removeprefix("objective.own.")
    short, longer = (trained(MLP, {f"{OWN}Projected": {"at": "last"}}, knowledge, epochs=epochs) for epochs in (1, 2))
    for one, other in zip(short, longer, strict=True):
        assert one.own.keys() == {name, name.replace("bias", "regressor.weight")}
        assert not torch.equal(one.own[name], other.own[name])
    assert not torch.equal(short[0].own[name], short[1].own[name])
