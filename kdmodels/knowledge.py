"""What the teacher says about the data, computed once and read by every student."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kdmodels.data.dataset import Split
from kdmodels.device import CPU
from kdmodels.evaluation import BATCH
from kdmodels.networks import find_tap

LOGITS = "logits"


@dataclass(frozen=True)
class Knowledge:
    """The teacher's logits (N, K) and its features (N, ...) by the name they are tapped at, in the data's order."""

    logits: Tensor
    features: dict[str, Tensor]


@torch.no_grad()
def distil_knowledge(
    teacher: nn.Module, split: Split, taps: Sequence[str] = (), *, device: torch.device = CPU
) -> Knowledge:
    """Run the teacher once over the images, in eval mode and without gradient.

    Args:
        taps: `at:` names, see `kdmodels.networks.find_tap`.
        device: where it is computed; the teacher is moved there.

    Returns:
        On the CPU: float16, which halves the disk and rounds a value by one part in 2,000; float32 where a value would
        not fit.
    """
    teacher.eval().to(device)
    logits: list[Tensor] = []
    features: dict[str, list[Tensor]] = {name: [] for name in taps}
    with ExitStack() as stack:
        caught = {name: stack.enter_context(find_tap(teacher, name).on(teacher)) for name in taps}
        for rows in torch.arange(len(split)).split(BATCH):
            logits.append(teacher(split.batch(rows).to(device)).cpu())
            for name, parts in features.items():  # at once, since all maps together may not fit on the device
                parts += [tensor.cpu() for tensor in caught[name]]
                caught[name].clear()
    return Knowledge(_compact(logits), {name: _compact(parts) for name, parts in features.items()})


def _compact(parts: list[Tensor]) -> Tensor:
    whole = torch.cat(parts)
    half = whole.half()
    return half if half.isfinite().all() else whole


def save_knowledge(knowledge: Knowledge, folder: Path) -> None:
    """Write one .npy file a tensor into the folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in {LOGITS: knowledge.logits, **knowledge.features}.items():
        np.save(folder / f"{name}.npy", values.numpy())


def load_knowledge(folder: Path, taps: Sequence[str] = ()) -> Knowledge:
    """Map the files of `save_knowledge` into memory; pages are read when a batch touches them."""
    return Knowledge(_mapped(folder / f"{LOGITS}.npy"), {name: _mapped(folder / f"{name}.npy") for name in taps})


def _mapped(path: Path) -> Tensor:
    return torch.from_numpy(np.load(path, mmap_mode="c"))
