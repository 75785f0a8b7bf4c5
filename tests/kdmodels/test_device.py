"""Devices that are there and those that are not; what is said when memory runs out."""

import numpy as np
import pytest
import torch

from kdmodels.device import find_device, told_when_full
from kdmodels.errors import UserError

CUDA, MPS = torch.cuda.is_available(), torch.backends.mps.is_available()


def test_auto_is_the_first_there_is() -> None:
    assert find_device("auto").type == ("cuda" if CUDA else "mps" if MPS else "cpu")
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.skipif(CUDA or MPS, reason="it has a device beside the CPU")
@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_told_with_those_that_are(name: str) -> None:
    with pytest.raises(UserError, match=f"^device: {name}: this machine has none; allowed: auto, cpu$"):
        find_device(name)


def test_what_does_not_fit_names_the_settings_to_lower() -> None:
    """A terabyte and more: the CPU's allocator really refuses it."""
    with (
        pytest.raises(UserError, match=r"^out of memory; lower one of: batch \(64\), seeds \(3\)$"),
        told_when_full({"batch": 64, "seeds": 3}),
    ):
        torch.empty(2**58)
    with pytest.raises(UserError, match="out of memory"), told_when_full({"batch": 64}):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    with pytest.raises(UserError, match="out of memory"), told_when_full({"batch": 64}):
        np.empty(2**50)


def test_another_error_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="must match the size"), told_when_full({"batch": 64}):
        torch.ones(2) + torch.ones(3)
