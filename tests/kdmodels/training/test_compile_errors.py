"""Compiled steps: the same figures, or one line where there is no compiler."""

import os
import shutil

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor import config
from torch._inductor.utils import fresh_cache

from kdmodels.data import Split
from kdmodels.errors import UserError
from kdmodels.experiment import Network, Recipe, Term
from kdmodels.networks import build
from kdmodels.training import Replica, fit

SPLIT = Split(torch.arange(320.0).view(20, 1, 4, 4) / 320, torch.arange(20) % 3)


def trained(*, compiled: bool) -> Replica:
    network = build(Network(mlp=[4]), input_shape=(1, 4, 4), classes=3, mean=[0.5], std=[0.25])
    recipe = Recipe(epochs=2, batch=10, compile=compiled, optimizer={"sgd": {"lr": 0.1}})
    return fit(network, [Term(loss="hard_labels")], recipe, SPLIT, SPLIT, seeds=[0])[0]


@pytest.mark.fault
@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="torch.compile needs a C++ compiler")
def test_a_compiled_step_computes_the_same() -> None:
    plain, before = trained(compiled=False), counters["stats"]["unique_graphs"]
    compiled = trained(compiled=True)
    assert counters["stats"]["unique_graphs"] == before + 1
    for one, other in zip(plain.history, compiled.history, strict=True):
        assert other == pytest.approx(one, rel=1e-5)


def test_without_a_compiler_the_error_says_so() -> None:
    with (
        fresh_cache(),  # an empty one: the compiler is really asked
        config.patch({"cpp.cxx": ("/no/such/compiler",)}),
        pytest.raises(
            UserError, match=r"^compile: true: torch\.compile failed \(.*compiler.*\)\. Allowed here: false$"
        ),
    ):
        trained(compiled=True)
