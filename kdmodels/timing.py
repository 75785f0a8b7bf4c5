"""How long a call takes."""

import time
from collections.abc import Callable

import numpy as np

SECONDS, FEWEST, MOST = 0.1, 3, 200  # of timed calls


def latency(call: Callable[[], object]) -> tuple[float, float]:
    """Return the median and the 95th percentile of a call's time in ms.

    About SECONDS of calls after a warm-up, but no fewer than FEWEST and no more than MOST. It is of this machine as it
    is now: compare what was measured under the same load.
    """
    call()
    calls = int(min(max(SECONDS / _timed(call), FEWEST), MOST))
    for _ in range(calls // 5):
        call()
    p50, p95 = np.percentile([1000 * _timed(call) for _ in range(calls)], [50, 95])
    return float(p50), float(p95)


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
