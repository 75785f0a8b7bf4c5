"""Optimizers of a user, for tests: one that works, and some that a plan must refuse."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Normed(Optimizer):
    """Steps of a fixed length, along the mean of the gradients so far. A step combines all elements of a tensor."""

    def __init__(self, params: Any, lr: float = 0.1, *, weight_decay: float = 0.0, power: int = 1) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "power": power})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for tensor in group["params"]:
                if tensor.grad is not None:
                    state = self.state[tensor]
                    state["steps"] = state.get("steps", 0) + 1  # not a tensor
                    state["sum"] = state.get("sum", torch.zeros_like(tensor)) + tensor.grad
                    mean: Tensor = state["sum"] / state["steps"]
                    tensor.mul_(1 - group["lr"] * group["weight_decay"])
                    tensor.sub_(group["lr"] * mean / mean.norm() ** group["power"])


class Forgetful(Normed):
    """An optimizer that counts its steps where state_dict does not see the count."""

    count = 0

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        self.count += 1
        for group in self.param_groups:
            group["lr"] /= self.count
        super().step()


class Idle(Normed):
    """An optimizer that does nothing."""

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        pass


class Unstorable(Normed):
    """An optimizer whose state holds an object."""

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        super().step()
        for tensor in self.param_groups[0]["params"]:
            self.state[tensor]["where"] = object()


class Rateless(Optimizer):
    """An optimizer without a learning rate."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})
