"""The networks that an experiment builds, and the teachers that it reads from a file or from the registry."""

from collections.abc import Collection
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from kdmodels.data.files import listed
from kdmodels.errors import UsageError, UserError
from kdmodels.experiment import Experiment, Network, Student, Teacher
from kdmodels.experiment.recipe import WEIGHTS_FILES, Member
from kdmodels.files.folders import find_path
from kdmodels.networks import Description, load_checkpoint, load_network, within_budget
from tasks import tracking
from tasks.references import DataReference
from tasks.results import NETWORK

Part = TypeVar("Part", Member, Teacher, Student, Student | None)


def describe(network: Network, data: DataReference) -> Description:
    """Return the description of a network. The image shape, classes and normalisation are taken from the data."""
    return Description(
        network=network, input_shape=data.input_shape, classes=data.classes, mean=data.mean, std=data.std
    )


def describe_teacher(teacher: Member, data: DataReference) -> Description:
    """Return the description of a teacher that is trained, or read from a checkpoint.

    Raises:
        UserError: `teacher.normalise` does not have one value for each channel of the images.
    """
    assert teacher.network is not None
    trained_on, channels = data.of(teacher), data.input_shape[0]
    mean, std = trained_on.mean, trained_on.std
    if teacher.normalise:
        mean, std = teacher.normalise.mean, teacher.normalise.std
        lengths = [1, 3] if teacher.network.torchvision and channels == 1 else [channels]
        if len(mean) not in lengths:
            expected = " or ".join(map(str, lengths))
            raise UserError(f"teacher.normalise: expected one number per channel, got {len(mean)}. Allowed: {expected}")
    size = (teacher.size[0], teacher.size[1]) if teacher.size else None
    return describe(teacher.network, data).model_copy(update={"mean": mean, "std": std, "size": size})


def sized(experiment: Experiment, data: DataReference) -> Experiment:
    """Return a copy of the experiment in which each network with a budget has the width and depth that fit the budget.

    The width and the depth are recorded with the run and are part of its cache key. If `data.transfer` names a
    registered generator, the copy also names the generator's version, see `prepare_data.pinned`.

    Raises:
        UserError: a network does not fit its budget.
    """

    def size(part: Part) -> Part:
        if part is None or part.network is None:
            return part
        height, width = (part.size if isinstance(part, Member) else None) or data.input_shape[1:]
        shape = (data.input_shape[0], height, width)
        network = within_budget(part.network, input_shape=shape, classes=len(data.classes))
        return part.model_copy(update={"network": network})

    members = [size(member) for member in experiment.teacher.ensemble]
    variants = [variant.model_copy(update={"student": size(variant.student)}) for variant in experiment.variants]
    return experiment.model_copy(
        update={
            "teacher": size(experiment.teacher).model_copy(update={"ensemble": members}),
            "student": size(experiment.student),
            "variants": variants,
            "data": data.data,
        }
    )


def checkpoint_file(path: str, data: DataReference) -> Path:
    """Return the file of a teacher's weights.

    A relative path is looked up in the current folder, and then in the data folder.

    Raises:
        UsageError: there is no such file.
    """
    file = find_path(path, Path(data.folder) if data.folder else None, "teacher.checkpoint", WEIGHTS_FILES)
    if not file.is_file():
        raise UsageError(f"teacher.checkpoint: {path}: is not a file. Allowed: {WEIGHTS_FILES}")
    return file


def checkpoint_network(teacher: Member, data: DataReference) -> tuple[nn.Module, Description]:
    """Build a teacher's network, load the weights of its checkpoint, and return the network and its description.

    Raises:
        UserError: see `checkpoint_weights`.
    """
    description = describe_teacher(teacher, data)
    network = description.build(pretrained=False)
    checkpoint_weights(teacher, network, data)
    return network, description


def checkpoint_digest(teacher: Member, data: DataReference) -> str:
    """Return the digest of the weights that a teacher has in its checkpoint, whatever else the file holds.

    Raises:
        UserError: see `checkpoint_weights`.
    """
    weights = checkpoint_weights(teacher, describe_teacher(teacher, data).build(pretrained=False), data)
    digest = sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def checkpoint_weights(teacher: Member, network: nn.Module, data: DataReference) -> dict[str, Tensor]:
    """Load the weights of a teacher's checkpoint into a network, and return the loaded tensors by name.

    Raises:
        UserError: the file does not exist, its weights do not fit the network, or `teacher.normalise` is set and the
            file also contains a normalisation.
    """
    assert teacher.checkpoint is not None
    assert teacher.network is not None
    file = checkpoint_file(teacher.checkpoint, data)
    weights = load_checkpoint(network, file, key=teacher.key, prefix=teacher.prefix, name=teacher.network.name)
    if teacher.normalise and "normalise.mean" in weights:
        raise UserError(f"teacher.normalise: conflicts with the normalisation in {file}. Allowed: null")
    return weights


def registered_teacher(model: str, data: DataReference, modules: Collection[str]) -> tuple[nn.Module, Description]:
    """Return the network and the description of a registered model that is used as a teacher.

    Args:
        model: Name of the model with a version or alias, e.g. `name@champion`.
        modules: The modules that the user named. The network may run their code.

    Raises:
        UserError: the model does not exist, was not made by kdflow, needs a module that the user did not name, or
            does not fit the image shape or the classes of the data.
    """
    version = tracking.find_model(model)
    if version.run_id is None or not tracking.has_artifact(version.run_id, NETWORK):
        raise UserError(f"teacher.registry: {model}: was not made by kdflow. Allowed: a model of a kd run")
    network, description = load_network(tracking.artifact(version.run_id, NETWORK), modules)
    if description.input_shape != data.input_shape:
        raise UserError(
            f"teacher.registry: {model}: takes images of {description.input_shape}, but {data.data.source} has "
            f"{data.input_shape}. Allowed: a model for images of the same shape"
        )
    if description.classes != data.classes:
        raise UserError(
            f"teacher.registry: {model}: has the classes {listed(description.classes)}, but {data.data.source} has "
            f"{listed(data.classes)}. Allowed: a model with the same classes in the same order"
        )
    return network, description
