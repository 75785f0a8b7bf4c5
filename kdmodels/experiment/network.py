"""The `network` field of the experiment file: the architecture of a network."""

import re
from typing import Annotated, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from kdmodels.errors import allowed
from kdmodels.experiment.architectures import ARCHITECTURES, BLOCKS
from kdmodels.experiment.schema import Part, mistake, show

Width = Annotated[int, Field(ge=1, le=100_000)]

WIDTH_STEP = 4
"""The width of a compact network is a multiple of this number.

Some blocks split their channels into 2 halves or 4 groups. Every part must have a whole number of channels.
"""


class Budget(Part):
    """A limit on one cost of a compact network.

    In an experiment file, a whole number N is short for `{parameters: N}`.
    """

    parameters: int | None = Field(default=None, ge=1, description="Number of trainable parameters.")
    flops: int | None = Field(
        default=None,
        ge=1,
        description="Floating-point operations of one image's forward pass. A multiply-add counts as 2.",
    )
    latency_ms: float | None = Field(
        default=None, gt=0, description="Median time of one image's forward pass in ms, measured on this machine."
    )

    @model_validator(mode="before")
    @classmethod
    def _expand_shorthand(cls, raw: object) -> object:
        return {"parameters": raw} if isinstance(raw, int) and not isinstance(raw, bool) else raw

    @model_validator(mode="after")
    def _require_one_limit(self) -> Self:
        if len(self.model_dump()) != 1:
            raise mistake(f"expected one of {', '.join(Budget.model_fields)}, got {show(self.model_dump())}")
        return self

    @model_serializer(mode="wrap")
    def _drop_unset(self, serialize: SerializerFunctionWrapHandler) -> dict[str, object]:
        return {name: value for name, value in serialize(self).items() if value is not None}

    @property
    def limit(self) -> tuple[str, float]:
        """The name of the limited cost, and the limit."""
        ((name, limit),) = self.model_dump().items()
        return name, limit


class Compact(Part):
    """A small network of blocks of one kind.

    The experiment file sets the width and the depth, or a budget. For a budget, the largest network within the budget
    is chosen. If the file sets width, depth and budget, the network must be within the budget.
    """

    block: str = Field(description=f"Kind of block: {', '.join(BLOCKS)}.", json_schema_extra={"enum": list(BLOCKS)})
    budget: Budget | None = Field(
        default=None,
        description="Limit on the cost of the network. Default: none; width and depth are then required.",
    )
    width: int | None = Field(
        default=None,
        ge=WIDTH_STEP,
        multiple_of=WIDTH_STEP,
        description="Number of channels of the first blocks. When the feature map is halved, the number of channels "
        "doubles, up to 4 times the width.",
    )
    depth: int | None = Field(default=None, ge=1, le=100, description="Number of blocks.")

    @field_validator("block", mode="after")
    @classmethod
    def _require_known_block(cls, block: str) -> str:
        if block not in BLOCKS:
            raise mistake(f"unknown block {show(block)}. {allowed(block, BLOCKS)}")
        return block

    @model_validator(mode="after")
    def _require_size(self) -> Self:
        if (self.width is None) != (self.depth is None):
            missing, present = ("width", "depth") if self.width is None else ("depth", "width")
            raise mistake(f"missing. Expected a whole number, since {present} is set", missing)
        if self.budget is None and self.width is None:
            raise mistake("missing. Expected parameters, flops or latency_ms, or both width and depth", "budget")
        return self

    @model_serializer(mode="wrap")
    def _drop_unset(self, serialize: SerializerFunctionWrapHandler) -> dict[str, object]:
        return {name: value for name, value in serialize(self).items() if value is not None}


KINDS = ("mlp", "conv", "name", "torchvision", "timm", "module", "compact")
_DOTTED = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
_CODE = f"^{_DOTTED}:{_DOTTED}$"
_IN_FILE = re.compile(r"(?:\./)?((?:[A-Za-z_]\w*/)*[A-Za-z_]\w*)\.py:(.+)")
_KINDS_OF_OPTION = {"dropout": ("mlp",), "weights": ("torchvision", "timm"), "arguments": ("module",)}


class Network(Part):
    """The architecture of a network: its kind and its options.

    In an experiment file, a network can also be written as one text: the name of a network in `ARCHITECTURES`, or the
    path of a class or function, such as `package.module:Class`.
    """

    mlp: list[Width] | None = Field(
        default=None, min_length=1, description="Number of units of each hidden layer, first to last."
    )
    conv: list[Width] | None = Field(
        default=None, min_length=1, description="Number of channels of each 3x3 convolution block, first to last."
    )
    name: str | None = Field(
        default=None,
        description=f"Network of the catalogue: {', '.join(ARCHITECTURES)}.",
        json_schema_extra={"enum": [*ARCHITECTURES, None]},
    )
    torchvision: str | None = Field(
        default=None, min_length=1, description="Classification model of torchvision, e.g. resnet18."
    )
    timm: str | None = Field(default=None, min_length=1, description="Model of timm. timm must be installed.")
    module: str | None = Field(
        default=None,
        pattern=_CODE,
        description="Your own class or function, as package.module:Class or ./file.py:Class. docs/networks.md lists "
        "its arguments.",
    )
    compact: Compact | None = Field(default=None, description="Small network of one kind of block.")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the hidden units of an mlp that is dropped during training."
    )
    weights: str | None = Field(
        default=None,
        min_length=1,
        description="Pretrained weights on this disk: DEFAULT, a weights name of torchvision, or a tag of timm.",
    )
    arguments: dict[str, object] = Field(default={}, description="Keyword arguments of `module`.")

    @model_validator(mode="before")
    @classmethod
    def _expand_shorthand(cls, raw: object) -> object:
        return {"module" if ":" in raw else "name": raw} if isinstance(raw, str) else raw

    @field_validator("name", mode="after")
    @classmethod
    def _require_known_name(cls, name: str | None) -> str | None:
        if name is not None and name not in ARCHITECTURES:
            others = "{torchvision: NAME}, {timm: NAME}, package.module:Class"
            raise mistake(f"unknown network {show(name)}. {allowed(name, ARCHITECTURES)}, {others}")
        return name

    @field_validator("module", mode="before")
    @classmethod
    def _require_code(cls, module: object) -> object:
        if isinstance(module, str) and (in_file := _IN_FILE.fullmatch(module)):
            module = f"{in_file[1].replace('/', '.')}:{in_file[2]}"
        if isinstance(module, str) and not re.fullmatch(_CODE, module):
            raise mistake(f"expected package.module:Class or ./file.py:Class, got {show(module)}")
        return module

    @model_validator(mode="after")
    def _require_one_kind(self) -> Self:
        kinds = [kind for kind in KINDS if getattr(self, kind) is not None]
        if not kinds:
            raise mistake(f"expected one of {', '.join(KINDS)}, got none of them")
        if len(kinds) > 1:
            raise mistake(f"conflicts with {kinds[0]}. Allowed: one of them", kinds[1])
        for name, takers in _KINDS_OF_OPTION.items():
            if kinds[0] not in takers and getattr(self, name) != Network.model_fields[name].default:
                default = show(Network.model_fields[name].default)
                raise mistake(f"applies only to {' and '.join(takers)}. Allowed with {kinds[0]}: {default}", name)
        return self

    @model_serializer(mode="wrap")
    def _drop_other_kinds(self, serialize: SerializerFunctionWrapHandler) -> dict[str, object]:
        kind = self.kind
        fields = serialize(self)
        return {name: value for name, value in fields.items() if name == kind or kind in _KINDS_OF_OPTION.get(name, ())}

    @property
    def kind(self) -> str:
        """The kind of the network, an item of `KINDS`."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)
