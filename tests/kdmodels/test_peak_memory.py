"""The peak memory of phases, against arrays of a known size."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kdmodels import peak_memory as module
from kdmodels.peak_memory import Phase, peak_memory

MEGABYTES = 256


def allocate() -> None:
    """Fill an array of 256 MB, and free it."""
    np.ones(MEGABYTES * 125_000)


def resident(phase: Phase) -> float:
    assert phase.resident_mb is not None
    return phase.resident_mb


def test_the_peak_of_a_phase_includes_freed_arrays() -> None:
    with peak_memory() as empty:
        pass
    with peak_memory() as full:
        allocate()
    assert MEGABYTES - 20 < resident(full) - resident(empty) < MEGABYTES + 20


def test_a_phase_does_not_see_the_peak_of_an_earlier_phase() -> None:
    with peak_memory() as first:
        allocate()
    with peak_memory() as second:
        pass
    assert resident(first) - resident(second) > MEGABYTES - 20


def test_a_phase_keeps_its_peak_when_another_phase_begins_meanwhile() -> None:
    with peak_memory() as outer:
        allocate()
        with peak_memory() as inner:
            pass
    assert resident(outer) - resident(inner) > MEGABYTES - 20


def test_a_phase_that_continues_keeps_the_higher_peak() -> None:
    with peak_memory() as phase:
        allocate()
    before = resident(phase)
    with peak_memory(phase):
        pass
    assert resident(phase) == before


def test_a_phase_that_fails_is_measured() -> None:
    with pytest.raises(ValueError, match="failed"), peak_memory() as phase:
        raise ValueError("failed")
    assert resident(phase) > 0


def test_without_the_counters_of_linux_nothing_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "RESET", tmp_path / "missing" / "clear_refs")
    with peak_memory() as phase:
        pass
    assert (phase.resident_mb, phase.gpu_mb) == (None, None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_peak_of_the_gpu_is_that_of_its_tensors() -> None:
    torch.ones(1, device="cuda")
    with peak_memory() as first:
        torch.ones(MEGABYTES * 250_000, device="cuda")
    with peak_memory() as second:
        pass
    assert first.gpu_mb is not None
    assert second.gpu_mb is not None
    assert MEGABYTES - 1 < first.gpu_mb - second.gpu_mb < MEGABYTES + 1
