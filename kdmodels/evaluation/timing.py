"""Measurement of the latency of a function call."""

import time
from collections.abc import Callable

import numpy as np

SECONDS, FEWEST, MOST = 0.1, 3, 200  # total duration, minimum number and maximum number of the timed calls


def latency(call: Callable[[], object]) -> tuple[float, float]:
    """Return the median and the 95th percentile of a call's duration in ms.

    After a warm-up, the function times calls for about SECONDS. It times at least FEWEST and at most MOST calls. The
    result depends on the machine and its current load. Compare only latencies that were measured under the same load.
    """
    call()
    calls = int(min(max(SECONDS / _timed(call), FEWEST), MOST))
    for _ in range(calls // 5):
        call()
    p50, p95 = np.percentile([1000 * _timed(call) for _ in range(calls)], [50, 95])
    return float(p50), float(p95)


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
