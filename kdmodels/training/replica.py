"""What is known of one trained seed."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

State = dict[str, Tensor]


@dataclass
class Replica:
    """One seed of one network.

    `history` holds each epoch's figures, first epoch first, up to where `patience` ended it; `state` the network's
    weights after epoch `epoch` (counted from 1), and `own` what its objective trained beside it, both on the CPU.
    `diverged` is the first epoch with a figure that is not finite, and None where there is none; `culprits` are the
    terms whose values were the first that were not. `right` says which validation examples these weights get right:
    (N,) bool, on the CPU.
    """

    seed: int
    history: list[dict[str, float]] = field(default_factory=list)
    state: State = field(default_factory=dict)
    own: State = field(default_factory=dict)
    epoch: int = 0
    diverged: int | None = None
    culprits: list[str] = field(default_factory=list)
    right: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))

    @property
    def figures(self) -> dict[str, float]:
        """The figures of the epoch whose weights are kept."""
        return self.history[self.epoch - 1]
