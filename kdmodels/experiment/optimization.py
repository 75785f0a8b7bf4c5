"""The fields `optimizer` and `schedule` of a training recipe: torch's optimizers, own ones, and schedules."""

import sys
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from kdmodels.errors import allowed
from kdmodels.experiment.schema import Part, is_code, mistake, parse, show

Epoch = Annotated[int, Field(ge=1)]
WEIGHT_DECAY = "L2 penalty: factor of the squared weights in the loss."
WARMUP = "Number of epochs during which the learning rate rises linearly."


class Adam(Part):
    """Arguments of torch.optim.Adam."""

    lr: float = Field(default=1e-3, gt=0, description="Learning rate.")
    betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(
        default=[0.9, 0.999],
        min_length=2,
        max_length=2,
        description="Decays of the moving averages of the gradient and of its square.",
    )
    eps: float = Field(default=1e-8, gt=0, description="Number added to the denominator of an update, for stability.")
    weight_decay: float = Field(default=0.0, ge=0, description=WEIGHT_DECAY)
    amsgrad: bool = Field(default=False, description="Whether to use the variant AMSGrad.")


class AdamW(Adam):
    """Arguments of torch.optim.AdamW."""

    weight_decay: float = Field(default=0.01, ge=0, description="Weight decay, applied separately from the gradient.")


class SGD(Part):
    """Arguments of torch.optim.SGD."""

    lr: float = Field(default=1e-3, gt=0, description="Learning rate.")
    momentum: float = Field(default=0.0, ge=0, description="Momentum.")
    dampening: float = Field(default=0.0, ge=0, description="Dampening of the momentum.")
    weight_decay: float = Field(default=0.0, ge=0, description=WEIGHT_DECAY)
    nesterov: bool = Field(
        default=False,
        description="Whether to use Nesterov momentum. Needs a momentum above 0 and a dampening of 0.",
    )

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise mistake("true needs a momentum above 0 and a dampening of 0", "nesterov")
        return self


class Cosine(Part):
    """A learning rate that rises linearly during the warm-up epochs and then falls to 0 along a cosine."""

    warmup: int = Field(default=0, ge=0, description=WARMUP)


class StepSchedule(Part):
    """A learning rate that is multiplied by `factor` at the start of each epoch in `at`. Epochs are counted from 0."""

    at: list[Epoch] = Field(min_length=1, description="Epochs at whose start the learning rate changes.")
    factor: float = Field(default=0.1, gt=0, lt=1, description="Number by which the learning rate is multiplied.")
    warmup: int = Field(default=0, ge=0, description=WARMUP)


class Constant(Part):
    """A constant learning rate after a linear warm-up. For a constant rate without warm-up, write `schedule: null`."""

    warmup: int = Field(ge=1, description=WARMUP)


class OneCycle(Part):
    """A learning rate that rises along a cosine and then falls to almost 0.

    The learning rate starts at the optimizer's learning rate divided by `start_divisor`. Until the share
    `rise` of all steps is done, it rises to the optimizer's learning rate. Afterwards, it falls to the start value
    divided by `end_divisor`. The momentum stays constant. The defaults are those of torch's OneCycleLR.

    References:
        Smith and Topin, "Super-convergence: very fast training of neural networks using large learning rates", 2018.
    """

    rise: float = Field(default=0.3, gt=0, lt=1, description="Share of the training during which the rate rises.")
    start_divisor: float = Field(
        default=25.0,
        ge=1,
        description="First learning rate: the optimizer's learning rate divided by this number.",
    )
    end_divisor: float = Field(
        default=1e4, ge=1, description="Last learning rate: the first learning rate divided by this number."
    )


Arguments = dict[str, bool | int | float | str | list[float]]
OPTIMIZERS: dict[str, type[BaseModel]] = {"adam": Adam, "adamw": AdamW, "sgd": SGD}
SCHEDULES: dict[str, type[BaseModel]] = {
    "cosine": Cosine,
    "step": StepSchedule,
    "constant": Constant,
    "one_cycle": OneCycle,
}


def parse_optimizer(raw: object) -> object:
    """Return the normal form of the field `optimizer`: the name, the learning rate and the other given arguments.

    Raises:
        PydanticCustomError: The value is not one optimizer with its arguments.
    """
    if isinstance(raw, dict) and len(raw) == 1 and all(is_own_optimizer(name) for name in raw):
        return {name: _parse_own_arguments(name, arguments) for name, arguments in raw.items()}
    name, arguments = _only_entry(raw, OPTIMIZERS, "optimizer", "{adam: {lr: 0.001}}")
    optimizer = parse(OPTIMIZERS[name], arguments, name)
    return {name: optimizer.model_dump(include={"lr", *optimizer.model_fields_set})}


def parse_schedule(raw: object) -> object:
    """Return the normal form of the field `schedule`: the name with all arguments, or None.

    Raises:
        PydanticCustomError: The value is not None, and is not one schedule with its arguments.
    """
    if raw is None:
        return None
    name, arguments = _only_entry(raw, SCHEDULES, "schedule", "{cosine: {warmup: 1}}")
    return {name: parse(SCHEDULES[name], arguments, name).model_dump()}


def is_own_optimizer(name: object) -> bool:
    """Return whether an optimizer is a class that the user names as `module:Class`."""
    return is_code(name)


def _parse_own_arguments(name: str, raw: object) -> object:
    """Return the arguments of an optimizer that is not one of `OPTIMIZERS`. The class checks them before the training.

    Raises:
        PydanticCustomError: The arguments are not a mapping, or have no learning rate above 0.
    """
    if not isinstance(raw, dict):
        raise mistake(f"expected a mapping with lr, such as {{lr: 0.01}}, got {show(raw)}", name)
    if "lr" not in raw:
        raise mistake("missing. Expected a number above 0", name, "lr")
    lr = raw["lr"]
    if isinstance(lr, bool) or not isinstance(lr, int | float) or not 0 < lr <= sys.float_info.max:
        raise mistake(f"expected a number above 0, got {show(lr)}", name, "lr")
    return raw | {"lr": float(lr)}


def _only_entry(raw: object, table: dict[str, type[BaseModel]], kind: str, example: str) -> tuple[str, object]:
    """Return the key and the value of a mapping with exactly one entry.

    Args:
        raw: The value of the field.
        table: A mapping whose keys are the allowed keys of the entry.
        kind: The kind of the entry in words, for error messages.
        example: An allowed value of the field, for error messages.

    Raises:
        PydanticCustomError: The value is not a mapping with exactly one entry, or the key is not allowed.
    """
    if not isinstance(raw, dict) or len(raw) != 1:
        raise mistake(f"expected one name with arguments, such as {example}, got {show(raw)}. " + allowed("", table))
    ((name, arguments),) = raw.items()
    if name not in table:
        raise mistake(f"unknown {kind} {show(name)}. {allowed(str(name), table)}")
    return name, arguments
