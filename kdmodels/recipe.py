"""How the two networks look and how they are trained: the experiment file's `teacher` and `student`."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from kdmodels.errors import allowed
from kdmodels.network import Network
from kdmodels.schema import Part, mistake, parse, show

MOST_EPOCHS = 1_000_000
Epoch = Annotated[int, Field(ge=1)]


class Adam(Part):
    """torch.optim.Adam's arguments."""

    lr: float = Field(default=1e-3, gt=0)
    betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(default=[0.9, 0.999], min_length=2, max_length=2)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    amsgrad: bool = False


class AdamW(Adam):
    """torch.optim.AdamW's arguments."""

    weight_decay: float = Field(default=0.01, ge=0)


class SGD(Part):
    """torch.optim.SGD's arguments."""

    lr: float = Field(default=1e-3, gt=0)
    momentum: float = Field(default=0.0, ge=0)
    dampening: float = Field(default=0.0, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise mistake("nesterov needs a momentum above 0 and a dampening of 0", "nesterov")
        return self


class Cosine(Part):
    """The learning rate rises linearly for the warm-up's epochs, then falls to 0 along a cosine."""

    warmup: int = Field(default=0, ge=0)


class Step(Part):
    """The learning rate is multiplied by the factor at the start of each of these epochs, counted from 0."""

    at: list[Epoch] = Field(min_length=1)
    factor: float = Field(default=0.1, gt=0, lt=1)
    warmup: int = Field(default=0, ge=0)


class Constant(Part):
    """The learning rate rises linearly for the warm-up's epochs, then stays; without a warm-up it is spelled null."""

    warmup: int = Field(ge=1)


class OneCycle(Part):
    """Along a cosine the learning rate rises to the optimizer's for a share of the training, then falls to almost 0.

    It begins at 1 / `start_divisor` of the optimizer's, and ends at 1 / `end_divisor` of where it began. The momentum
    stays as it is. After Smith & Topin 2018, with the defaults of torch's OneCycleLR.
    """

    rise: float = Field(default=0.3, gt=0, lt=1)
    start_divisor: float = Field(default=25.0, ge=1)
    end_divisor: float = Field(default=1e4, ge=1)


OPTIMIZERS: dict[str, type[BaseModel]] = {"adam": Adam, "adamw": AdamW, "sgd": SGD}
SCHEDULES: dict[str, type[BaseModel]] = {"cosine": Cosine, "step": Step, "constant": Constant, "one_cycle": OneCycle}


class Recipe(Part):
    """How a network is trained."""

    epochs: int = Field(ge=1, le=MOST_EPOCHS, description="Passes over the training examples.")
    batch: int = Field(default=64, ge=1, le=1_000_000, description="Examples per step.")
    optimizer: dict[str, dict[str, float | bool | list[float]]] = Field(
        default={"adam": {"lr": 1e-3}},
        description="One of adam, adamw, sgd, with torch's arguments: {adam: {lr: 0.001}}.",
        json_schema_extra={"propertyNames": {"enum": list(OPTIMIZERS)}, "minProperties": 1, "maxProperties": 1},
    )
    decay_norms: bool = Field(
        default=False, description="Whether weight decay falls on biases and the parameters of norms too."
    )
    schedule: dict[str, dict[str, int | float | list[int]]] | None = Field(
        default=None,
        description="Null: a constant learning rate; {cosine: {warmup: 1}}, {step: {at: [20, 30], factor: 0.1}}, "
        "{constant: {warmup: 1}} or {one_cycle: {}}, in epochs.",
        json_schema_extra={"propertyNames": {"enum": list(SCHEDULES)}, "minProperties": 1, "maxProperties": 1},
    )
    clip: float | None = Field(
        default=None, gt=0, description="The largest norm of a step's gradient, to which it is scaled; null: any."
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Decay of a moving average of the weights, which is measured and kept in their place: 0.999.",
    )
    balance: Literal["weights", "sampling"] | None = Field(
        default=None,
        description="Classes count alike: by weights of the losses on labels, or by how often they are drawn; "
        "null: as often as they occur.",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="The type that a training step computes in; weights are float32."
    )
    compile: bool = Field(default=False, description="Whether training steps are compiled by torch.compile.")
    select: Literal["last", "best-validation"] = Field(default="last", description="Whose epoch's weights are kept.")
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Training ends after so many epochs without a better validation accuracy; null: never early. "
        "Needs select: best-validation.",
    )

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        ((name, arguments),) = self.schedule.items() if self.schedule else (("", {}),)
        warmup = arguments.get("warmup", 0)
        if self.epochs and isinstance(warmup, int) and warmup >= self.epochs:
            message = f"{warmup} is out of range (allowed: below the {self.epochs} epochs)"
            raise mistake(message, "schedule", name, "warmup")
        return self

    @model_validator(mode="after")
    def _patience_keeps_the_best(self) -> Self:
        if self.patience is not None and self.select != "best-validation":
            raise mistake(f"{self.patience} needs select: best-validation; allowed without it: null", "patience")
        return self

    @field_validator("optimizer", mode="before")
    @classmethod
    def _optimizer(cls, raw: Any) -> Any:
        name, arguments = _entry(raw, OPTIMIZERS, "{adam: {lr: 0.001}}")
        given = parse(OPTIMIZERS[name], arguments, name)
        return {name: given.model_dump(include={"lr", *given.model_fields_set})}

    @field_validator("schedule", mode="before")
    @classmethod
    def _schedule(cls, raw: Any) -> Any:
        if raw is None:
            return None
        name, arguments = _entry(raw, SCHEDULES, "{cosine: {warmup: 1}}")
        return {name: parse(SCHEDULES[name], arguments, name).model_dump()}


def _entry(raw: Any, table: dict[str, type[BaseModel]], example: str) -> tuple[str, Any]:
    if not isinstance(raw, dict) or len(raw) != 1:
        raise mistake(f"{show(raw)} is not one name with its arguments, as {example}; {allowed('', table)}")
    ((name, arguments),) = raw.items()
    if name not in table:
        raise mistake(f"{show(name)} is not known, or not built yet; {allowed(str(name), table)}")
    return name, arguments


WEIGHTS_FILES = "a .safetensors file, or a .pt file of tensors alone"


class Member(Recipe):
    """One network whose knowledge is distilled: trained here, read from a checkpoint, or taken from the registry."""

    epochs: int = Field(
        default=0, ge=0, le=MOST_EPOCHS, description="Passes over the training examples; 0 if not trained here."
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Share of each label that is spread evenly over all classes."
    )
    network: Network | None = Field(default=None, description="The shape; null with registry.")
    checkpoint: str | None = Field(default=None, min_length=1, description=f"The weights of network: {WEIGHTS_FILES}.")
    registry: str | None = Field(
        default=None, min_length=1, description="A registered model: name, name@alias or name/3."
    )

    training: ClassVar = (*Recipe.model_fields, "label_smoothing")
    """The fields that say how it is trained here."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        self._check_origin()
        return self

    def _check_origin(self) -> None:
        if self.checkpoint and self.registry:
            raise mistake("checkpoint and registry exclude each other", "registry")
        if self.registry and self.network:
            raise mistake("a teacher from the registry brings its own network; allowed: null", "network")
        if not self.registry and not self.network:
            raise mistake("is missing: a mapping such as {mlp: [128, 64]}, or registry: MODEL", "network")
        if self.checkpoint or self.registry:
            for name in self.training:
                if getattr(self, name) != Member.model_fields[name].default:
                    raise mistake("says how to train, and this teacher is trained already; leave it out", name)
        elif not self.epochs:
            given = "epochs" in self.model_fields_set
            raise mistake(
                f"0 is out of range (allowed: 1 to {MOST_EPOCHS})"
                if given
                else f"is missing: a whole number, 1 to {MOST_EPOCHS}",
                "epochs",
            )


class Teacher(Member):
    """A teacher, or an ensemble of several: the mean of their softened distributions.

    Also written as the list of its members.
    """

    ensemble: list[Member] = Field(
        default=[], description="Teachers whose softened distributions are averaged; nothing else is said then."
    )

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, raw: Any) -> Any:
        if raw == []:
            raise mistake("is empty; allowed: a teacher, or a list of 2 or more")
        return {"ensemble": raw} if isinstance(raw, list) else raw

    def _check_origin(self) -> None:
        if not self.ensemble:
            return super()._check_origin()
        if len(self.ensemble) < 2:
            raise mistake("has 1 member; allowed: 2 or more", "ensemble")
        for name, field in Member.model_fields.items():
            if getattr(self, name) != field.default:
                raise mistake("is said by each member of an ensemble; leave it out", name)
        return None

    @property
    def members(self) -> Sequence[Member]:
        """The ensemble's, or the one teacher."""
        return self.ensemble or [self]


class Student(Recipe):
    """The small network, trained once for each variant and seed."""

    network: Network = Field(description="The shape.")
    seeds: int = Field(default=3, ge=1, le=500, description="Replicas of each variant; replica i has seed + i.")
