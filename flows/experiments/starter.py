"""The short experiment file that `kd init --data` writes for the user's data and networks."""

import os
import re
from pathlib import Path

import yaml

from flows.experiments import name_for, write_new
from kdmodels.data.files import open_files
from kdmodels.data.images import SUFFIXES, measure
from kdmodels.data.layout import read_layout
from kdmodels.errors import UserError, allowed
from kdmodels.experiment import Experiment
from kdmodels.experiment.architectures import ARCHITECTURES
from kdmodels.experiment.data import NAMED

WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
LARGE, SMALLER = 96, 64  # images with a longer side than LARGE pixels are resized to SMALLER x SMALLER
FEW = 20  # number of images whose size is read
TORCHVISION = re.compile(
    r"(?<![a-z0-9])(?:alexnet|googlenet|inception_v3|resnet(?:18|34|50|101|152)|wide_resnet(?:50|101)_2"
    r"|resnext(?:50_32x4d|101_32x8d|101_64x4d)|vgg(?:11|13|16|19)(?:_bn)?|densenet(?:121|161|169|201)"
    r"|efficientnet_(?:b[0-7]|v2_[sml])|mobilenet_(?:v2|v3_small|v3_large)|shufflenet_v2_x(?:0_5|1_0|1_5|2_0)"
    r"|squeezenet1_[01]|convnext_(?:tiny|small|base|large)|mnasnet(?:0_5|0_75|1_0|1_3)|regnet_[xy]_[0-9]+[gm]f"
    r"|swin_(?:v2_)?[tsb]|vit_(?:b_16|b_32|l_16|l_32|h_14)|maxvit_t)(?![a-z0-9])"
)  # torchvision's classifiers. Their list is not imported, because torchvision takes 4 s to import
TEACHER, STUDENT = {"conv": [32, 64]}, {"conv": [8, 16]}  # trained from scratch if the user names no network


def write_starter(file: Path, source: str, teacher: str | None, student: str | None) -> None:
    """Write an experiment file of at most 15 lines that compares 3 variants on the user's data.

    Args:
        file: The new file. Paths in the file are relative to its folder.
        source: A folder or zip file with images, another file with data, or the name of a published dataset.
        teacher: A file with weights whose name contains the name of its network, or a network to train. Default: a
            small convolutional network.
        student: A network: `module:Class`, a name of the catalogue, or a name of torchvision. Default: a small
            convolutional network.

    Raises:
        UserError: The data or the weights do not exist or can't be used, a network is not known, or the file exists
            already.
    """
    data, note = _data(source, file.parent)
    experiment: dict[str, object] = {
        "name": name_for(file),
        "data": data,
        "teacher": _teacher(teacher, file.parent),
        "student": {"network": _network(student, "--student") if student else STUDENT, "epochs": 20, "seeds": 3},
        "variants": ["hard-labels", "kd", "logit-regression"],
    }
    Experiment.model_validate(experiment)
    lines = [f"{key}: {_flow(value)}\n" for key, value in experiment.items()]
    write_new(file, f"# {note}\n# All fields: kd init FILE. The losses: kd variants\n{''.join(lines)}")


def _flow(value: object) -> str:
    """Return a value as one line of YAML."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).removesuffix("...\n").strip()


def _data(source: str, folder: Path) -> tuple[dict[str, object], str]:
    """Return the section `data`, and a sentence about the data."""
    if source in NAMED:
        return {"source": source}, f"The published dataset {source}."
    path = Path(source)
    if not path.exists():
        raise UserError(f"--data {source}: does not exist. {allowed(source, NAMED)}, or a folder or file")
    data: dict[str, object] = {"source": _relative(path, folder)}
    if not (path.is_dir() or path.suffix == ".zip"):
        return data, f"The images and labels of {source}."
    with open_files(path) as files:
        images = [name for name in files.stamps if name.lower().endswith(SUFFIXES)]
        try:
            layout = read_layout(images, files.folders)
        except UserError as error:
            raise UserError(f"--data {source}: {error}") from error
        train = layout.paths["train"]
        sides = [side for name in train[:: max(1, len(train) // FEW)] for side in _sides(files.read(name))]
    if sides and max(sides) > LARGE:
        data["size"] = [SMALLER, SMALLER]
    classes = {label for labels in layout.labels.values() for label in labels}
    return data, f"{len(images)} images in {len(classes)} classes."


def _sides(content: bytes) -> list[int]:
    """Return the height and the width of an image. The list is empty if the image can't be read."""
    try:
        return list(measure(content)[:2])
    except Exception:
        return []


def _teacher(word: str | None, folder: Path) -> dict[str, object]:
    if word is None:
        return {"network": TEACHER, "epochs": 20}
    path = Path(word)
    if path.suffix not in WEIGHTS:
        return {"network": _network(word, "--teacher"), "epochs": 20}
    if not path.is_file():
        raise UserError(f"--teacher {word}: this file does not exist")
    stem = re.sub("[^a-z0-9]+", "_", path.stem.lower())
    if match := TORCHVISION.search(stem):  # most files with such a name come from torchvision
        return {"network": {"torchvision": match[0]}, "checkpoint": _relative(path, folder)}
    names = [name for name in ARCHITECTURES if re.search(rf"(?<![a-z0-9]){name}(?![a-z0-9])", stem)]
    if not names:
        raise UserError(
            f"--teacher {word}: the name of the file does not say which network it holds. Allowed: a file name that "
            "contains the name of its network, e.g. resnet18.pt"
        )
    return {"network": max(names, key=len), "checkpoint": _relative(path, folder)}


def _network(word: str, option: str) -> object:
    if ":" in word or word in ARCHITECTURES:
        return word
    if not TORCHVISION.fullmatch(word):
        names = allowed(word, ARCHITECTURES)
        raise UserError(f"{option} {word}: is not a network. {names}, a network of torchvision, or module:Class")
    return {"torchvision": word}


def _relative(path: Path, folder: Path) -> str:
    return f"./{os.path.relpath(path, folder)}" if not path.is_absolute() else str(path)
