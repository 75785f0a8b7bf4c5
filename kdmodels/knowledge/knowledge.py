"""The teacher's outputs, called knowledge. They are computed once for all students, or again for every batch.

A tap is a place in the teacher where features are taken. Its name is the value of `at` in the experiment file.
"""

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
from kdmodels.data.decoding import read_array
from kdmodels.data.split import Split, at_rows
from kdmodels.device import CPU
from kdmodels.errors import UserError
from kdmodels.evaluation.predictions import BATCH
from kdmodels.files.folders import private_folder
from kdmodels.networks import find_tap
from kdmodels.networks.layout import layout_of

LOGITS = "logits"


@dataclass(frozen=True)
class Knowledge:
    """The teacher's stored outputs for all N examples, in the order of the examples in the split.

    Attributes:
        logits: Logits of shape (N, K), or (N, M, K) for an ensemble of M members.
        features: Features of shape (N, C, H, W) or (N, D), by the name of the tap.
    """

    logits: Tensor
    features: dict[str, Tensor]

    def shapes(self, input_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return the shape of one example's features at each tap, by the name of the tap.

        `input_shape` is not used. The parameter exists because `LiveTeacher.shapes` needs it.
        """
        return {at: tuple(values.shape[1:]) for at, values in self.features.items()}

    def take(self, rows: Tensor) -> "Knowledge":
        """Return a copy of the outputs for the examples with the indices `rows`, (B,)."""
        return Knowledge(self.logits[rows], {at: values[rows] for at, values in self.features.items()})

    def of(self, rows: Tensor, images: Tensor) -> dict[str, Tensor]:
        """Return the teacher's outputs for one batch, by name.

        Args:
            rows: Indices of the batch's examples, of any shape (...).
            images: Images of these examples, (..., C, H, W). Only their device is used.

        Returns:
            The logits, named `LOGITS`, and the features at each tap, named after the tap. Logits are (..., K), or
            (..., M, K) for an ensemble. Features are (..., C, H, W) or (..., D). All outputs are float32 and on the
            images' device.
        """
        outputs = {LOGITS: self.logits, **self.features}
        return {name: at_rows(values, rows).to(images.device).float() for name, values in outputs.items()}


class LiveTeacher:
    """Teacher that runs on every batch, in eval mode and without gradients. The outputs are float32.

    Args:
        network: The network of the teacher.
        taps: Names of the taps. See `kdmodels.networks.find_tap`.
        device: Device of the images. The teacher is moved to this device.

    Raises:
        UserError: A tap does not exist in the network.
    """

    def __init__(self, network: nn.Module, taps: Sequence[str] = (), device: torch.device = CPU) -> None:
        self.taps = {at: find_tap(network, at) for at in taps}
        self.network, self.device, self.layout = network.eval(), device, layout_of(network)

    def shapes(self, input_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return the shape of one example's features at each tap, by the name of the tap.

        Args:
            input_shape: The shape of one image, (C, H, W).
        """
        return {at: tap.shape(self.network.cpu(), input_shape) for at, tap in self.taps.items()}

    @torch.no_grad()
    def of(self, rows: Tensor, images: Tensor) -> dict[str, Tensor]:
        """Run the teacher on one batch, and return the same outputs as `Knowledge.of`.

        Args:
            rows: Indices of the batch's examples, of any shape (...). Only their shape is used.
            images: Images of these examples, (..., C, H, W).

        Raises:
            UserError: The network did not call the module of a tap exactly once, or the module did not return a tensor.
        """
        self.network.to(self.device)
        with ExitStack() as stack:
            caught = {at: stack.enter_context(tap.on(self.network)) for at, tap in self.taps.items()}
            logits = self.network(self.layout(images.reshape(-1, *images.shape[-3:])))
        outputs = {LOGITS: logits, **{at: self.taps[at].one(tensors) for at, tensors in caught.items()}}
        return {name: values.reshape(*rows.shape, *values.shape[1:]) for name, values in outputs.items()}


def distil_knowledge(
    teacher: nn.Module, split: Split | View, taps: Sequence[str] = (), *, device: torch.device = CPU
) -> Knowledge:
    """Run the teacher once on all images and return the outputs.

    Args:
        teacher: The network of the teacher. It is moved to the device.
        split: The split whose images the teacher gets.
        taps: Names of the taps. See `kdmodels.networks.find_tap`.
        device: Device of the computation.

    Returns:
        Outputs on the CPU, in float16, which needs half the memory of float32. The relative rounding error is at most
        1 / 2,000. If any value of an output is too large for float16, this output is in float32.
    """
    batches = list(_batches(teacher, split, taps, device))
    whole = {name: _compact(torch.cat([outputs[name] for outputs in batches])) for name in (LOGITS, *taps)}
    return Knowledge(whole.pop(LOGITS), whole)


def store_knowledge(
    teacher: nn.Module, split: Split | View, names: Sequence[str], folder: Path, *, device: torch.device = CPU
) -> None:
    """Write the teacher's outputs into one .npy file per name.

    The outputs are written batch by batch, so only one batch is in memory at a time. The files get their final names
    only after all files are complete. The outputs are first written as float16. If a value of an output is too large
    for float16, the teacher runs a second time, and this output is written as float32.

    Args:
        teacher: The network of the teacher. It is moved to the device.
        split: The split whose images the teacher gets.
        names: Names of the outputs. Each name is `LOGITS` or the name of a tap.
        folder: Folder of the files. If the folder does not exist, it is created.
        device: Device of the computation.

    Raises:
        UserError: Some outputs are NaN or infinite.
    """
    private_folder(folder)
    with TemporaryDirectory(dir=folder, prefix=".") as unfinished:
        overflowing = _write(teacher, split, dict.fromkeys(names, torch.float16), Path(unfinished), device)
        if overflowing:
            overflowing = _write(teacher, split, dict.fromkeys(overflowing, torch.float32), Path(unfinished), device)
        for name in overflowing:
            require_finite(_mapped(Path(unfinished) / _file(name)), name)
        for name in names:
            (Path(unfinished) / _file(name)).replace(folder / _file(name))


def load_knowledge(folder: Path, taps: Sequence[str] = ()) -> Knowledge:
    """Map the files of `store_knowledge` into memory. A part of a file is read only when a batch needs it."""
    logits, *features = (_mapped(folder / file) for file in knowledge_files(taps))
    return Knowledge(logits, dict(zip(taps, features, strict=True)))


def knowledge_files(taps: Sequence[str] = ()) -> list[str]:
    """Return the names of the files that `load_knowledge` reads: the file of the logits, and one file per tap."""
    return [_file(name) for name in (LOGITS, *taps)]


def _file(name: str) -> str:
    """Return the name of the file that holds an output of the teacher."""
    return f"{name}.npy"


def require_finite(outputs: Tensor, name: str) -> None:
    """Raise an error if some outputs of a network are NaN or infinite.

    Args:
        outputs: The outputs for N images, (N, ...).
        name: The name of the outputs, `LOGITS` or the name of a tap.

    Raises:
        UserError: Some outputs are NaN or infinite. The message gives the number of images with such outputs.
    """
    count = sum(int((~part.isfinite()).flatten(1).any(dim=1).sum()) for part in outputs.split(BATCH))
    if count:
        raise UserError(
            f"the outputs {name} of {count} of {len(outputs)} images are NaN or infinite. Check the weights of the "
            "network, and data.normalise"
        )


def _mapped(path: Path) -> Tensor:
    return torch.from_numpy(read_array(path, mapped=True))


def _batches(
    teacher: nn.Module, split: Split | View, taps: Sequence[str], device: torch.device
) -> Iterator[dict[str, Tensor]]:
    live = LiveTeacher(teacher, taps, device)
    for rows in torch.arange(len(split)).split(BATCH):
        outputs = live.of(rows, split.batch(rows).to(device))
        yield {name: values.cpu() for name, values in outputs.items()}


def _compact(whole: Tensor) -> Tensor:
    half = whole.half()
    return half if half.isfinite().all() else whole


def _write(
    teacher: nn.Module, split: Split | View, types: Mapping[str, torch.dtype], folder: Path, device: torch.device
) -> list[str]:
    """Write each output into an .npy file, in the data type that `types` gives for its name.

    Returns:
        The names of the outputs with values that are too large for their type, infinite, or NaN.
    """
    overflowing: set[str] = set()
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / _file(name)).open("wb")) for name in types}
        for outputs in _batches(teacher, split, [name for name in types if name != LOGITS], device):
            for name, file in files.items():
                array = np.ascontiguousarray(outputs[name].to(types[name]).numpy())
                if not np.isfinite(array).all():
                    overflowing.add(name)
                if file.tell() == 0:
                    header = header_data_from_array_1_0(array)
                    write_array_header_1_0(file, {**header, "shape": (len(split), *array.shape[1:])})
                file.write(array.data)
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
    return sorted(overflowing)
