"""Learning rates against torch's own schedulers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import OneCycleLR

from kdmodels.training.schedule import learning_rate_factor


@pytest.mark.parametrize("arguments", [(0.3, 25.0, 1e4), (0.5, 10.0, 1.0)])
def test_one_cycle_is_torchs(arguments: tuple[float, float, float]) -> None:
    rise, start, end = arguments
    steps = 10_000  # so many that the ends of torch's phases, a step early, do not matter
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = OneCycleLR(
        optimizer, max_lr=2.0, total_steps=steps, pct_start=rise, div_factor=start, final_div_factor=end,
        cycle_momentum=False,
    )  # fmt: skip
    schedule = {"one_cycle": {"rise": rise, "start_divisor": start, "end_divisor": end}}
    for step in range(steps):
        if step % 97 == 0:
            rate = 2.0 * learning_rate_factor(schedule, 5 * (step + 0.5) / steps, 5)
            assert rate == pytest.approx(scheduler.get_last_lr()[0], abs=2e-3)
        optimizer.step()
        scheduler.step()


@given(st.floats(0, 10), st.integers(1, 9))
def test_a_warm_up_is_a_straight_line_into_what_follows(epoch: float, warmup: int) -> None:
    step = {"at": [3, 7], "factor": 0.1}
    for name, arguments in (("constant", {}), ("step", step)):
        factor = learning_rate_factor({name: {**arguments, "warmup": warmup}}, epoch, 10)
        whole = learning_rate_factor({name: arguments}, epoch, 10)
        assert factor == pytest.approx(epoch / warmup if epoch < warmup else whole)
    assert learning_rate_factor({"constant": {"warmup": warmup}}, 10, 10) == 1.0
