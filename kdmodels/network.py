"""What an experiment file may say of a network's shape."""

import re
from typing import Annotated, Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from kdmodels.architectures import ARCHITECTURES, BLOCKS
from kdmodels.errors import allowed
from kdmodels.schema import Part, mistake, show

Width = Annotated[int, Field(ge=1, le=100_000)]

WIDTH_STEP = 4
"""A compact network's width is a multiple of this, so that its blocks' halves and groups are whole."""


class Budget(Part):
    """What a compact network may cost at most, also written as a whole number: of parameters."""

    parameters: int | None = Field(default=None, ge=1, description="Trainable numbers.")
    flops: int | None = Field(
        default=None, ge=1, description="Operations of one image's forward pass; a multiply-add is two."
    )
    latency_ms: float | None = Field(
        default=None, gt=0, description="Median milliseconds of one image's forward pass, as measured on this machine."
    )

    @model_validator(mode="before")
    @classmethod
    def _normal_form(cls, raw: Any) -> Any:
        return {"parameters": raw} if isinstance(raw, int) and not isinstance(raw, bool) else raw

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if len(self.model_dump()) != 1:
            raise mistake("needs one of parameters, flops and latency_ms")
        return self

    @model_serializer(mode="wrap")
    def _only_what_is_given(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in whole(self).items() if value is not None}

    @property
    def limit(self) -> tuple[str, float]:
        """What is limited, and the limit."""
        ((name, limit),) = self.model_dump().items()
        return name, limit


class Compact(Part):
    """A small network of equal blocks: of a width and depth, or the largest inside a budget."""

    block: str = Field(
        description=f"What it is made of: {', '.join(BLOCKS)}.", json_schema_extra={"enum": list(BLOCKS)}
    )
    budget: Budget | None = Field(
        default=None, description="The largest network inside it is searched; null: width and depth are given."
    )
    width: int | None = Field(
        default=None,
        ge=WIDTH_STEP,
        multiple_of=WIDTH_STEP,
        description="Channels of the first blocks; halvings of the map double them, up to four times.",
    )
    depth: int | None = Field(default=None, ge=1, le=100, description="How many blocks.")

    @field_validator("block", mode="after")
    @classmethod
    def _known(cls, block: str) -> str:
        if block not in BLOCKS:
            raise mistake(f"{show(block)} is not a block; {allowed(block, BLOCKS)}")
        return block

    @model_validator(mode="after")
    def _sized(self) -> Self:
        if (self.width is None) != (self.depth is None):
            missing, given = ("width", "depth") if self.width is None else ("depth", "width")
            raise mistake(f"is missing: allowed with {given}: a whole number", missing)
        if self.budget is None and self.width is None:
            raise mistake("is missing: a whole number of parameters, or give width and depth", "budget")
        return self

    @model_serializer(mode="wrap")
    def _only_what_is_given(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in whole(self).items() if value is not None}


KINDS = ("mlp", "conv", "name", "torchvision", "timm", "module", "compact")
_DOTTED = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
_PLACE = f"^{_DOTTED}:{_DOTTED}$"
_BELONGS = {"dropout": ("mlp",), "weights": ("torchvision", "timm"), "arguments": ("module",)}


class Network(Part):
    """The shape of a network: of one kind, and what belongs to it.

    Also written as a text: a name of the catalogue, or `package.module:Class`.
    """

    mlp: list[Width] | None = Field(
        default=None, min_length=1, description="Units of each hidden layer, first to last."
    )
    conv: list[Width] | None = Field(
        default=None, min_length=1, description="Channels of each block of 3x3 convolution, first to last."
    )
    name: str | None = Field(
        default=None,
        description=f"A network of the catalogue: {', '.join(ARCHITECTURES)}.",
        json_schema_extra={"enum": [*ARCHITECTURES, None]},
    )
    torchvision: str | None = Field(
        default=None, min_length=1, description="A classification model of torchvision, as resnet18."
    )
    timm: str | None = Field(default=None, min_length=1, description="A model of timm, which must be installed.")
    module: str | None = Field(
        default=None,
        pattern=_PLACE,
        description="Your own class or function, as package.module:Class; see docs/networks.md for what it is given.",
    )
    compact: Compact | None = Field(default=None, description="A small network of one kind of block.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of an mlp's hidden units dropped in training.")
    weights: str | None = Field(
        default=None,
        min_length=1,
        description="Pretrained weights already on disk: DEFAULT, one of torchvision's names, or a tag of timm.",
    )
    arguments: dict[str, Any] = Field(default={}, description="What a module is called with.")

    @model_validator(mode="before")
    @classmethod
    def _normal_form(cls, raw: Any) -> Any:
        return {"module" if ":" in raw else "name": raw} if isinstance(raw, str) else raw

    @field_validator("name", mode="after")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None and name not in ARCHITECTURES:
            others = "{torchvision: NAME}, {timm: NAME}, package.module:Class"
            raise mistake(f"{show(name)} is not in the catalogue; {allowed(name, ARCHITECTURES)}, {others}")
        return name

    @field_validator("module", mode="before")
    @classmethod
    def _place(cls, module: Any) -> Any:
        if isinstance(module, str) and not re.fullmatch(_PLACE, module):
            raise mistake(f"{show(module)} is not a place (allowed: package.module:Class)")
        return module

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if not given:
            raise mistake(f"needs one of {', '.join(KINDS)}")
        if len(given) > 1:
            raise mistake(f"stands beside {given[0]}; allowed: one of them", given[1])
        for name, kinds in _BELONGS.items():
            if given[0] not in kinds and getattr(self, name) != Network.model_fields[name].default:
                default = show(Network.model_fields[name].default)
                raise mistake(f"belongs to {' and '.join(kinds)}; allowed with {given[0]}: {default}", name)
        return self

    @model_serializer(mode="wrap")
    def _only_its_kind(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        kind = self.kind
        return {name: value for name, value in whole(self).items() if name == kind or kind in _BELONGS.get(name, ())}

    @property
    def kind(self) -> str:
        """Which of the kinds it is."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)
