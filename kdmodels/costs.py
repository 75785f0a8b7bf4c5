"""Operations of one forward pass of a network; what a served model costs is in `kdmodels/serving/costs.py`."""

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
    """Return the floating-point operations for one image: a multiplication and its addition are two.

    Matrix products, convolutions, attention and recurrent layers count, which dominate. Norms, activations and pooling
    do not. None if a kernel that computes products was run and cannot be counted, such as one of an extension.

    >>> flops(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), (1, 8, 8))
    1280
    """
    # Under gradient, torch's attention takes none of its fused inference kernels, which have no formula.
    # A clone, so that a network may still write into its input.
    images = torch.full((1, *input_shape), 0.5).requires_grad_().clone()
    with _Operations() as operations:
        network(images)
    return None if operations.uncounted else operations.total


class _Operations(TorchDispatchMode):
    """Adds up the floating-point operations; `uncounted` are the kernels that compute products but have no formula."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        from torch.utils.flop_counter import flop_registry  # it imports triton, where there is one

        super().__init__()
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
    """Count one direction of one layer of an LSTM, whose input is (L, B, D) and weights are (4 H, D) and (4 H, H)."""
    return 2 * sequence.shape[0] * sequence.shape[1] * (weight.numel() + recurrent.numel())


_PRODUCTS = re.compile(
    r"rnn|lstm|gru|attention|transformer|matmul|mm|mv|dot|linear|conv|_fft|cdist|trilinear|linalg_(?!vector_norm)"
)


def _has_products(operator: str) -> bool:
    """Return whether an operator computes matrix products, by its name; True for all that are not torch's own.

    >>> _has_products("aten.mv"), _has_products("aten.upsample_bilinear2d"), _has_products("torchvision.deform_conv2d")
    (True, False, True)
    """
    library, _, name = operator.partition(".")
    if library not in ("aten", "prim", "prims", "profiler"):
        return True
    return not name.startswith(("upsample", "_upsample")) and bool(_PRODUCTS.search(name))
