"""The `knowledge` field of the experiment file. It sets how many of the teacher's outputs are stored."""

import re
from typing import Annotated, Literal

from pydantic import ByteSize, Field, TypeAdapter, WithJsonSchema, field_validator

from kdmodels.experiment.schema import Part, mistake, show

SIZE = r"^[0-9]+(\.[0-9]+)? ?[kKMGT]B$"
Size = Annotated[
    int, WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": SIZE}]})
]
Count = Annotated[
    Literal["auto"] | Annotated[int, Field(ge=0)],
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"const": "auto"}]}),
]


class Storage(Part):
    """The settings for storing the teacher's knowledge. Knowledge is the teacher's outputs for the images.

    All students use the stored knowledge. If no knowledge is stored, the teacher computes its outputs while a student
    is trained.
    """

    views: Count = Field(
        default="auto",
        description="Number of views (augmented copies) of each training image for which the teacher's knowledge is "
        "stored. 0: none; the teacher then runs while students are trained. auto: all views that students see, within "
        "the budget.",
    )
    budget: Size = Field(
        default=2_000_000_000,
        description="Disk space for the knowledge of one experiment: 2GB, 500MB, or a number of bytes.",
    )

    @field_validator("views", mode="before")
    @classmethod
    def _require_count(cls, raw: object) -> object:
        if raw != "auto" and not _is_count(raw):
            raise mistake(f"expected auto or a whole number of at least 0, got {show(raw)}")
        return raw

    @field_validator("budget", mode="before")
    @classmethod
    def _parse_bytes(cls, raw: object) -> object:
        if _is_count(raw):
            return raw
        if not isinstance(raw, str) or not re.fullmatch(SIZE, raw):
            raise mistake(f"expected a size such as 2GB or 500MB, or a number of bytes, got {show(raw)}")
        return int(TypeAdapter(ByteSize).validate_python(raw))


def _is_count(raw: object) -> bool:
    return isinstance(raw, int) and not isinstance(raw, bool) and raw >= 0
