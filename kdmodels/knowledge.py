"""What the teacher says about the data: computed once and read by every student, or asked for batch by batch."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.lib.format import header_data_from_array_1_0, write_array_header_1_0
from torch import Tensor, nn

from kdmodels.data.augment import View
from kdmodels.data.dataset import Split, at_rows
from kdmodels.data.decoding import read_array
from kdmodels.device import CPU
from kdmodels.evaluation import BATCH
from kdmodels.folders import private_folder
from kdmodels.networks import find_tap
from kdmodels.networks.layout import layout_of

LOGITS = "logits"


@dataclass(frozen=True)
class Knowledge:
    """The teacher's logits (N, K) and its features (N, ...) by the name they are tapped at, in the data's order.

    An ensemble's logits are (N, M, K), of M members.
    """

    logits: Tensor
    features: dict[str, Tensor]

    def shapes(self, input_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """The shape of one example's features at each place."""
        return {at: tuple(values.shape[1:]) for at, values in self.features.items()}

    def of(self, rows: Tensor, images: Tensor) -> dict[str, Tensor]:
        """What was said of these rows, of any shape (...): (..., K) and (..., features' shape), float32.

        It is where the images are.
        """
        everything = {LOGITS: self.logits, **self.features}
        return {name: at_rows(values, rows).to(images.device).float() for name, values in everything.items()}


class LiveTeacher:
    """A teacher that is asked anew about every batch, in eval mode and without gradient; it answers in float32.

    Args:
        taps: `at:` names, see `kdmodels.networks.find_tap`.
        device: where it is moved, and the images are.

    Raises:
        UserError: a place does not exist.
    """

    def __init__(self, network: nn.Module, taps: Sequence[str] = (), device: torch.device = CPU) -> None:
        self.taps = {at: find_tap(network, at) for at in taps}
        self.network, self.device, self.layout = network.eval(), device, layout_of(network)

    def shapes(self, input_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """The shape of one example's features at each place, for images (C, H, W)."""
        return {at: tap.shape(self.network.cpu(), input_shape) for at, tap in self.taps.items()}

    @torch.no_grad()
    def of(self, rows: Tensor, images: Tensor) -> dict[str, Tensor]:
        """What it says of these images (..., C, H, W), whatever their rows (...): as `Knowledge.of`.

        Raises:
            UserError: there is no one tensor to be had at a place.
        """
        self.network.to(self.device)
        with ExitStack() as stack:
            caught = {at: stack.enter_context(tap.on(self.network)) for at, tap in self.taps.items()}
            logits = self.network(self.layout(images.reshape(-1, *images.shape[-3:])))
        said = {LOGITS: logits, **{at: self.taps[at].one(tensors) for at, tensors in caught.items()}}
        return {name: values.reshape(*rows.shape, *values.shape[1:]) for name, values in said.items()}


def distil_knowledge(
    teacher: nn.Module, split: Split | View, taps: Sequence[str] = (), *, device: torch.device = CPU
) -> Knowledge:
    """Run the teacher once over the images and keep what it says in memory.

    Args:
        taps: `at:` names, see `kdmodels.networks.find_tap`.
        device: where it is computed; the teacher is moved there.

    Returns:
        On the CPU: float16, which halves the space and rounds a value by one part in 2,000; float32 where a value would
        not fit.
    """
    batches = list(_said(teacher, split, taps, device))
    whole = {name: _compact(torch.cat([said[name] for said in batches])) for name in (LOGITS, *taps)}
    return Knowledge(whole.pop(LOGITS), whole)


def store_knowledge(
    teacher: nn.Module, split: Split | View, names: Sequence[str], folder: Path, *, device: torch.device = CPU
) -> None:
    """Write what the teacher says, a batch at a time, into one .npy file a name; memory stays flat.

    A file gets its name when it is whole. The types are those of `distil_knowledge`, and where a value does not fit
    into float16 the teacher is asked twice.

    Args:
        names: `LOGITS`, and `at:` names.
        folder: is made.
    """
    private_folder(folder)
    with TemporaryDirectory(dir=folder, prefix=".") as unfinished:
        left = _write(teacher, split, dict.fromkeys(names, torch.float16), Path(unfinished), device)
        if left:
            _write(teacher, split, dict.fromkeys(left, torch.float32), Path(unfinished), device)
        for name in names:
            (Path(unfinished) / f"{name}.npy").replace(folder / f"{name}.npy")


def load_knowledge(folder: Path, taps: Sequence[str] = ()) -> Knowledge:
    """Map the files of `store_knowledge` into memory; pages are read when a batch touches them."""
    return Knowledge(_mapped(folder / f"{LOGITS}.npy"), {name: _mapped(folder / f"{name}.npy") for name in taps})


def _mapped(path: Path) -> Tensor:
    return torch.from_numpy(read_array(path, mapped=True))


def _said(
    teacher: nn.Module, split: Split | View, taps: Sequence[str], device: torch.device
) -> Iterator[dict[str, Tensor]]:
    live = LiveTeacher(teacher, taps, device)
    for rows in torch.arange(len(split)).split(BATCH):
        said = live.of(rows, split.batch(rows).to(device))
        yield {name: values.cpu() for name, values in said.items()}


def _compact(whole: Tensor) -> Tensor:
    half = whole.half()
    return half if half.isfinite().all() else whole


def _write(
    teacher: nn.Module, split: Split | View, types: Mapping[str, torch.dtype], folder: Path, device: torch.device
) -> list[str]:
    """Write the files; the names of those with a value that does not fit."""
    misfits: set[str] = set()
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.npy").open("wb")) for name in types}
        for said in _said(teacher, split, [name for name in types if name != LOGITS], device):
            for name, file in files.items():
                array = np.ascontiguousarray(said[name].to(types[name]).numpy())
                if not np.isfinite(array).all():
                    misfits.add(name)
                if file.tell() == 0:
                    header = header_data_from_array_1_0(array)
                    write_array_header_1_0(file, {**header, "shape": (len(split), *array.shape[1:])})
                file.write(array.data)
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
    return sorted(misfits)
