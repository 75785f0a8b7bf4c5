"""The result of training a network with one seed."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

State = dict[str, Tensor]


@dataclass
class Replica:
    """A network that is trained with one seed, and its metrics. All tensors are on the CPU.

    Attributes:
        seed: Seed of the replica.
        history: Metrics of each finished epoch, in order, by name. If an epoch was not validated, it has only metrics
            of the training.
        state: Parameters and buffers of the network after epoch `epoch`.
        own: Parameters and buffers of the modules that the objective trained together with the network.
        epoch: Number of the epoch whose weights are the result, counted from 1. 0 if no epoch is selected yet.
        diverged: Number of the first epoch with an infinite or NaN metric. `None` if all metrics are finite.
        culprits: Names of the values of the objective that were the first to be infinite or NaN. Empty if the replica
            has not diverged.
        is_correct: Whether the network classifies each validation example correctly, bool, shape (N,).
    """

    seed: int
    history: list[dict[str, float]] = field(default_factory=list)
    state: State = field(default_factory=dict)
    own: State = field(default_factory=dict)
    epoch: int = 0
    diverged: int | None = None
    culprits: list[str] = field(default_factory=list)
    is_correct: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))

    @property
    def figures(self) -> dict[str, float]:
        """The metrics of the epoch whose weights the replica keeps."""
        return self.history[self.epoch - 1]
