"""What an objective owns, of several replicas at once."""

from operator import itemgetter

import pytest
import torch
from torch.func import functional_call

from kdmodels.experiment import Network, Recipe, Term
from kdmodels.networks import build
from kdmodels.randomness import generator_for
from kdmodels.training import Distiller
from kdmodels.training.batches import Batch

SHAPE = {"input_shape": (1, 8, 8), "classes": 3, "mean": [0.5], "std": [0.25]}


@pytest.mark.parametrize("loss", ["hint", "cosine_features"])
def test_stacked_regressors_are_each_replicas_own(loss: str) -> None:
    """Values, gradients and running statistics, against every replica's own call of its modules."""
    at = [{"student": "block1", "teacher": "last"}, {"student": "last", "teacher": "block1"}]
    known = {"logits": (3,), "block1": (6,), "last": (10,)}
    objective = [Term(loss="hard_labels"), Term.model_validate({loss: {"weight": 1, "at": at}})]
    joined = Distiller(
        build(Network(mlp=[5]), **SHAPE), objective, Recipe(epochs=1, batch=16),
        input_shape=(1, 8, 8), teacher_shapes=known, labels=torch.arange(41) % 3,
    ).train()  # fmt: skip
    assert joined.objective.regressed == [loss]
    generator = generator_for(3, "stack")
    draw = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    params = {name: draw(3, *one.shape).requires_grad_() for name, one in joined.named_parameters()}
    buffers = {name: torch.stack([one] * 3) for name, one in joined.named_buffers()}
    images, labels, rows = draw(3, 9, 1, 8, 8), torch.arange(27).view(3, 9) % 3, torch.arange(27).view(3, 9)
    teacher = {name: draw(3, 9, *shape) for name, shape in known.items()}
    batch = Batch(images, labels, rows, teacher, {})
    alone = [{name: one[row].clone() for name, one in buffers.items()} for row in range(3)]

    _, values = joined.stacked({**params, **buffers}, batch)
    gradients = torch.autograd.grad(values[loss].sum(), list(params.values()), allow_unused=True)
    for row, own in enumerate(alone):
        leaves = {name: one[row].detach().requires_grad_() for name, one in params.items()}
        _, expected = functional_call(joined, {**leaves, **own}, (batch.map(itemgetter(row)),))
        assert values[loss][row].item() == pytest.approx(expected[loss].mean().item(), rel=1e-5)
        expected_gradients = torch.autograd.grad(expected[loss].mean(), list(leaves.values()), allow_unused=True)
        for gradient, other in zip(gradients, expected_gradients, strict=True):
            assert (gradient is None) == (other is None)
            assert gradient is None or torch.allclose(gradient[row], other, rtol=1e-4, atol=1e-6)  # type: ignore[arg-type]
        for name, one in own.items():
            assert torch.allclose(buffers[name][row], one, rtol=1e-5), name
