"""Everything that an experiment may say, with defaults, units and errors: one model for the file, the flow and its form.

Validation turns every shorthand of an experiment file into one normal form, which validates to itself.
"""

import re
from itertools import product
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field, field_validator, model_validator

from kdmodels.errors import allowed
from kdmodels.objectives import CONTROL, LOSSES, PRESETS, Tap, Term
from kdmodels.schema import NAME, Part, mistake, parse, show

__all__ = [
    "Data",
    "Experiment",
    "Network",
    "Promote",
    "Recipe",
    "Require",
    "Runner",
    "Schedule",
    "Student",
    "Tap",
    "Teacher",
    "Term",
    "Variant",
]

Width = Annotated[int, Field(ge=1, le=100_000)]
Epoch = Annotated[int, Field(ge=1)]


class Data(Part):
    """The examples, and how many of the training ones are held out to choose by. Also written as its source alone."""

    later: ClassVar = {"folds": None, "augment": [], "transfer": None, "skip": False, "strict": False}

    source: Literal["digits", "mnist"] = Field(description="digits: scikit-learn's 8x8 digits; mnist: 28x28 digits.")
    validation: float = Field(
        default=0.1, gt=0, lt=1, description="Share of the training examples held out, stratified."
    )

    @model_validator(mode="before")
    @classmethod
    def _normal_form(cls, raw: Any) -> Any:
        return {"source": raw} if isinstance(raw, str) else raw

    @field_validator("source", mode="before")
    @classmethod
    def _built_source(cls, source: Any) -> Any:
        if isinstance(source, str) and source not in ("digits", "mnist"):
            raise mistake(f"{show(source)} is not a source that is built; {allowed(source, ('digits', 'mnist'))}")
        return source

    @field_validator("validation", mode="before")
    @classmethod
    def _no_folder(cls, validation: Any) -> Any:
        if isinstance(validation, str):
            raise mistake(f"{show(validation)}: a folder is not built yet; allowed: a number above 0 and below 1")
        return validation


class Network(Part):
    """The shape of a network."""

    later: ClassVar = {"compact": None}

    mlp: list[Width] = Field(min_length=1, description="Units of each hidden layer, first to last.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of the hidden units dropped in training.")

    @model_validator(mode="before")
    @classmethod
    def _no_names(cls, raw: Any) -> Any:
        if isinstance(raw, str):
            raise mistake(f"{show(raw)}: networks by name are not built yet; allowed: {{mlp: [128, 64]}}")
        return raw


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
    def _nesterov_needs_momentum(self) -> "SGD":
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


OPTIMIZERS: dict[str, type[BaseModel]] = {"adam": Adam, "adamw": AdamW, "sgd": SGD}
SCHEDULES: dict[str, type[BaseModel]] = {"cosine": Cosine, "step": Step}


class Recipe(Part):
    """How a network is trained."""

    later_choices: ClassVar = {"precision": ("bfloat16",)}

    epochs: int = Field(ge=1, le=100_000, description="Passes over the training examples.")
    batch: int = Field(default=64, ge=1, le=1_000_000, description="Examples per step.")
    optimizer: dict[str, dict[str, float | bool | list[float]]] = Field(
        default={"adam": {"lr": 1e-3}},
        description="One of adam, adamw, sgd, with torch's arguments: {adam: {lr: 0.001}}.",
        json_schema_extra={"propertyNames": {"enum": list(OPTIMIZERS)}, "minProperties": 1, "maxProperties": 1},
    )
    schedule: dict[str, dict[str, int | float | list[int]]] | None = Field(
        default=None,
        description="Null: a constant learning rate; {cosine: {warmup: 1}} or {step: {at: [20, 30], factor: 0.1}}, "
        "in epochs.",
    )
    precision: Literal["float32"] = Field(default="float32", description="The type of the weights.")
    select: Literal["last", "best-validation"] = Field(default="last", description="Whose epoch's weights are kept.")

    @field_validator("optimizer", mode="before")
    @classmethod
    def _optimizer(cls, raw: Any) -> Any:
        name, arguments = _entry(raw, OPTIMIZERS, "optimizer", "{adam: {lr: 0.001}}")
        given = parse(OPTIMIZERS[name], arguments, name)
        return {name: given.model_dump(include={"lr", *given.model_fields_set})}

    @field_validator("schedule", mode="before")
    @classmethod
    def _schedule(cls, raw: Any) -> Any:
        if raw is None:
            return None
        name, arguments = _entry(raw, SCHEDULES, "schedule", "{cosine: {warmup: 1}}")
        return {name: parse(SCHEDULES[name], arguments, name).model_dump()}


def _entry(raw: Any, table: dict[str, type[BaseModel]], what: str, example: str) -> tuple[str, Any]:
    if not isinstance(raw, dict) or len(raw) != 1:
        raise mistake(f"{show(raw)} is not one {what}, such as {example}; {allowed('', table)}")
    ((name, arguments),) = raw.items()
    if name not in table:
        raise mistake(
            f"{show(name)} is not an {what} that is built; {allowed(str(name), table)}".replace("an sch", "a sch")
        )
    return name, arguments


class Teacher(Recipe):
    """The network whose knowledge is distilled: trained here, read from a checkpoint, or taken from the registry."""

    epochs: int = Field(
        default=0, ge=0, le=100_000, description="Passes over the training examples; 0 if not trained here."
    )
    network: Network | None = Field(default=None, description="The shape; null with registry.")
    checkpoint: str | None = Field(
        default=None, min_length=1, description="A safetensors file with the weights of network."
    )
    registry: str | None = Field(
        default=None, min_length=1, description="A registered model: name, name@alias or name/3."
    )

    @model_validator(mode="before")
    @classmethod
    def _one_teacher(cls, raw: Any) -> Any:
        if isinstance(raw, list):
            raise mistake("a list of teachers is not built yet; allowed: one teacher")
        return raw

    @model_validator(mode="after")
    def _one_origin(self) -> "Teacher":
        if self.checkpoint and self.registry:
            raise mistake("checkpoint and registry exclude each other", "registry")
        if self.registry and self.network:
            raise mistake("a teacher from the registry brings its own network; allowed: null", "network")
        if not self.registry and not self.network:
            raise mistake("is missing: a mapping such as {mlp: [128, 64]}, or registry: MODEL", "network")
        if not self.checkpoint and not self.registry:
            if not self.epochs:
                raise mistake("0 is out of range (allowed: 1 or more)" if "epochs" in self.model_fields_set
                              else "is missing: a whole number, 1 or more", "epochs")  # fmt: skip
            return self
        origin = "checkpoint" if self.checkpoint else "registry"
        for name in Recipe.model_fields:
            if getattr(self, name) != Teacher.model_fields[name].default:
                raise mistake(f"says how to train, but the teacher comes from its {origin}: leave it out", name)
        return self


class Student(Recipe):
    """The small network, trained once for each variant and seed."""

    network: Network = Field(description="The shape.")
    seeds: int = Field(default=3, ge=1, le=1000, description="Replicas of each variant; replica i has seed + i.")


class Variant(Part):
    """One way to train the student: a name and its weighted loss terms. `terms` may be a preset's name."""

    later: ClassVar = {"student": None}

    name: str = Field(pattern=NAME, description="Unique in the experiment.")
    terms: list[Term] = Field(min_length=1, description="The weighted losses that are added up.")

    @model_validator(mode="before")
    @classmethod
    def _normal_form(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and isinstance(raw.get("terms"), str):
            return raw | {"terms": list(_preset(raw["terms"], "terms"))}
        return raw

    @model_validator(mode="after")
    def _sound(self) -> "Variant":
        losses = [term.loss for term in self.terms]
        for index, loss in enumerate(losses):
            if loss in losses[:index]:
                raise mistake(f"{loss} stands twice; allowed: each loss once", "terms", index)
        if all(LOSSES[loss].needs == "features" for loss in losses):
            raise mistake("features alone, which never train the last layer, are not built yet; "
                          f"allowed: add one of {', '.join(name for name in LOSSES if LOSSES[name].needs != 'features')}",
                          "terms")  # fmt: skip
        if self.name == CONTROL and tuple(self.terms) != PRESETS[CONTROL].terms:
            raise mistake(f"{CONTROL} is the control, of hard_labels alone; allowed: another name", "name")
        return self


def _preset(name: str, *path: str | int) -> tuple[Term, ...]:
    if name not in PRESETS:
        raise mistake(f"{show(name)} is not a preset; {allowed(name, PRESETS)}", *path)
    return PRESETS[name].terms


def _variants(raw: Any, index: int) -> list[Variant]:
    """The variants that one item of the list stands for: a preset's name, a grid of one, or the normal form."""
    if isinstance(raw, Variant):
        return [raw]
    if isinstance(raw, str):
        return [Variant(name=raw, terms=list(_preset(raw, index)))]
    if not isinstance(raw, dict) or len(raw) != 1 or "name" in raw or "terms" in raw:
        return [parse(Variant, raw, index)]
    ((name, grid),) = raw.items()
    return _grid(str(name), grid, index)


def _grid(name: str, grid: Any, index: int) -> list[Variant]:
    terms = _preset(name, index)
    known = {key: known for term in terms for key, known in LOSSES[term.loss].hyperparameters.items()}
    if not isinstance(grid, dict):
        raise mistake(f"{show(grid)} is not a mapping of hyperparameters; {allowed('', known)}", index, name)
    for key in grid:
        if key not in known:
            raise mistake(f"{name} has no hyperparameter {show(key)}; {allowed(str(key), known)}", index, name, key)
        if grid[key] == []:
            raise mistake(f"[] is empty; allowed: a number or a list of numbers, {known[key]}", index, name, key)
    columns = [[(key, value) for value in (values if isinstance(values, list) else [values])]
               for key, values in grid.items()]  # fmt: skip
    return [_with_hyperparameters(name, terms, dict(row), index) for row in product(*columns)]


def _with_hyperparameters(name: str, terms: tuple[Term, ...], chosen: dict[str, Any], index: int) -> Variant:
    changed = [
        parse(Term, term.model_dump() | {"hyperparameters": {
            key: chosen.get(key, default) for key, default in term.hyperparameters.items()}}, index, name)
        for term in terms
    ]  # fmt: skip
    return Variant(name="-".join([name, *(f"{key}={value:.12g}" for key, value in chosen.items())]), terms=changed)


NUMBER = r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?"


def _bound(sign: str, example: str, what: str) -> Any:
    return Field(default=None, description=f"{what}, as '{sign} {example}'; null: not required.",
                 json_schema_extra={"pattern": f"^ *{sign} *{NUMBER} *$"})  # fmt: skip


class Require(Part):
    """Budgets that must hold before a model is promoted."""

    later: ClassVar = {"latency_ms": None, "class_accuracy": None, "ece": None}

    accuracy: str | None = _bound(">=", "0.95", "The lower 95 % bound of the test accuracy, 0 to 1")
    parameters: str | None = _bound("<=", "60000", "How many parameters")
    file_mb: str | None = _bound("<=", "1.5", "The stored model's size in megabytes (1e6 bytes)")

    @field_validator("accuracy", "parameters", "file_mb", mode="before")
    @classmethod
    def _one_bound(cls, raw: Any, info: Any) -> Any:
        sign, example = (">=", "0.95") if info.field_name == "accuracy" else ("<=", "60000")
        if raw is None:
            return None
        match = re.fullmatch(f" *{sign} *({NUMBER}) *", raw) if isinstance(raw, str) else None
        if match is None:
            raise mistake(f"{show(raw)} is not a bound (allowed: text such as '{sign} {example}', or null)")
        if info.field_name == "accuracy" and float(match[1]) > 1:
            raise mistake(f"{show(raw)} is out of range (allowed: '>= 0' to '>= 1')")
        return f"{sign} {match[1]}"

    def bounds(self) -> dict[str, float]:
        """The declared numbers by name: accuracy must reach its own, the others must not pass theirs.

        >>> Require(accuracy=">= 0.95", file_mb="<= 1.5").bounds()
        {'accuracy': 0.95, 'file_mb': 1.5}
        """
        return {name: float(bound[2:]) for name, bound in self if bound is not None}


class Promote(Part):
    """When the best student becomes the champion of a registered model."""

    model: str = Field(
        default="", description="The registered model's name; empty: the experiment's name and '-student'."
    )
    margin: float = Field(
        default=0.002, ge=0, lt=1, description="No worse than the champion by more accuracy than this."
    )
    require: Require = Field(default=Require(), description="Budgets that must hold.")
    report: list[str] = Field(default=[], description="Variants whose test accuracy is reported, whichever wins.")

    @field_validator("model", mode="after")
    @classmethod
    def _model_name(cls, name: str) -> str:
        if name and not re.fullmatch(NAME.replace("98", "118"), name):
            raise mistake(f"{show(name)} is not a model's name (allowed: letters, digits, space . _ + = -)")
        return name


class Runner(Part):
    """Where the students are trained."""

    later: ClassVar = {"address": None}
    later_choices: ClassVar = {"kind": ("dask", "ray")}

    kind: Literal["thread", "process"] = Field(default="thread", description="Threads of this process, or processes.")
    workers: int | None = Field(
        default=None, ge=1, le=1000, description="How many at once; null: the runner's default."
    )


class Schedule(Part):
    """When the experiment runs by itself: a cron expression, or every so many seconds."""

    cron: str | None = Field(default=None, description="Minute, hour, day of month, month, day of week: '0 3 * * *'.")
    timezone: str | None = Field(
        default=None, description="The cron expression's time zone, as Europe/Berlin; null: UTC."
    )
    every: int | None = Field(default=None, ge=1, description="Seconds between starts.")

    @model_validator(mode="after")
    def _one_rhythm(self) -> "Schedule":
        if (self.cron is None) == (self.every is None):
            raise mistake("needs one of cron and every", "cron")
        if self.cron is not None and len(self.cron.split()) != 5:
            raise mistake(f"{show(self.cron)} is not a cron expression (allowed: five fields, as '0 3 * * *')", "cron")
        if self.timezone is not None and self.cron is None:
            raise mistake("belongs to cron; allowed with every: null", "timezone")
        if self.timezone is not None and not _is_timezone(self.timezone):
            raise mistake(f"{show(self.timezone)} is not a time zone (allowed: such as Europe/Berlin)", "timezone")
        return self


def _is_timezone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        return False
    except KeyError:
        return False
    return True


class Experiment(Part):
    """One comparison: data, a teacher, a student, the variants to train it by, and when to promote the best."""

    later: ClassVar = {"knowledge": {"views": "auto", "budget": "2GB"}, "notify": None}

    name: str = Field(pattern=NAME, description="Names the MLflow experiment.")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="The first replica's seed; replica i has seed + i.")
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="Threads of one student's training; null: all cores."
    )
    data: Data
    teacher: Teacher
    student: Student
    variants: list[Variant] = Field(description="What is compared; the control, hard-labels, is added if absent.")
    promote: Promote = Promote()
    runner: Runner = Runner()
    schedule: Schedule | None = Field(default=None, description="When it runs by itself; null: only when asked.")

    @model_validator(mode="before")
    @classmethod
    def _name_the_model(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
            return raw
        promote = raw.get("promote", {})
        if isinstance(promote, Promote):
            promote = promote.model_dump()
        if isinstance(promote, dict) and not promote.get("model"):
            return raw | {"promote": promote | {"model": f"{raw['name']}-student"}}
        return raw

    @field_validator("variants", mode="before")
    @classmethod
    def _expand(cls, raw: Any) -> Any:
        if not isinstance(raw, list):
            return raw
        variants: list[Variant] = []
        for index, item in enumerate(raw):
            for variant in _variants(item, index):
                if variant.name in (other.name for other in variants):
                    raise mistake(f"{show(variant.name)} stands twice; allowed: each name once", index)
                variants.append(variant)
        if CONTROL not in (variant.name for variant in variants):
            variants.insert(0, Variant(name=CONTROL, terms=list(PRESETS[CONTROL].terms)))
        return variants

    @model_validator(mode="after")
    def _report_known_variants(self) -> "Experiment":
        names = [variant.name for variant in self.variants]
        for index, name in enumerate(self.promote.report):
            if name not in names:
                raise mistake(f"{show(name)} is not a variant; {allowed(name, names)}", "promote", "report", index)
        return self
