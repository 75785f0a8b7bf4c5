"""Everything that an experiment may say, with defaults, units and errors.

The same model is the file, the flow's parameter and the form in Prefect's UI. Validation turns every shorthand of an
experiment file into one normal form, which validates to itself.
"""

import re
from typing import Annotated, Any, ClassVar, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, ValidationInfo, field_validator, model_validator

from kdmodels.data_fields import Data
from kdmodels.errors import allowed
from kdmodels.network import Network
from kdmodels.recipe import Recipe, Student, Teacher
from kdmodels.schema import NAME, NAME_IN_WORDS, Part, mistake, show
from kdmodels.terms import TapPair, Term
from kdmodels.variants import Variant, control_of, expand
from kdmodels.views import Storage

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
    "TapPair",
    "Teacher",
    "Term",
    "Variant",
]


NUMBER = r"([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?"  # matched in linear time
LONGEST_BOUND = 100  # characters


BOUNDS = {  # what can be required: the sign, and an example
    "accuracy": (">=", "0.95"),
    "parameters": ("<=", "60000"),
    "file_mb": ("<=", "1.5"),
    "latency_ms": ("<=", "5"),
    "class_accuracy": (">=", "0.8"),
    "ece": ("<=", "0.05"),
    "agreement": (">=", "0.9"),
}
SHARES = ("accuracy", "class_accuracy", "ece", "agreement")


def _bound(name: str, what: str) -> Any:
    sign, example = BOUNDS[name]
    description = f"{what}, as '{sign} {example}'; null: not required."
    return Field(default=None, description=description, json_schema_extra={"pattern": f"^ *{sign} *{NUMBER} *$"})


class Require(Part):
    """Budgets that must hold before a model is promoted."""

    accuracy: str | None = _bound("accuracy", "The lower 95 % bound of the test accuracy, 0 to 1")
    parameters: str | None = _bound("parameters", "How many parameters")
    file_mb: str | None = _bound("file_mb", "The size of the weights' file in megabytes (1e6 bytes)")
    latency_ms: str | None = _bound(
        "latency_ms", "The median time of one image in ms, on the CPU, with the run's threads"
    )
    class_accuracy: str | None = _bound("class_accuracy", "As accuracy, of the class where that bound is lowest")
    ece: str | None = _bound("ece", "The expected calibration error on test, 0 to 1")
    agreement: str | None = _bound("agreement", "As accuracy, of the share on which it agrees with the teacher")

    @field_validator("*", mode="before")
    @classmethod
    def _one_bound(cls, raw: Any, info: Any) -> Any:
        sign, example = BOUNDS[info.field_name]
        if raw is None:
            return None
        is_short = isinstance(raw, str) and len(raw) <= LONGEST_BOUND
        match = re.fullmatch(f" *{sign} *({NUMBER}) *", raw) if is_short else None
        if match is None or float(match[1]) == float("inf"):
            raise mistake(f"{show(raw)} is not a bound (allowed: text such as '{sign} {example}', or null)")
        if info.field_name in SHARES and float(match[1]) > 1:
            raise mistake(f"{show(raw)} is out of range (allowed: '{sign} 0' to '{sign} 1')")
        return f"{sign} {match[1]}"


class Promote(Part):
    """When the best student becomes the champion of a registered model."""

    model: str = Field(
        default="", description="The registered model's name; empty: the experiment's name and '-student'."
    )
    margin: float = Field(
        default=0.002, ge=0, lt=1, description="No worse than the champion by more accuracy than this."
    )
    require: Require = Field(default=Require(), description="Budgets that must hold.")
    looks: int = Field(
        default=365,
        ge=1,
        le=100_000,
        description="Comparisons with a champion on one test split that share a 5 % chance of a false promotion.",
    )
    report: list[str] = Field(default=[], description="Variants whose test accuracy is reported, whichever wins.")

    @field_validator("model", mode="after")
    @classmethod
    def _model_name(cls, name: str) -> str:
        if name and not re.fullmatch(NAME, name):
            raise mistake(f"{show(name)} is not a name (allowed: {NAME_IN_WORDS})")
        return name


class Runner(Part):
    """Where the students are trained."""

    later: ClassVar = {"address": None}
    later_choices: ClassVar = {"kind": ("dask", "ray")}

    kind: Literal["thread", "process"] = Field(
        default="thread", description="Threads of this process, or this one and others."
    )
    workers: int | None = Field(
        default=None, ge=1, le=1000, description="How many at once; null: the runner's default."
    )


LONGEST_REST = 366 * 86_400  # seconds: a year
_MONTHS = "|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DAYS = "|sun|mon|tue|wed|thu|fri|sat"
_CRON = ((0, 59, ""), (0, 23, ""), (1, 31, ""), (1, 12, _MONTHS), (0, 7, _DAYS))  # lowest, highest, and names


class Schedule(Part):
    """When the experiment runs by itself: a cron expression, or every so many seconds."""

    cron: str | None = Field(default=None, description="Minute, hour, day of month, month, day of week: '0 3 * * *'.")
    timezone: str | None = Field(
        default=None, description="The cron expression's time zone, as Europe/Berlin; null: UTC."
    )
    every: int | None = Field(default=None, ge=1, le=LONGEST_REST, description="Seconds between starts.")

    @model_validator(mode="after")
    def _one_rhythm(self) -> Self:
        if (self.cron is None) == (self.every is None):
            raise mistake("needs one of cron and every", "cron")
        if self.cron is not None and not is_cron(self.cron):
            raise mistake(f"{show(self.cron)} is not a cron expression (allowed: five fields, as '0 3 * * *')", "cron")
        if self.timezone is not None and self.cron is None:
            raise mistake("belongs to cron; allowed with every: null", "timezone")
        if self.timezone is not None and not is_timezone(self.timezone):
            raise mistake(f"{show(self.timezone)} is not a time zone (allowed: such as Europe/Berlin)", "timezone")
        return self


def is_cron(text: str) -> bool:
    """Whether it is a cron expression of five fields, each number in its range.

    >>> is_cron("*/5 0-6,22 * jan mon-fri"), is_cron("61 * * * *"), is_cron("daily")
    (True, False, False)
    """
    fields = text.lower().split()
    return len(fields) == len(_CRON) and all(
        _is_cron_item(item, *limits) for field, limits in zip(fields, _CRON, strict=True) for item in field.split(",")
    )


def _is_cron_item(item: str, low: int, high: int, names: str) -> bool:
    value = f"([0-9]{{1,2}}{names})"
    match = re.fullmatch(rf"(?:\*|{value}(?:-{value})?)(?:/[1-9][0-9]*)?", item)
    numbers = [int(value) for value in match.groups() if value and value.isdigit()] if match else []
    return match is not None and all(low <= number <= high for number in numbers)


def is_timezone(name: str) -> bool:
    """Whether it is the name of a time zone that this machine knows."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        return False
    return True


SUFFIX = "-student"
LONGEST_NAME = 100 - len(SUFFIX)


class Experiment(Part):
    """One comparison: data, a teacher, a student, the variants to train it by, and when to promote the best."""

    later: ClassVar = {"notify": None}

    name: str = Field(pattern=NAME, max_length=LONGEST_NAME, description="Names the MLflow experiment.")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="The first replica's seed; replica i has seed + i.")
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="Threads of one student's training; null: all cores."
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="Where networks are trained; auto: the first there is of cuda, mps and cpu."
    )
    data: Data
    teacher: Teacher
    student: Student
    knowledge: Storage = Storage()
    variants: list[Variant] = Field(description="What is compared; the control, hard-labels, is added if absent.")
    promote: Promote = Promote()
    runner: Runner = Runner()
    schedule: Schedule | None = Field(default=None, description="When it runs by itself; null: only when asked.")
    allow_code: list[Annotated[str, Field(min_length=1)]] = Field(
        default=[],
        description="Modules whose code a stored network may run, beside those that the experiment names elsewhere: "
        "that of a teacher from the registry.",
    )

    @model_validator(mode="before")
    @classmethod
    def _name_the_model(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        name, promote = raw.get("name"), raw.get("promote", {})
        if isinstance(promote, Promote):
            promote = promote.model_dump()
        if (
            isinstance(name, str)
            and re.fullmatch(NAME, name)
            and isinstance(promote, dict)
            and not promote.get("model")
        ):
            return raw | {"promote": promote | {"model": f"{name[:LONGEST_NAME]}{SUFFIX}"}}
        return raw

    @field_validator("variants", mode="before")
    @classmethod
    def _expand(cls, raw: Any, info: ValidationInfo) -> Any:
        return expand(raw, info.data.get("student")) if isinstance(raw, list) else raw

    @model_validator(mode="after")
    def _views_that_differ(self) -> Self:
        views = self.knowledge.views
        if views not in ("auto", 0, 1) and not self.data.augment:
            message = f"{views}: without data.augment all views are the same; allowed: auto, 0, 1"
            raise mistake(message, "knowledge", "views")
        return self

    @model_validator(mode="after")
    def _features_of_one_teacher(self) -> Self:
        for variant in self.variants if self.teacher.ensemble else []:
            if variant.teacher_places:
                told = "compares features, which the members of an ensemble do not share; allowed: losses of logits"
                raise mistake(f"{variant.name} {told}", "variants")
        return self

    @model_validator(mode="after")
    def _report_known_variants(self) -> Self:
        names = [variant.name for variant in self.variants]
        for index, name in enumerate(self.promote.report):
            if name not in names:
                raise mistake(f"{show(name)} is not a variant; {allowed(name, names)}", "promote", "report", index)
        return self

    def student_of(self, variant: Variant) -> Student:
        """The student that a variant trains."""
        return variant.student or self.student

    def control_of(self, variant: Variant) -> Variant:
        """The variant that trains the same student on labels alone."""
        control = control_of(variant, self.variants)
        assert control is not None, "every student has its control since the variants were expanded"
        return control
