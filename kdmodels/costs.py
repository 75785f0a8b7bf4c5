"""What one forward pass of a network costs: operations, memory and time, on the CPU in torch's eager mode."""

import re
import time
import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

BATCH = 64  # the batch that stands for throughput, beside 1 for response
SECONDS, FEWEST, MOST = 0.1, 3, 200  # of timed calls at one batch size
P50 = "latency/p50_ms"
Shape = tuple[int, int, int]


def costs(network: nn.Module, input_shape: Shape) -> dict[str, float]:
    """All figures by the names of their metrics: sizes in 10^6 bytes, times in ms, of batches of 1 and of 64.

    `cost/flops` is missing if the operations cannot be counted.

    Args:
        network: in eval mode, on the CPU. input_shape: (C, H, W) of one image.
    """
    operations = flops(network, input_shape)
    figures: dict[str, float] = {} if operations is None else {"cost/flops": operations}
    for batch, suffix in ((1, ""), (BATCH, f"_batch{BATCH}")):
        figures[f"cost/memory_mb{suffix}"] = memory(network, input_shape, batch) / 1e6
        figures[f"{P50}{suffix}"], figures[f"latency/p95_ms{suffix}"] = latency(network, input_shape, batch)
    return figures


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
    images = _images(input_shape, 1).requires_grad_().clone()
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


@torch.inference_mode()
def memory(network: nn.Module, input_shape: Shape, batch: int) -> int:
    """Bytes of the weights, the images and what of the layers' outputs is alive at once, at its peak.

    Counted and not sampled, so that it is the same on every machine; what a kernel allocates for itself is left out.

    >>> memory(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), (1, 8, 8), batch=2)  # 4 * (650 + 2 * 64 + 2 * 10)
    3192
    """
    images = _images(input_shape, batch)
    with _Alive([*network.parameters(), *network.buffers(), images]) as alive:
        network(images)
    return alive.peak


class _Alive(TorchDispatchMode):
    """Counts the bytes of all storages that are alive; `peak` is the most there were."""

    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._known: set[int] = set()
        for tensor in tensors:
            self._see(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._see, result)
        return result

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address, size = storage._cdata, storage.nbytes()
        if address not in self._known:  # else a view, or a result written in place
            self._known.add(address)
            self.bytes += size
            self.peak = max(self.peak, self.bytes)
            weakref.finalize(storage, self._forget, address, size)

    def _forget(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.bytes -= size


@torch.inference_mode()
def latency(network: nn.Module, input_shape: Shape, batch: int) -> tuple[float, float]:
    """Median and 95th percentile of a call's time in ms, with torch's current number of threads.

    About SECONDS of calls after a warm-up, but no fewer than FEWEST and no more than MOST: a small network takes
    milliseconds in all. It is of this machine as it is now: compare what was measured under the same load.
    """
    images = _images(input_shape, batch)
    network(images)
    calls = int(min(max(SECONDS / _timed(network, images), FEWEST), MOST))
    for _ in range(calls // 5):
        network(images)
    times = [1000 * _timed(network, images) for _ in range(calls)]
    p50, p95 = np.percentile(times, [50, 95])
    return float(p50), float(p95)


def _timed(network: nn.Module, images: Tensor) -> float:
    began = time.perf_counter()
    network(images)
    return time.perf_counter() - began


def _images(input_shape: Shape, batch: int) -> Tensor:
    return torch.full((batch, *input_shape), 0.5)  # dense kernels take as long for one image as for another
