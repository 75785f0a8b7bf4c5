"""Measurement of the peak memory of a phase of this process.

Linux and CUDA count the peak memory of a process since its start or since the last reset. Each counter is shared by the
whole process, but several phases can run at the same time. Whenever a phase starts or ends, the counters are therefore
read for all running phases, and then reset.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # proc(5) of Linux
RESET_PEAK = "5"  # written to the file `RESET`


@dataclass(eq=False)
class Phase:
    """A phase of this process, and the peaks of its memory in megabytes. A peak is `None` if it was not measured.

    Attributes:
        resident_mb: The peak of the resident memory of the process, which includes the libraries and the data.
        gpu_mb: The peak of the memory of torch's tensors on the GPU.
    """

    resident_mb: float | None = None
    gpu_mb: float | None = None

    def update(self, resident: int | None, gpu: int | None) -> None:
        """Raise the peaks if new readings of the counters, in bytes, are higher."""
        if resident is not None:
            self.resident_mb = max(resident / 1e6, self.resident_mb or 0.0)
        if gpu is not None:
            self.gpu_mb = max(gpu / 1e6, self.gpu_mb or 0.0)


_running: list[Phase] = []
_lock = threading.Lock()


@contextmanager
def peak_memory(phase: Phase | None = None) -> Iterator[Phase]:
    """Measure the peak memory of this process during the `with` block. The peaks are complete when the block ends.

    The measurement takes about 0.1 ms. The resident memory is measured on Linux only.

    Args:
        phase: An earlier phase that continues. Its peaks can only rise. Default: a new phase.

    >>> with peak_memory() as phase:
    ...     ones = torch.ones(1_000_000, dtype=torch.float64)
    >>> phase.resident_mb is None or phase.resident_mb > 8
    True
    """
    phase = phase or Phase()
    with _lock:
        _read_counters()
        _running.append(phase)
    try:
        yield phase
    finally:
        with _lock:
            _read_counters()
            _running.remove(phase)


def _read_counters() -> None:
    """Read the counters for all phases that run now, then reset the counters."""
    resident, gpu = _resident_bytes(), _gpu_bytes()
    for phase in _running:
        phase.update(resident, gpu)


def _resident_bytes() -> int | None:
    """Return the peak of the resident memory, and reset it. If the system does not allow that, return None.

    `resource.getrusage` is no alternative: its value for a spawned process includes the peak of the parent process.
    """
    try:
        peak = re.search(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
        RESET.write_text(RESET_PEAK)
    except OSError:
        return None
    return 1024 * int(peak[1]) if peak else None


def _gpu_bytes() -> int | None:
    """Return the peak of torch's memory on the GPU, and reset it. If this process has not used CUDA, return None."""
    if not torch.cuda.is_initialized():
        return None
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return peak
