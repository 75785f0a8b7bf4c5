"""The `augment` field of the experiment file: the augmentations of the training images."""

import re
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from kdmodels.errors import allowed
from kdmodels.experiment.schema import Part, mistake, parse, show

OWN = r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$"
Pixels = Annotated[int, Field(ge=1, le=512)]
Concentration = Annotated[float, Field(gt=0, le=100)]


class Jitter(Part):
    """A random shift of up to `jitter` pixels in each direction. Uncovered pixels become black."""

    jitter: Pixels = Field(description="Largest shift in pixels.")


class Crop(Part):
    """A random crop of the original size from an image that is first padded with black pixels on each side."""

    crop: Pixels = Field(description="Padding in pixels.")


class Flip(Part):
    """A horizontal flip with probability 0.5."""

    flip: Literal[True] = Field(description="Must be true.")

    @field_validator("flip", mode="before")
    @classmethod
    def _require_true(cls, raw: object) -> object:
        if raw is not True:
            raise mistake(f"expected true, got {show(raw)}")
        return raw


class Strength(Part):
    """The number and the strength of the operations that RandAugment draws for each image."""

    operations: int = Field(default=2, ge=1, le=10, description="Number of operations per image, applied in turn.")
    magnitude: int = Field(default=9, ge=0, le=30, description="Strength of all operations.")


class RandAugment(Part):
    """RandAugment: random operations on the geometry and colour of each image (Cubuk et al. 2020).

    The operations are drawn again for each image. All operations have the same magnitude.
    """

    randaugment: Strength


class Mixup(Part):
    """A weighted mean of the image and another training image (Zhang et al. 2018).

    The weight of the other image is drawn from Beta(α, α).
    """

    mixup: Concentration = Field(description="Parameter α of the Beta distribution.")


class CutMix(Part):
    """A rectangle of another training image, pasted into the image (Yun et al. 2019).

    The share of the area that the rectangle covers is drawn from Beta(α, α).
    """

    cutmix: Concentration = Field(description="Parameter α of the Beta distribution.")


class Function(Part):
    """A function of the user that augments one image."""

    name: str = Field(pattern=OWN, description="The function, as module:function.")
    arguments: dict[str, bool | int | float | str] = Field(
        default={}, description="Values of the function's keyword-only arguments."
    )

    def __hash__(self) -> int:
        """Return a hash of the name and the arguments, because data settings are used as keys."""
        return hash((self.name, tuple(sorted(self.arguments.items()))))


class Own(Part):
    """A function of the user as an augmentation. In a file, write {module:function: {...}} with the arguments."""

    own: Function = Field(description="The function that augments each image.")


Operation = Jitter | Crop | Flip | RandAugment | Mixup | CutMix | Own
OPERATIONS: dict[str, type[Part]] = {name: part for part in get_args(Operation) for name in part.model_fields}
MIXING = ("mixup", "cutmix")


def parse_operations(raw: object) -> object:
    """Convert the value of a field `augment` to a tuple of operations.

    Validators call this function before pydantic validates the value.

    Args:
        raw: A list of mappings. Each mapping holds the name and the argument of one operation. A value that is not a
            list is returned unchanged.

    Raises:
        PydanticCustomError: An operation is unknown or repeated, or mixup or cutmix is not the last operation.
    """
    if not isinstance(raw, list | tuple):
        return raw
    names: list[str] = []
    parts: list[Part] = []
    for index, item in enumerate(raw):
        entry = item.model_dump() if isinstance(item, Part) else item
        if not isinstance(entry, dict) or len(entry) != 1:
            raise mistake(f"expected one name with its argument, such as {{jitter: 2}}, got {show(entry)}", index)
        (name,) = entry
        kind = "own" if isinstance(name, str) and re.fullmatch(OWN, name) else name
        if kind != name:
            entry = {kind: {"name": name, "arguments": entry[name] if entry[name] is not None else {}}}
        if kind not in OPERATIONS:
            known = [*OPERATIONS, "module:function"]
            raise mistake(f"unknown augmentation {show(name)}. {allowed(str(name), known)}", index)
        if names and names[-1] in MIXING and name not in names:
            raise mistake(f"{name} comes after {names[-1]}. Allowed: one of mixup and cutmix, as the last", index)
        part = parse(OPERATIONS[kind], entry, index)
        name = part.own.name if isinstance(part, Own) else name
        if name in names:
            raise mistake(f"{name} appears twice. Each augmentation may appear only once", index)
        names.append(name)
        parts.append(part)
    return tuple(parts)
