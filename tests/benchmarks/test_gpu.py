"""The benchmark of a GPU, in small on the CPU."""

import pytest
import torch

from benchmarks import gpu


def test_every_step_is_timed_and_every_ratio_is_of_two_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    result = gpu.measure(torch.device("cpu"), steps=1, batch=2, precision="float32")
    seconds = {way: median for way, (median,) in result["seconds of a step"].items()}
    assert min(seconds.values()) > 0
    assert result["ratios"] == {
        name: round(seconds[over] / seconds[under], 2) for name, (over, under) in gpu.RATIOS.items()
    }


def test_the_steps_of_seeds_that_train_one_after_the_other_are_added_up() -> None:
    clock = gpu.Clock(torch.device("cpu"))
    one_training = [0.0, 9.0, 18.0, 27.0, 28.0, 30.0]  # the first three steps are warm-up, then 1 s and 2 s
    clock.begun = [*one_training, *(100 + start for start in one_training)]
    assert clock.seconds(len(one_training)) == 3.0
    assert not clock.begun
