"""What a network is shown of each image, and how many of a teacher's views are stored: `augment` and `knowledge`."""

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import ByteSize, Field, TypeAdapter, WithJsonSchema, field_validator

from kdmodels.errors import allowed
from kdmodels.schema import Part, mistake, parse, show

Pixels = Annotated[int, Field(ge=1, le=512)]
Concentration = Annotated[float, Field(gt=0, le=100)]


class Jitter(Part):
    """The image is moved by up to so many pixels in each direction; what comes in is black."""

    jitter: Pixels = Field(description="Pixels.")


class Crop(Part):
    """So many black pixels are added on each side, and an image of the old size is cut out at random."""

    crop: Pixels = Field(description="Pixels.")


class Flip(Part):
    """Left and right change places in one view of two."""

    flip: Literal[True] = Field(description="true.")

    @field_validator("flip", mode="before")
    @classmethod
    def _only_true(cls, raw: Any) -> Any:
        if raw is not True:
            raise mistake(f"{show(raw)} is not known; allowed: true")
        return raw


class Strength(Part):
    """How many operations are drawn for an image, and how strong they are."""

    operations: int = Field(default=2, ge=1, le=10, description="Drawn one after the other for each image.")
    magnitude: int = Field(default=9, ge=0, le=30, description="Of all of them.")


class RandAugment(Part):
    """Operations drawn for each image, on its geometry or its colours, of one magnitude (Cubuk et al. 2020)."""

    randaugment: Strength


class Mixup(Part):
    """Each image is averaged with another of the training images; the share is Beta(α, α) (Zhang et al. 2018)."""

    mixup: Concentration = Field(description="α.")


class CutMix(Part):
    """A rectangle is replaced by another training image's; its share is Beta(α, α) (Yun et al. 2019)."""

    cutmix: Concentration = Field(description="α.")


Operation = Jitter | Crop | Flip | RandAugment | Mixup | CutMix
OPERATIONS: dict[str, type[Part]] = {name: part for part in get_args(Operation) for name in part.model_fields}
MIXING = ("mixup", "cutmix")


def operations(raw: Any) -> Any:
    """The items of `augment`, each one name with its argument; for a validator, before pydantic's own.

    Raises:
        PydanticCustomError: an item is none of `OPERATIONS`, one stands twice, or one that mixes two images is not the
            last.
    """
    if not isinstance(raw, list | tuple):
        return raw
    names: list[str] = []
    parts: list[Part] = []
    for index, item in enumerate(raw):
        given = item.model_dump() if isinstance(item, Part) else item
        if not isinstance(given, dict) or len(given) != 1:
            raise mistake(f"{show(given)} is not one name with its argument, as {{jitter: 2}}", index)
        (name,) = given
        if name not in OPERATIONS:
            raise mistake(f"{show(name)} is not an augmentation; {allowed(str(name), OPERATIONS)}", index)
        if name in names:
            raise mistake(f"{name} stands twice; allowed: each once", index)
        if names and names[-1] in MIXING:
            raise mistake(f"{name} comes after {names[-1]}; allowed: one of mixup and cutmix, as the last", index)
        names.append(name)
        parts.append(parse(OPERATIONS[name], given, index))
    return tuple(parts)


SIZE = r"^[0-9]+(\.[0-9]+)? ?[kKMGT]B$"
Size = Annotated[
    int, WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": SIZE}]})
]
Count = Annotated[
    Literal["auto"] | Annotated[int, Field(ge=0)],
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"const": "auto"}]}),
]


class Storage(Part):
    """How much of the teacher's knowledge is stored, to be read by every student; the rest is asked for anew."""

    views: Count = Field(
        default="auto",
        description="So many views of each training image have the teacher's knowledge stored; 0: none, the teacher "
        "runs beside the student; auto: as many as the budget allows and the student sees.",
    )
    budget: Size = Field(
        default=2_000_000_000, description="Disk for one experiment's knowledge: 2GB, 500MB, or a number of bytes."
    )

    @field_validator("views", mode="before")
    @classmethod
    def _count(cls, raw: Any) -> Any:
        if raw != "auto" and not (isinstance(raw, int) and not isinstance(raw, bool) and raw >= 0):
            raise mistake(f"{show(raw)} is not known; allowed: auto, or a whole number, 0 or more")
        return raw

    @field_validator("budget", mode="before")
    @classmethod
    def _bytes(cls, raw: Any) -> Any:
        if isinstance(raw, int) and not isinstance(raw, bool) and raw >= 0:
            return raw
        if not isinstance(raw, str) or not re.fullmatch(SIZE, raw):
            raise mistake(f"{show(raw)} is not a size; allowed: such as 2GB or 500MB, or a number of bytes")
        return int(TypeAdapter(ByteSize).validate_python(raw))
