"""Replicas stacked into one computation: their snapshots, and the optimizers of their parts."""

import pytest
import torch

from kdmodels.data import Split
from kdmodels.experiment import Network, Recipe, Term
from kdmodels.knowledge import Knowledge
from kdmodels.networks import build
from kdmodels.randomness import generator_for
from kdmodels.training.batches import Batches
from kdmodels.training.distiller import Distiller
from kdmodels.training.setting import Setting
from kdmodels.training.stack import Stack

CPU = torch.device("cpu")
SPLIT = Split(torch.rand(20, 1, 4, 4, generator=generator_for(0, "images")), torch.arange(20) % 3)
MLP = Network(mlp=[5])
KNOWLEDGE = Knowledge(torch.randn(20, 3, generator=generator_for(0, "logits")), {})


def stack(
    *losses: str,
    seeds: tuple[int, ...] = (0, 1),
    rates: tuple[float, ...] | None = None,
    network: Network = MLP,
    **recipe: object,
) -> Stack:
    settings = Recipe.model_validate({"epochs": 2, "batch": 8} | recipe)
    student = build(network, input_shape=(1, 4, 4), classes=3, mean=[0.5], std=[0.25])
    distiller = Distiller(
        student,
        [Term.model_validate(loss) for loss in losses],
        settings,
        input_shape=(1, 4, 4),
        teacher_shapes={},
        labels=SPLIT.labels,
    )
    batches = Batches(SPLIT, [KNOWLEDGE])
    terms = tuple(distiller.objective.terms.values())
    own = [Setting(rate, terms) for rate in rates] if rates else None
    return Stack(distiller, settings, (batches, batches), seeds, CPU, own)


@pytest.mark.parametrize(("ema", "rates"), [(None, None), (0.9, None), (0.9, (0.1, 0.001))])
def test_a_restored_snapshot_continues_bit_for_bit(ema: float | None, rates: tuple[float, ...] | None) -> None:
    one, other = (stack("hard_labels", "soft_targets", "adversarial", ema=ema, rates=rates) for _ in range(2))
    one.train(1, lambda: None)
    other.restore(one.snapshot())
    for each in (one, other):
        each.train(2, lambda: None)
    expected, restored = one.snapshot(), other.snapshot()
    assert expected.keys() == restored.keys()
    assert all(torch.equal(expected[name], restored[name]) for name in expected)


def test_the_recipe_chooses_the_initialisation() -> None:
    one, other = (stack("hard_labels", network=Network(conv=[64]), init=init) for init in (None, "fan_out"))
    uniform, normal = (each.params["student.block1.conv.weight"].std().item() for each in (one, other))
    assert uniform == pytest.approx(1 / 3 / 3**0.5, rel=0.1)
    assert normal == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)


def test_an_opponent_has_an_optimizer_of_its_own() -> None:
    trained = stack("hard_labels", "adversarial")
    assert all(name.startswith("objective.own.adversarial.") for name in trained.adversary.tensors)
    assert all(name.startswith("student.") for name in trained.optimizer.tensors)
    before = trained.snapshot()
    trained.train(1, lambda: None)
    moved = {
        name for name, tensor in trained.snapshot().items() if name in before and not torch.equal(tensor, before[name])
    }
    assert any("adversarial.discriminator" in name for name in moved)


def test_a_state_is_a_copy_of_one_row() -> None:
    trained = stack("hard_labels")
    state = trained.state(1, "student.")
    assert torch.equal(state["head.weight"], trained.params["student.head.weight"][1])
    state["head.weight"].zero_()
    assert trained.params["student.head.weight"][1].abs().sum() > 0
