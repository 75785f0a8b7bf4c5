"""Computation of the number of floating-point operations of one forward pass."""

import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

FLOPS = "cost/flops"
Shape = tuple[int, int, int]


@torch.inference_mode(False)
@torch.enable_grad()
def flops(network: nn.Module, input_shape: Shape) -> int | None:
    """Return the number of floating-point operations of the forward pass of one image.

    A multiplication with an addition counts as 2 operations. The result includes matrix products, convolutions,
    attention and recurrent layers, which make up most of the operations. It does not include normalisation,
    activations and pooling.

    Args:
        network: The network.
        input_shape: The shape of an image, (C, H, W).

    Returns:
        The number of operations. `None` if the number is unknown, because the network uses a kernel whose operations
        cannot be counted, e.g. a matrix product from an extension of torch.

    >>> flops(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), (1, 8, 8))
    1280
    """
    # Gradients are enabled so that torch's attention does not use its fused inference kernels, which have no formula.
    # The input is a clone, because a network may write into its input.
    images = torch.full((1, *input_shape), 0.5).requires_grad_().clone()
    with _Operations() as operations:
        network(images)
    return None if operations.uncounted else operations.total


class _Operations(TorchDispatchMode):
    """A counter of floating-point operations.

    Attributes:
        total: The number of operations counted so far.
        uncounted: The names of the called kernels that compute products and have no formula for their operations.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        from torch.utils.flop_counter import flop_registry  # noqa: PLC0415 - imports triton, which is slow

        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0
        self.uncounted: set[str] = set()
        self._formulas = {**flop_registry, torch.ops.aten.mkldnn_rnn_layer: _lstm_flops}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operator = getattr(func, "overloadpacket", func)
        formula = self._formulas.get(operator)
        if formula is None and hasattr(func, "decompose"):
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if formula is not None:
            self.total += int(formula(*args, **kwargs, out_val=result))
        elif _has_products(str(operator)):
            self.uncounted.add(str(operator))
        return result


def _lstm_flops(sequence: Tensor, weight: Tensor, recurrent: Tensor, *_: Any, **__: Any) -> int:
    """Return the number of operations of one direction of one LSTM layer.

    Args:
        sequence: The input, (L, B, D): D features at L time steps of B examples.
        weight: The weights of the input, (4 H, D), for H hidden units.
        recurrent: The weights of the hidden state, (4 H, H).
    """
    return 2 * sequence.shape[0] * sequence.shape[1] * (weight.numel() + recurrent.numel())


_PRODUCTS = re.compile(
    r"rnn|lstm|gru|attention|transformer|matmul|mm|mv|dot|linear|conv|_fft|cdist|trilinear|linalg_(?!vector_norm)"
)


def _has_products(operator: str) -> bool:
    """Guess from the name of an operator whether it computes products. For an operator outside torch, return True.

    >>> _has_products("aten.mv"), _has_products("aten.upsample_bilinear2d"), _has_products("torchvision.deform_conv2d")
    (True, False, True)
    """
    library, _, name = operator.partition(".")
    if library not in ("aten", "prim", "prims", "profiler"):
        return True
    return not name.startswith(("upsample", "_upsample")) and bool(_PRODUCTS.search(name))
