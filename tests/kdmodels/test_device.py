"""Available and unavailable devices, and errors when memory runs out."""

import numpy as np
import pytest
import torch

from kdmodels.device import find_device, out_of_memory_as_user_error
from kdmodels.errors import UserError

CUDA, MPS = torch.cuda.is_available(), torch.backends.mps.is_available()


def test_auto_is_the_first_available_device() -> None:
    assert find_device("auto").type == ("cuda" if CUDA else "mps" if MPS else "cpu")
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.skipif(CUDA or MPS, reason="it has a device beside the CPU")
@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_an_unavailable_device_is_an_error_that_lists_the_available_devices(name: str) -> None:
    with pytest.raises(UserError, match=f"^device: this machine has no {name} device. Allowed: auto, cpu$"):
        find_device(name)


def test_running_out_of_memory_names_the_settings_to_lower() -> None:
    """The CPU's allocator refuses more than a terabyte."""
    with (
        pytest.raises(UserError, match=r"^out of memory; lower one of: batch \(64\), seeds \(3\)$"),
        out_of_memory_as_user_error({"batch": 64, "seeds": 3}),
    ):
        torch.empty(2**58)
    with pytest.raises(UserError, match="out of memory"), out_of_memory_as_user_error({"batch": 64}):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    with pytest.raises(UserError, match="out of memory"), out_of_memory_as_user_error({"batch": 64}):
        np.empty(2**50)


def test_other_errors_are_not_changed() -> None:
    with pytest.raises(RuntimeError, match="must match the size"), out_of_memory_as_user_error({"batch": 64}):
        torch.ones(2) + torch.ones(3)
