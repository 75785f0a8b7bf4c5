"""Rules that derive the split and the class of an image from the path of the image."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kdmodels.data.files import listed, printable
from kdmodels.errors import UsageError, UserError, allowed

SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing", "evaluation", "eval"),
}
NUMBERED = re.compile(r"([0-9]+)_")  # 7_12.jpg has the class 7
SHAPE = "Allowed: a folder per class, or files named CLASS_NUMBER, in train/, validation/ and test/ or in one folder"


@dataclass(frozen=True)
class Layout:
    """The images of each split, and their classes.

    Args:
        paths: The sorted paths of the images of each split, by the name of the split.
        labels: The class names of the images of each split, by the name of the split, in the order of `paths`.
        notes: Facts about the folders that the user should know.
    """

    paths: dict[str, list[str]]
    labels: dict[str, list[str]]
    notes: list[str] = field(default_factory=list)


def split_name(folder: str) -> str | None:
    """Return the split that a folder name stands for. If the name is not in `SPLITS`, return `None`.

    >>> split_name("Training"), split_name("val"), split_name("cats")
    ('train', 'validation', None)
    """
    return next((split for split, names in SPLITS.items() if folder.lower() in names), None)


def read_layout(paths: Iterable[str], folders: Iterable[str], validation: str | None = None) -> Layout:
    """Sort images into splits and classes.

    The class of an image is the name of its class folder. If there are no class folders, it is the number at the start
    of the file name: 7_12.jpg has the class 7.

    If a top folder named `train` or `training` holds images with classes, every top folder with a name in `SPLITS` is a
    split. Otherwise, all images belong to the split `train`. If a single top folder contains all images, these rules
    apply to the content of this folder.

    Args:
        paths: The paths of the images.
        folders: The paths of all folders, including empty folders. An empty class folder is an error.
        validation: The folder of the validation split, from `data.validation`. If `None`, a top folder with one of the
            names in `SPLITS["validation"]` is used, if it exists.

    Raises:
        UserError: An image has no class, a class folder is empty, or two folders stand for the same split.
    """
    paths, folders = sorted(paths), sorted(folders)
    prefix = _common_folder(paths)
    images, inner = _below(paths, prefix), _below(folders, prefix)
    groups: dict[str, list[str]] = defaultdict(list)
    for path in images:
        if "/" in path:
            groups[path.split("/")[0]].append(path)
    splits = {folder: split for folder in groups if (split := split_name(folder))}
    trains = [folder for folder, split in splits.items() if split == "train"]
    if any(_classes(_below(groups[folder], f"{folder}/"), folder) for folder in trains):
        layout = _separate_splits(images, inner, groups, _with_validation(splits, groups, validation))
    elif validation:
        raise UsageError(f"data.validation: {validation!r} has no train folder beside it. {SHAPE}")
    else:
        layout = _single_split(images, inner, groups, prefix.removesuffix("/"))
    full_paths = {split: [prefix + path for path in names] for split, names in layout.paths.items()}
    return Layout(full_paths, layout.labels, layout.notes)


def _single_split(images: list[str], folders: list[str], groups: Mapping[str, list[str]], top: str) -> Layout:
    """Return a layout in which every image belongs to the training split.

    Args:
        images: The paths of the images.
        folders: The paths of all folders.
        groups: The paths of the images in each top folder, by the name of the folder.
        top: The folder that contains all images and folders. Empty if there is no such folder.
    """
    if not images:
        raise UserError(f"there is no image. {SHAPE}")
    classes = _classes(images, "")
    if classes is None and top and not groups:
        raise UserError(f"all images are in one folder, {printable(top)}, so there is only one class. {SHAPE}")
    if classes is None:
        raise UserError(f"{listed(images[:1])} has no class. {SHAPE}")
    if groups:
        _require_images([folder for folder in folders if "/" not in folder], groups)
    return Layout({"train": images}, {"train": classes})


def _with_validation(splits: dict[str, str], groups: Mapping[str, list[str]], validation: str | None) -> dict[str, str]:
    """Return the split of each top folder. The user's validation folder replaces any other validation folder.

    Args:
        splits: The split of each top folder whose name is in `SPLITS`, by the name of the folder.
        groups: The paths of the images in each top folder, by the name of the folder.
        validation: The user's validation folder. If `None`, `splits` is returned.
    """
    if not validation:
        return splits
    if validation not in groups:
        raise UsageError(f"data.validation: {validation!r} is not a folder of images. {allowed(validation, groups)}")
    return {folder: split for folder, split in splits.items() if split != "validation"} | {validation: "validation"}


def _separate_splits(
    images: list[str], folders: list[str], groups: Mapping[str, list[str]], splits: Mapping[str, str]
) -> Layout:
    """Return a layout in which each split is one top folder. Other folders and files are left out, with a note.

    Args:
        images: The paths of the images.
        folders: The paths of all folders.
        groups: The paths of the images in each top folder, by the name of the folder.
        splits: The split of each top folder that is a split, by the name of the folder.
    """
    stray = [path for path in images if "/" not in path]
    notes = [f"left out, because they are not in a split's folder: {listed(stray)}"] if stray else []
    _require_images([folder for folder in folders if split_name(folder)], groups)
    repeated = [folder for folder, split in splits.items() if list(splits.values()).count(split) > 1]
    if repeated:
        raise UserError(f"{listed(repeated)}: are folders of the same split. Allowed: one folder per split")
    paths: dict[str, list[str]] = {}
    labels: dict[str, list[str]] = {}
    for folder in sorted(groups):
        split = splits.get(folder)
        inside = _below(groups[folder], f"{folder}/")
        classes = _classes(inside, folder) if split else None
        if split is None or classes is None:
            reason = "the folder's name is not a split" if split is None else "its images have no class"
            notes.append(f"{printable(folder)}/: {len(inside)} images left out, because {reason}")
            continue
        if "/" in inside[0]:
            full = {f"{folder}/{path.split('/')[0]}" for path in inside}
            _require_images([path for path in folders if path.count("/") == 1 and path.startswith(f"{folder}/")], full)
        paths[split], labels[split] = groups[folder], classes
    return Layout(paths, labels, notes)


def _common_folder(paths: list[str]) -> str:
    """Return the top folder that contains all images, followed by a slash.

    If no top folder contains all images, or if this folder is itself a split, return an empty string.
    """
    tops = {path.split("/")[0] for path in paths}
    top = next(iter(tops), "")
    return f"{top}/" if len(tops) == 1 and split_name(top) is None and "/" in paths[0] else ""


def _below(paths: Iterable[str], prefix: str) -> list[str]:
    return [path.removeprefix(prefix) for path in paths if path.startswith(prefix)]


def _classes(paths: list[str], folder: str) -> list[str] | None:
    """Return the class of each image, in the order of `paths`.

    The class is the name of the image's folder, or the number at the start of the file's name. If some image has
    neither, return `None`.

    Args:
        paths: The paths of the images, relative to `folder`.
        folder: The folder that contains the images, for error messages. An empty string stands for the top folder.

    Raises:
        UserError: Some images are in class folders, and other images are next to these folders.
    """
    direct = [path for path in paths if "/" not in path]
    if not direct:
        folders = [path.split("/")[0] for path in paths]
        names = {folder: unicodedata.normalize("NFC", printable(folder)) for folder in set(folders)}
        return [names[folder] for folder in folders]
    if len(direct) < len(paths):
        raise UserError(
            f"{printable(folder) or 'the top folder'}: has images beside class folders: {listed(direct)}. {SHAPE}"
        )
    numbers = [NUMBERED.match(path) for path in paths]
    return [number[1] for number in numbers if number] if all(numbers) else None


def _require_images(folders: list[str], full: Iterable[str]) -> None:
    empty = sorted(set(folders) - set(full))
    if empty:
        raise UserError(f"folders without an image: {listed(empty)}. Allowed: at least one image in each")
