"""The `teacher` and `student` fields of the experiment file: the networks and their training recipes."""

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from kdmodels.experiment.augmentation import Operation, parse_operations
from kdmodels.experiment.data import Data, Normalisation, Side, expand_imagenet, expand_square
from kdmodels.experiment.network import Network
from kdmodels.experiment.optimization import OPTIMIZERS, SCHEDULES, Arguments, parse_optimizer, parse_schedule
from kdmodels.experiment.schema import Part, mistake, show

MOST_EPOCHS = 1_000_000


class Recipe(Part):
    """The training recipe of a network: epochs, batch size, optimizer, learning rate schedule and other settings."""

    epochs: int = Field(ge=1, le=MOST_EPOCHS, description="Number of passes over the training examples.")
    batch: int = Field(default=64, ge=1, le=1_000_000, description="Number of examples per step.")
    init: Literal["fan_out"] | None = Field(
        default=None,
        description="Initial weights of convolutions in networks of kdflow. fan_out: normal with variance 2 / (output "
        "channels x kernel height x width), and biases of 0 (He et al. 2015). Default: torch's distribution.",
    )
    optimizer: dict[str, Arguments] = Field(
        default={"adam": {"lr": 1e-3}},
        description="One of adam, adamw, sgd, with the arguments of torch's optimizer, e.g. {adam: {lr: 0.001}}. Or "
        "another class, module:Class, e.g. {'torch.optim:RMSprop': {lr: 0.01}}.",
        json_schema_extra={
            "propertyNames": {"anyOf": [{"enum": list(OPTIMIZERS)}, {"pattern": "^[^:]+:[^:]+$"}]},
            "minProperties": 1,
            "maxProperties": 1,
        },
    )
    decay_norms: bool = Field(
        default=False,
        description="Whether weight decay also applies to biases and to the parameters of normalisation layers.",
    )
    schedule: dict[str, dict[str, int | float | list[int]]] | None = Field(
        default=None,
        description="Learning rate schedule, in epochs: {cosine: {warmup: 1}}, {step: {at: [20, 30], factor: 0.1}}, "
        "{constant: {warmup: 1}} or {one_cycle: {}}. Default: a constant learning rate.",
        json_schema_extra={"propertyNames": {"enum": list(SCHEDULES)}, "minProperties": 1, "maxProperties": 1},
    )
    clip: float | None = Field(
        default=None,
        gt=0,
        description="Largest norm of a step's gradient; larger gradients are scaled down. Default: no limit.",
    )
    max_norm: float | None = Field(
        default=None,
        gt=0,
        description="Largest norm of a unit's incoming weights, in linear layers and convolutions; after each step, "
        "larger weights are scaled down. Default: no limit.",
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Decay of the moving average of the weights, e.g. 0.999. The average is evaluated and stored "
        "instead of the weights. Default: no average.",
    )
    balance: Literal["weights", "sampling"] | None = Field(
        default=None,
        description="How classes are balanced: by weighting the losses on labels, or by sampling rare classes more "
        "often. Default: not balanced.",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="Data type of the computations in training. Weights are always float32."
    )
    compile: bool = Field(default=False, description="Whether torch.compile compiles the training steps.")
    select: Literal["last", "best-validation"] = Field(default="last", description="Epoch whose weights are kept.")
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Early stopping: training ends at the first validation that is at least this number of epochs "
        "after the best epoch. Default: all epochs are trained. Needs select: best-validation.",
    )

    @property
    def lr(self) -> float:
        """The learning rate of the optimizer, before the schedule."""
        ((_, arguments),) = self.optimizer.items()
        lr = arguments["lr"]
        assert isinstance(lr, float)
        return lr

    def with_lr(self, lr: float) -> Self:
        """Return a copy of the recipe with another learning rate."""
        ((name, arguments),) = self.optimizer.items()
        return self.model_copy(update={"optimizer": {name: {**arguments, "lr": lr}}})

    @property
    def warmup(self) -> int:
        """The number of warm-up epochs of the schedule."""
        ((_, arguments),) = self.schedule.items() if self.schedule else (("", {}),)
        warmup = arguments.get("warmup", 0)
        assert isinstance(warmup, int)
        return warmup

    @model_validator(mode="after")
    def _require_short_warmup(self) -> Self:
        if self.schedule and self.epochs and self.warmup >= self.epochs:
            message = f"expected fewer warm-up epochs than the {self.epochs} epochs of training, got {self.warmup}"
            raise mistake(message, "schedule", *self.schedule, "warmup")
        return self

    @model_validator(mode="after")
    def _require_selection_with_patience(self) -> Self:
        if self.patience is not None and self.select != "best-validation":
            raise mistake(f"{self.patience} needs select: best-validation. Allowed without it: null", "patience")
        return self

    @field_validator("optimizer", mode="before")
    @classmethod
    def _parse_optimizer(cls, raw: object) -> object:
        return parse_optimizer(raw)

    @field_validator("schedule", mode="before")
    @classmethod
    def _parse_schedule(cls, raw: object) -> object:
        return parse_schedule(raw)


WEIGHTS_FILES = "a .safetensors file, or a state dict or checkpoint that torch.save wrote"


def _require_effect_of_init(init: str | None, network: Network | None) -> None:
    """Raise an error if `init` is set for a network of a library or of the user, or one without convolutions."""
    if init and network and network.kind not in ("conv", "name", "compact"):
        rule = "needs a network of kdflow with convolutions: conv, compact or a network of the catalogue"
        raise mistake(f"{show(init)} {rule}. Allowed with {network.kind}: null", "init")


class Member(Recipe):
    """A teacher network. The network is trained, or loaded from a checkpoint or the model registry."""

    epochs: int = Field(
        default=0,
        ge=0,
        le=MOST_EPOCHS,
        description="Number of passes over the training examples; 0 for a network that is not trained here.",
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Share of each label that is distributed evenly over all classes."
    )
    network: Network | None = Field(default=None, description="Architecture. Not allowed with registry.")
    checkpoint: str | None = Field(default=None, min_length=1, description=f"Weights of the network: {WEIGHTS_FILES}.")
    key: str | None = Field(
        default=None,
        min_length=1,
        description="Dotted path of the weights in the file of checkpoint, e.g. nets.teacher. Default: the top of the "
        "file, or a usual key such as state_dict or model.",
    )
    prefix: str | None = Field(
        default=None,
        min_length=1,
        description="Prefix of the names of the weights in checkpoint, e.g. teacher. with the dot. The prefix is "
        "removed, and tensors without it are ignored. Default: usual prefixes such as module. are removed.",
    )
    registry: str | None = Field(
        default=None, min_length=1, description="Registered model: name, name@alias or name/3."
    )
    augment: tuple[Operation, ...] | None = Field(
        default=None,
        description="Augmentations of the images on which this network is trained, written like data.augment. Default: "
        "data.augment.",
    )
    normalise: Normalisation | None = Field(
        default=None,
        description="Normalisation of this network's input: imagenet, or {mean: [...], std: [...]}. Default: "
        "the normalisation of the data.",
    )
    size: list[Side] | None = Field(
        default=None,
        min_length=2,
        max_length=2,
        description="Height and width in pixels to which this network resizes its input. Default: the input is not "
        "resized.",
    )
    data: Data | None = Field(
        default=None,
        description="Data on which this network is trained: the fields that differ from the experiment's data, such "
        "as {subset: null}. Default: the experiment's data.",
    )

    training: ClassVar = (*Recipe.model_fields, "label_smoothing")
    """The names of the fields that set how the network is trained, apart from `augment` and `data`."""

    @field_validator("augment", mode="before")
    @classmethod
    def _parse_augment(cls, raw: object) -> object:
        return parse_operations(raw)

    @field_validator("normalise", mode="before")
    @classmethod
    def _expand_imagenet(cls, normalise: object) -> object:
        return expand_imagenet(normalise)

    @field_validator("size", mode="before")
    @classmethod
    def _expand_square(cls, size: object) -> object:
        return expand_square(size)

    @model_validator(mode="after")
    def _require_one_origin(self) -> Self:
        self._check_origin()
        return self

    @model_validator(mode="after")
    def _require_checkpoint(self) -> Self:
        for name in ("key", "prefix"):
            if getattr(self, name) and not self.checkpoint:
                raise mistake("has no effect without checkpoint. Remove this field", name)
        return self

    def _check_origin(self) -> None:
        _require_effect_of_init(self.init, self.network)
        if self.checkpoint and self.registry:
            raise mistake(f"{show(self.registry)} conflicts with checkpoint. Allowed: one of them", "registry")
        if self.registry and self.network:
            raise mistake("conflicts with registry, which provides the network. Allowed: null", "network")
        if not self.registry and not self.network:
            raise mistake("missing. Expected a mapping such as {mlp: [128, 64]}, or registry: MODEL", "network")
        if self.checkpoint or self.registry:
            for name in (*self.training, "augment", "data"):
                if getattr(self, name) != Member.model_fields[name].default:
                    raise mistake("has no effect on a teacher that is trained already. Remove this field", name)
            for name in ("normalise", "size") if self.registry else ():
                if getattr(self, name) is not None:
                    raise mistake(
                        f"conflicts with registry: the registered model has a {name} of its own. Allowed: null", name
                    )
        elif not self.epochs:
            rule = f"a whole number from 1 to {MOST_EPOCHS}"
            is_set = "epochs" in self.model_fields_set
            raise mistake(f"expected {rule}, got 0" if is_set else f"missing. Expected {rule}", "epochs")


class Teacher(Member):
    """A teacher, or an ensemble of teachers. The output distributions of an ensemble's members are averaged.

    In an experiment file, an ensemble can also be written as the list of its members.
    """

    ensemble: list[Member] = Field(
        default=[], description="Teachers whose softened distributions are averaged. All other fields must be left out."
    )

    @model_validator(mode="before")
    @classmethod
    def _expand_list(cls, raw: object) -> object:
        if raw == []:
            raise mistake("expected a teacher, or a list of at least 2 teachers, got []")
        return {"ensemble": raw} if isinstance(raw, list) else raw

    def _check_origin(self) -> None:
        if not self.ensemble:
            return super()._check_origin()
        if len(self.ensemble) < 2:
            raise mistake("expected at least 2 members, got 1", "ensemble")
        for name, field in Member.model_fields.items():
            if getattr(self, name) != field.default:
                raise mistake("belongs to each member of the ensemble. Remove this field here", name)
        return None

    @property
    def members(self) -> Sequence[Member]:
        """The members of the ensemble. If there is no ensemble, the list holds only the teacher."""
        return self.ensemble or [self]


class Student(Recipe):
    """The student: a small network, and its training recipe. The network is trained once for each variant and seed."""

    network: Network = Field(description="Architecture.")
    seeds: int = Field(
        default=3, ge=1, le=500, description="Number of replicas of each variant. The seed of replica i is `seed` + i."
    )
    augment: tuple[Operation, ...] | None = Field(
        default=None,
        description="Augmentations of the images on which students are trained, written like data.augment; []: none. "
        "Default: data.augment.",
    )

    @field_validator("augment", mode="before")
    @classmethod
    def _parse_augment(cls, raw: object) -> object:
        return parse_operations(raw)

    @model_validator(mode="after")
    def _require_effect_of_init(self) -> Self:
        _require_effect_of_init(self.init, self.network)
        return self
