"""Calibrated weights: their size, that all replicas share them, and that choosing them changes nothing."""

import math
from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdmodels.data import Split
from kdmodels.errors import UserError
from kdmodels.experiment import Network, Recipe, Term
from kdmodels.experiment.catalogue import LOSSES
from kdmodels.experiment.presets import PRESETS
from kdmodels.experiment.terms import Calibrated
from kdmodels.knowledge import LOGITS, Knowledge, distil_knowledge
from kdmodels.networks import build, find_tap, initialise
from kdmodels.randomness import generator_for
from kdmodels.training import Calibration, fit
from kdmodels.training.batches import Batches
from kdmodels.training.calibration import calibrate

SHAPE = {"input_shape": (1, 8, 8), "classes": 3, "mean": [0.5], "std": [0.25]}
PLACES = ["first", "middle", "deepest", "last"]
MLP, CONV = Network(mlp=[6]), Network(conv=[2, 3, 4])
WHOLE = Recipe(epochs=2, batch=64)  # every batch holds all 41 examples


def split(examples: int, purpose: str) -> Split:
    generator = generator_for(7, purpose)
    labels = torch.randint(3, (examples,), generator=generator)
    return Split(torch.rand(examples, 1, 8, 8, generator=generator) + labels.view(-1, 1, 1, 1) * 0.3, labels)


TRAIN, VALIDATION = split(41, "train"), split(20, "validation")


@pytest.fixture(scope="module")
def knowledge() -> tuple[Knowledge, Knowledge]:
    teacher = build(Network(conv=[6, 8, 10]), **SHAPE)
    initialise(teacher, generator_for(1, "teacher"))
    train, validation = (distil_knowledge(teacher, part, PLACES) for part in (TRAIN, VALIDATION))
    return train, validation


def calibrate_one(network: nn.Module, terms: list[Term], *arguments: Any) -> Calibration:
    (calibration,) = calibrate(network, [terms], *arguments)
    return calibration


def calibrated(
    known: tuple[Knowledge, Knowledge],
    *written: Any,
    student: Network = MLP,
    recipe: Recipe = WHOLE,
    data: Split = TRAIN,
) -> Calibration:
    terms = [term if isinstance(term, Term) else Term.model_validate(term) for term in written]
    shapes = known[1].shapes((1, 8, 8))
    return calibrate_one(build(student, **SHAPE), terms, recipe, Batches(data, [known[0]]), shapes)


def plain_norm(value: Tensor, network: nn.Module, without: str = "none") -> float:
    parameters = [parameter for name, parameter in network.named_parameters() if not name.startswith(without)]
    gradients = torch.autograd.grad(value, parameters, retain_graph=True)
    return torch.cat([gradient.flatten() for gradient in gradients]).norm().item()


@pytest.mark.parametrize("network", [MLP, CONV], ids=["stacked", "convolutions"])
def test_the_gradient_of_a_calibrated_term_is_as_large_as_that_of_cross_entropy(
    network: Network, knowledge: tuple[Knowledge, Knowledge]
) -> None:
    student = build(network, **SHAPE)
    initialise(student, generator_for(0, "student"))
    student.train()
    teacher = knowledge[0].of(torch.arange(41), TRAIN.images)[LOGITS]
    of_labels = plain_norm(F.cross_entropy(student(TRAIN.images), TRAIN.labels), student)
    of_term = plain_norm((student(TRAIN.images) - teacher).square().mean(), student)
    result = calibrated(knowledge, "hard_labels", {"logit_regression": "auto"}, student=network)
    assert result.terms[1].factor == pytest.approx(of_labels / of_term, rel=1e-4)
    assert result.ratios == {"logit_regression": pytest.approx(1)}
    assert calibrated(knowledge, {"logit_regression": 2}, student=network).ratios == {
        "logit_regression": pytest.approx(2 * of_term / of_labels, rel=1e-4)
    }


def test_only_the_parameters_that_the_term_trains_are_compared(knowledge: tuple[Knowledge, Knowledge]) -> None:
    student = build(MLP, **SHAPE)
    initialise(student, generator_for(0, "student"))
    last = find_tap(student.train(), "last")
    with last.on(student) as caught:
        logits = student(TRAIN.images)
    teacher = torch.randn(41, 6, generator=generator_for(2, "teacher"))
    value = (1 - F.cosine_similarity(caught[0], teacher)).mean()
    head = last.module  # the term does not reach the last layer
    expected = plain_norm(value, student, head) / plain_norm(F.cross_entropy(logits, TRAIN.labels), student, head)
    batches = Batches(TRAIN, [Knowledge(knowledge[0].logits, {"last": teacher})])
    result = calibrate_one(student, [Term(loss="cosine_features", at="last")], WHOLE, batches, {"last": (6,)})
    assert result.ratios["cosine_features"] == pytest.approx(expected, rel=1e-4)


def test_terms_share_the_ratio(knowledge: tuple[Knowledge, Knowledge]) -> None:
    alone = calibrated(knowledge, {"soft_targets": "auto"}).terms[0].factor
    result = calibrated(
        knowledge, {"soft_targets": {"weight": {"auto": 3}}}, {"logit_regression": "auto"}, {"cosine_features": 0.5}
    )
    assert result.terms[0].factor == pytest.approx(alone * 3 / 2)
    assert result.ratios["soft_targets"] == pytest.approx(1.5)
    assert result.ratios["logit_regression"] == pytest.approx(0.5)
    assert result.terms[2].weight == 0.5


def test_cross_entropy_is_measured_on_labelled_examples(knowledge: tuple[Knowledge, Knowledge]) -> None:
    labels = TRAIN.labels.clone()
    labels[10:] = -1
    mixed = Split(TRAIN.pixels, labels)
    student = build(MLP, **SHAPE)
    initialise(student, generator_for(0, "student"))
    of_labels = plain_norm(F.cross_entropy(student(TRAIN.images[:10]), labels[:10]), student)
    teacher = knowledge[0].of(torch.arange(41), TRAIN.images)[LOGITS]
    of_term = plain_norm((student(TRAIN.images) - teacher).square().mean(), student)
    weight = calibrated(knowledge, {"logit_regression": "auto"}, data=mixed).terms[0].factor
    assert weight == pytest.approx(of_labels / of_term, rel=1e-4)


@pytest.mark.parametrize("network", [MLP, CONV], ids=["stacked", "convolutions"])
def test_calibrating_changes_nothing_else(network: Network, knowledge: tuple[Knowledge, Knowledge]) -> None:
    student, recipe = build(network, **SHAPE), Recipe(epochs=2, batch=16)
    before, random = deepcopy(student.state_dict()), torch.get_rng_state()
    terms = [Term.model_validate(each) for each in ("hard_labels", {"contrastive_representation": "auto"})]
    seen: list[Calibration] = []
    of_auto = fit(
        student, terms, recipe, TRAIN, VALIDATION, seeds=[3, 4], knowledge=knowledge, on_calibration=seen.append
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in student.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    of_numbers = fit(student, seen[0].terms, recipe, TRAIN, VALIDATION, seeds=[3, 4], knowledge=knowledge)
    assert [replica.history for replica in of_auto] == [replica.history for replica in of_numbers]
    fit(student, terms, recipe, TRAIN, VALIDATION, seeds=[9], knowledge=knowledge, on_calibration=seen.append)
    assert seen[1] == seen[0]  # other seeds, equal weights


@pytest.mark.parametrize("name", [name for name in PRESETS if len(PRESETS[name].terms) > 1])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_preset_can_be_calibrated(name: str, precision: str, knowledge: tuple[Knowledge, Knowledge]) -> None:
    recipe = Recipe(epochs=1, batch=16, precision=precision)
    terms = [
        term if LOSSES[term.loss].needs == "labels" else term.model_copy(update={"weight": Calibrated(auto=1)})
        for term in PRESETS[name].terms
    ]
    result = calibrated(knowledge, *terms, student=CONV, recipe=recipe)
    parts = sum(isinstance(term.weight, Calibrated) for term in terms)
    assert all(math.isfinite(term.factor) and term.factor > 0 for term in result.terms)
    assert result.ratios == {loss: pytest.approx(1 / parts) for loss in result.ratios}
    assert len(result.ratios) == parts


def test_a_term_without_gradient_cannot_be_calibrated(knowledge: tuple[Knowledge, Knowledge]) -> None:
    silent = Knowledge(knowledge[0].logits, {"last": torch.zeros(41, 6)})
    term = Term.model_validate({"cosine_features": {"weight": "auto", "at": "last"}})
    with pytest.raises(UserError, match=r"^cosine_features: weight auto .* the ratio is 0 at the start"):
        calibrate_one(build(MLP, **SHAPE), [term], WHOLE, Batches(TRAIN, [silent]), {"last": (6,)})
    number = term.model_copy(update={"weight": 2.0})
    assert calibrate_one(build(MLP, **SHAPE), [number], WHOLE, Batches(TRAIN, [silent]), {"last": (6,)}).ratios == {
        "cosine_features": 0
    }


def test_without_labels_the_first_term_takes_the_place_of_cross_entropy(knowledge: tuple[Knowledge, Knowledge]) -> None:
    unlabelled = Split(TRAIN.pixels, torch.full_like(TRAIN.labels, -1))
    alone = calibrated(knowledge, {"soft_targets": "auto"}, data=unlabelled, student=CONV)
    both = calibrated(knowledge, {"soft_targets": "auto"}, {"simple_recipe": "auto"}, data=unlabelled, student=CONV)
    assert [term.weight for term in alone.terms] == [pytest.approx(1)]
    assert both.ratios == {"soft_targets": pytest.approx(0.5), "simple_recipe": pytest.approx(0.5)}
    assert both.terms[0].weight == pytest.approx(0.5)
    assert both.terms[1].weight != pytest.approx(0.5)
    assert calibrated(knowledge, {"soft_targets": 2}, data=unlabelled).ratios == {"soft_targets": pytest.approx(2)}


@pytest.mark.parametrize("loss", ["hint", "simple_recipe", "soft_targets"])
def test_one_labelled_example_is_enough(loss: str, knowledge: tuple[Knowledge, Knowledge]) -> None:
    labels = torch.full_like(TRAIN.labels, -1)
    labels[17] = 1
    result = calibrated(knowledge, {loss: "auto"}, data=Split(TRAIN.pixels, labels), student=CONV)
    assert result.ratios == {loss: pytest.approx(1)}


class Branched(nn.Module):
    """A network with a layer that its logits do not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten, self.body = nn.Flatten(), nn.Linear(64, 5)
        self.branch, self.head = nn.Linear(5, 6), nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.body(self.flatten(images))
        self.branch(hidden)
        return self.head(hidden)


def test_parameters_that_only_the_term_trains_are_left_out(knowledge: tuple[Knowledge, Knowledge]) -> None:
    term = Term.model_validate({"cosine_features": {"at": {"student": "branch", "teacher": "last"}, "weight": "auto"}})
    result = calibrate_one(Branched(), [term], WHOLE, Batches(TRAIN, [knowledge[0]]), knowledge[1].shapes((1, 8, 8)))
    assert result.ratios == {"cosine_features": pytest.approx(1)}


def test_an_objective_on_labels_needs_no_calibration() -> None:
    result = calibrate_one(build(MLP, **SHAPE), [Term(loss="hard_labels")], WHOLE, Batches(TRAIN), {})
    assert result == Calibration([Term(loss="hard_labels")], {})


def test_a_term_that_does_not_reach_the_last_layer_is_calibrated_too(knowledge: tuple[Knowledge, Knowledge]) -> None:
    seen: list[Calibration] = []
    (replica,) = fit(
        build(CONV, **SHAPE), [Term.model_validate({"hint": "auto"})], WHOLE, TRAIN, VALIDATION,
        seeds=[0], knowledge=knowledge, on_calibration=seen.append,
    )  # fmt: skip
    assert "train/probe" in replica.history[0]
    assert seen[0].ratios == {"hint": pytest.approx(1)}


@pytest.mark.parametrize("network", [MLP, CONV], ids=["stacked", "convolutions"])
def test_objectives_calibrated_together_have_the_weights_of_objectives_calibrated_alone(
    network: Network, knowledge: tuple[Knowledge, Knowledge]
) -> None:
    objectives = [
        [
            Term(loss="hard_labels"),
            Term.model_validate({"soft_targets": {"weight": {"auto": ratio}, "temperature": temperature}}),
            Term.model_validate({"cosine_features": "auto"}),
        ]
        for ratio, temperature in [(1, 4), (0.3, 1.5), (2, 4), (5, 16)]
    ]
    recipe, batches = Recipe(epochs=1, batch=16), Batches(TRAIN, [knowledge[0]])
    shapes = knowledge[1].shapes((1, 8, 8))
    together = calibrate(build(network, **SHAPE), objectives, recipe, batches, shapes)
    for calibration, terms in zip(together, objectives, strict=True):
        alone = calibrated(knowledge, *terms, student=network, recipe=recipe)
        assert calibration.ratios == pytest.approx(alone.ratios)
        assert [term.factor for term in calibration.terms] == pytest.approx([term.factor for term in alone.terms])
    first, colder, doubled, hotter = (calibration.terms[1].factor for calibration in together)
    assert doubled == 2 * first
    assert len({first, colder / 0.3, hotter / 5}) == 3


def test_objectives_that_differ_only_in_their_weights_are_calibrated_exactly_as_one(
    knowledge: tuple[Knowledge, Knowledge],
) -> None:
    objectives = [[Term.model_validate({"soft_targets": {"weight": {"auto": ratio}}})] for ratio in (1, 4, 8)]
    shapes = knowledge[1].shapes((1, 8, 8))
    together = calibrate(build(MLP, **SHAPE), objectives, WHOLE, Batches(TRAIN, [knowledge[0]]), shapes)
    assert together == [calibrated(knowledge, *terms) for terms in objectives]
