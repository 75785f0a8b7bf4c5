"""Which split and which class an image belongs to, by its path alone."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from kdmodels.data.files import listed, printable
from kdmodels.errors import UserError, allowed

SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing", "evaluation", "eval"),
}
NUMBERED = re.compile(r"([0-9]+)_")  # 7_12.jpg is of class 7
SHAPE = "allowed: a folder for each class, or files named CLASS_NUMBER, in train/, validation/ and test/ or in one pool"


@dataclass(frozen=True)
class Layout:
    """Paths of each split, in order, the class of each, and what the user should know."""

    paths: dict[str, list[str]]
    labels: dict[str, list[str]]
    notes: list[str] = field(default_factory=list)


def split_name(folder: str) -> str | None:
    """The split that a folder of that name is.

    >>> split_name("Training"), split_name("val"), split_name("cats")
    ('train', 'validation', None)
    """
    return next((split for split, names in SPLITS.items() if folder.lower() in names), None)


def read_layout(paths: Iterable[str], folders: Iterable[str], validation: str | None = None) -> Layout:
    """Sort images into splits and classes.

    With a training folder that holds class folders or numbered files, the folders named in `SPLITS` are the splits;
    else all images are one pool, `train`. A single folder around everything is looked through.

    Args:
        paths: the images'. folders: all folders, so that empty ones are seen.
        validation: the folder of the validation split, where it is not named as in `SPLITS`.

    Raises:
        UserError: images have no class, a class folder is empty, or two folders are the same split.
    """
    paths, folders = sorted(paths), sorted(folders)
    prefix = _around(paths)
    below, inner = _below(paths, prefix), _below(folders, prefix)
    groups: dict[str, list[str]] = defaultdict(list)
    for path in below:
        if "/" in path:
            groups[path.split("/")[0]].append(path)
    wanted = {folder: split for folder in groups if (split := split_name(folder))}
    trains = [folder for folder, split in wanted.items() if split == "train"]
    if not any(_classes(_below(groups[folder], f"{folder}/"), folder) for folder in trains):
        if validation:
            raise UserError(f"data.validation: {validation!r}: there is no train folder beside it; {SHAPE}")
        if not below:
            raise UserError(f"no image; {SHAPE}")
        pool = _classes(below, "")
        if pool is None:
            raise UserError(f"{listed(below[:1])} has no class; {SHAPE}")
        if groups:
            _refuse_empty([folder for folder in inner if "/" not in folder], groups)
        return Layout({"train": [prefix + path for path in below]}, {"train": pool})
    if validation:
        if validation not in groups:
            raise UserError(f"data.validation: {validation!r} is no folder of images; {allowed(validation, groups)}")
        wanted = {folder: split for folder, split in wanted.items() if split != "validation"} | {
            validation: "validation"
        }
    found: dict[str, list[str]] = {}
    labels: dict[str, list[str]] = {}
    stray = [path for path in below if "/" not in path]
    notes = [f"{listed(stray)}: left out: beside the folders of the splits"] if stray else []
    _refuse_empty([folder for folder in inner if split_name(folder)], groups)
    twice = [folder for folder, split in wanted.items() if list(wanted.values()).count(split) > 1]
    if twice:
        raise UserError(f"{listed(twice)}: folders of the same split; allowed: one of each")
    for folder in sorted(groups):
        split = wanted.get(folder)
        inside = _below(groups[folder], f"{folder}/")
        classes = _classes(inside, folder) if split else None
        if split is None or classes is None:
            why = "no split of that name" if split is None else "its images have no class"
            notes.append(f"{printable(folder)}/: {len(inside)} images left out: {why}")
            continue
        if "/" in inside[0]:
            full = {f"{folder}/{path.split('/')[0]}" for path in inside}
            _refuse_empty([path for path in inner if path.count("/") == 1 and path.startswith(f"{folder}/")], full)
        found[split], labels[split] = [prefix + path for path in groups[folder]], classes
    return Layout(found, labels, notes)


def _around(paths: list[str]) -> str:
    """The single folder that holds everything, if there is one and it is no split itself; else nothing."""
    tops = {path.split("/")[0] for path in paths}
    top = next(iter(tops), "")
    return f"{top}/" if len(tops) == 1 and split_name(top) is None and "/" in paths[0] else ""


def _below(paths: Iterable[str], prefix: str) -> list[str]:
    return [path.removeprefix(prefix) for path in paths if path.startswith(prefix)]


def _classes(paths: list[str], folder: str) -> list[str] | None:
    """The class of each path; None where they have none."""
    direct = [path for path in paths if "/" not in path]
    if not direct:
        folders = [path.split("/")[0] for path in paths]
        names = {folder: unicodedata.normalize("NFC", printable(folder)) for folder in set(folders)}
        return [names[folder] for folder in folders]
    if len(direct) < len(paths):
        raise UserError(
            f"{printable(folder) or 'the top folder'}: images beside class folders: {listed(direct)}; {SHAPE}"
        )
    numbers = [NUMBERED.match(path) for path in paths]
    return [number[1] for number in numbers if number] if all(numbers) else None


def _refuse_empty(folders: list[str], full: Iterable[str]) -> None:
    empty = sorted(set(folders) - set(full))
    if empty:
        raise UserError(f"folders without an image: {listed(empty)}; allowed: at least one image in each")
