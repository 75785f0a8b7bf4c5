"""A teacher that is asked at every batch: about the images, in eval mode, without gradient, and unchanged by it."""

from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdmodels.data import Split
from kdmodels.experiment import Network, Recipe, Term
from kdmodels.experiment.presets import PRESETS
from kdmodels.knowledge import LiveTeacher, distil_knowledge
from kdmodels.networks import build, initialise
from kdmodels.randomness import generator_for
from kdmodels.training import fit

SHAPE: dict[str, Any] = {"input_shape": (1, 8, 8), "classes": 3, "mean": [0.5], "std": [0.25]}
PLACES = ["first", "middle", "deepest", "last"]


def split(examples: int, purpose: str) -> Split:
    generator = generator_for(7, purpose)
    return Split(torch.rand(examples, 1, 8, 8, generator=generator), torch.randint(3, (examples,), generator=generator))


TRAIN, VALIDATION = split(41, "train"), split(20, "validation")


@pytest.mark.parametrize("name", [name for name in PRESETS if len(PRESETS[name].terms) > 1])
def test_the_teacher_stays_in_eval_mode_and_unchanged_during_fit(name: str) -> None:
    """Its batch norm would move in training mode, and its dropout draw."""
    teacher = build(Network(conv=[6, 8, 10]), **SHAPE)
    initialise(teacher, generator_for(1, "teacher"))
    moved = deepcopy(teacher).train()
    moved(VALIDATION.images)
    before = {key: tensor.clone() for key, tensor in teacher.state_dict().items()}
    assert any(not torch.equal(before[key], tensor) for key, tensor in moved.state_dict().items())

    seen: list[tuple[bool, bool]] = []
    places = {there for term in PRESETS[name].terms for _, there in term.pairs}
    live = LiveTeacher(teacher.train(), sorted(places))
    teacher.register_forward_hook(
        lambda module, _, logits: seen.append((any(m.training for m in module.modules()), logits.requires_grad))
    )
    fit(build(Network(conv=[2, 3, 4]), **SHAPE), PRESETS[name].terms, Recipe(epochs=2, batch=16), TRAIN, VALIDATION,
        seeds=[0, 1], knowledge=(live, live))  # fmt: skip
    assert len(seen) > 2 * 2 * 3  # two epochs of three batches of two seeds, and validation
    assert set(seen) == {(False, False)}
    assert all(torch.equal(before[key], tensor) for key, tensor in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in teacher.parameters())


class Flat(nn.Module):
    """It takes whatever there is one number of for each example: also labels."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 3)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[3.0], [-1.0], [0.5]]))
            self.head.bias.copy_(torch.tensor([0.0, 0.5, -0.5]))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(inputs.reshape(-1, 1))


@pytest.mark.parametrize("stored", [False, True], ids=["live", "stored"])
def test_slip_the_teacher_is_fed_the_labels_instead_of_the_images(stored: bool) -> None:
    images = torch.rand(12, 1, 1, 1, generator=torch.Generator().manual_seed(0)) * 0.5 - 2  # unlike any label
    data = Split(images, torch.arange(12) % 3)
    teacher, student = Flat(), Flat()
    known = distil_knowledge(teacher, data) if stored else LiveTeacher(teacher)
    standing = Recipe(epochs=1, batch=12, optimizer={"sgd": {"lr": 1e-12}})
    (replica,) = fit(student, [Term.model_validate({"soft_targets": {"temperature": 4}})], standing, data, data,
                     seeds=[0], knowledge=(known, known))  # fmt: skip
    student.load_state_dict(replica.state)

    def value(shown: Tensor) -> float:
        with torch.no_grad():
            q, p = ((z / 4).log_softmax(dim=1) for z in (student(images), teacher(shown)))
        return 16 * F.kl_div(q, p, log_target=True, reduction="batchmean").item()

    right, slip = value(images), value(data.labels.float())
    assert abs(right - slip) > 0.1
    assert replica.figures["train/soft_targets"] == pytest.approx(right, rel=1e-2)
    assert replica.figures["val/soft_targets"] == pytest.approx(right, rel=1e-2)
