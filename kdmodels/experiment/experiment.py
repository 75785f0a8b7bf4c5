"""The pydantic model of the experiment file, with its defaults, units and error messages.

The model validates the file, is the parameter of the flow, and defines the form in Prefect's UI. Validation replaces
every shorthand by its normal form. A second validation does not change the normal form.
"""

import re
from collections.abc import Collection, Sequence
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter
from pydantic import Field, ValidationInfo, field_validator, model_validator

from kdmodels.errors import allowed
from kdmodels.experiment.augmentation import Function, Operation, Own
from kdmodels.experiment.knowledge import Storage
from kdmodels.experiment.metrics import ACCURACY, Metric, check_metrics
from kdmodels.experiment.notify import Notify
from kdmodels.experiment.presets import CONTROL
from kdmodels.experiment.published_recipes import RECIPES, with_recipe
from kdmodels.experiment.recipe import Member, Student, Teacher
from kdmodels.experiment.requirements import Require
from kdmodels.experiment.schema import NAME, Part, mistake, name_in_words, show
from kdmodels.experiment.settings import LONGEST_NAME, STUDENT, Settings
from kdmodels.experiment.teacher_data import complete_data
from kdmodels.experiment.tune import Tune
from kdmodels.experiment.variants import Variant, control_of, expand


class Promote(Part):
    """The conditions under which the best student becomes the champion of a registered model."""

    model: str = Field(
        default="", description="Name of the registered model. Default: the experiment's name followed by '-student'."
    )
    margin: float = Field(
        default=0.002,
        ge=0,
        lt=1,
        description="Loss of accuracy that is accepted from a student that is smaller than the champion or has more "
        "classes.",
    )
    require: Require = Field(default=Require(), description="Requirements that the student must meet.")
    looks: int = Field(
        default=365,
        ge=1,
        le=100_000,
        description="Maximum number of comparisons with the champion on one test split. The probability that any of "
        "them wrongly promotes a student is at most 5 %.",
    )
    approval: bool = Field(
        default=False,
        description="If true, a promotion waits until a person approves it with `kd approve` or rejects it with "
        "`kd reject`.",
    )
    licence: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Licence of the registered model, e.g. Apache-2.0. The model card shows it. Default: not stated.",
    )
    report: list[str] = Field(
        default=[], description="Variants whose test accuracy is reported even if they do not win."
    )

    @field_validator("model", mode="after")
    @classmethod
    def _require_name(cls, name: str) -> str:
        if name and not re.fullmatch(NAME, name):
            raise mistake(f"expected a name, got {show(name)}. Allowed: {name_in_words()}")
        return name


class Runner(Part):
    """The settings of the runner, which trains several students at once: in threads, in processes or on a cluster."""

    kind: Literal["auto", "thread", "process", "ray", "dask"] = Field(
        default="auto",
        description="Where students are trained: in threads of this process, in several processes, or on a Ray or Dask "
        "cluster. auto: on the CPU, one process for every `threads` cores; on a GPU, one thread.",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Maximum number of students trained concurrently. Default: chosen by the runner.",
    )
    address: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Address of an existing cluster, e.g. ray://host:10001 or tcp://host:8786. Only for ray and dask. "
        "Default: a new cluster on this machine, which ends with the run.",
    )
    gpus_per_student: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Share of a GPU that Ray reserves for a student, e.g. 0.25 for 4 students per GPU. Only for ray. "
        "Default: 1 if the device is CUDA.",
    )

    @model_validator(mode="after")
    def _require_cluster(self) -> Self:
        if self.address is not None and self.kind not in ("ray", "dask"):
            raise mistake(f"{show(self.address)} applies only to kind: ray or dask, got kind: {self.kind}", "address")
        if self.gpus_per_student is not None and self.kind != "ray":
            raise mistake(
                f"{self.gpus_per_student:g} applies only to kind: ray, got kind: {self.kind}", "gpus_per_student"
            )
        return self


LONGEST_INTERVAL = 366 * 86_400  # seconds; one year


CRON_IN_WORDS = (
    "a cron expression such as '0 3 * * *' (minute 0-59, hour 0-23, day 1-31, month 1-12, day of the week 0-7)"
)


class Schedule(Part):
    """The schedule of a deployment: a cron expression or a fixed interval."""

    cron: str | None = Field(
        default=None, description="Cron expression: minute, hour, day of month, month, day of week, e.g. '0 3 * * *'."
    )
    timezone: str | None = Field(
        default=None, description="Time zone of the cron expression, e.g. Europe/Berlin. Default: UTC."
    )
    every: int | None = Field(
        default=None, ge=1, le=LONGEST_INTERVAL, description="Interval between starts in seconds."
    )

    @model_validator(mode="after")
    def _require_cron_or_interval(self) -> Self:
        if (self.cron is None) == (self.every is None):
            raise mistake("expected one of schedule.cron and schedule.every", "cron")
        if self.cron is not None and not is_cron(self.cron):
            raise mistake(f"expected {CRON_IN_WORDS}, got {show(self.cron)}", "cron")
        if self.timezone is not None and self.cron is None:
            raise mistake(f"{show(self.timezone)} applies only to cron. Allowed with every: null", "timezone")
        if self.timezone is not None and not is_timezone(self.timezone):
            raise mistake(f"expected a time zone such as Europe/Berlin, got {show(self.timezone)}", "timezone")
        return self


def is_cron(text: str) -> bool:
    """Return whether a text is a cron expression of five fields whose numbers are in range.

    Only numbers, names, `*`, lists, ranges and steps are allowed. The library croniter also accepts other forms:
    seconds, years, random times (R), `@daily`, `1W` and `mon#1`. These other forms are refused here, because Prefect's
    scheduler rejects some of them.

    >>> is_cron("*/5 0-6,22 * jan mon-fri"), is_cron("61 * * * *"), is_cron("daily")
    (True, False, False)
    """
    fields = text.lower().split()
    is_portable = all(re.fullmatch("(?:[0-9*,/-]|[a-z]{3})+", field) for field in fields)
    return len(fields) == 5 and is_portable and croniter.is_valid(" ".join(fields))


def is_timezone(name: str) -> bool:
    """Return whether this machine has a time zone with this name."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        return False
    return True


class Experiment(Settings):
    """An experiment: data, a teacher, a student, the variants to compare, and the conditions for a promotion."""

    recipe: str | None = Field(
        default=None,
        description=f"Published recipe that sets the fields that the file leaves out: {', '.join(RECIPES)}. When the "
        "file is read, the recipe's values are written into these fields. Default: none.",
        json_schema_extra={"enum": [*RECIPES, None]},
    )
    teacher: Teacher
    student: Student
    knowledge: Storage = Storage()
    variants: list[Variant] = Field(
        description="Variants to compare. The controls, such as hard-labels, are added if they are absent."
    )
    tune: Tune | None = Field(
        default=None, description="Search for hyperparameters, with the same budget for every variant. Default: none."
    )
    metrics: list[Metric] = Field(
        default=[],
        description="Metrics to measure in addition to the accuracy: macro_f1, auroc, top_K such as top_5, "
        "recall_CLASS, or a function of yours, module:function. If lower values are better: {module:function: lower}.",
    )
    rank_by: str = Field(
        default=ACCURACY,
        description="Metric on the validation split that ranks the students: accuracy, or one of `metrics`.",
    )
    promote: Promote = Promote()
    runner: Runner = Runner()
    schedule: Schedule | None = Field(
        default=None, description="When scheduled runs start. Default: no scheduled runs."
    )
    notify: Notify | None = Field(
        default=None, description="Messages that report the end of a run. Default: no messages."
    )
    allow_code: list[Annotated[str, Field(min_length=1)]] = Field(
        default=[],
        description="Python modules that may be imported to load a stored network, e.g. a teacher from the registry. "
        "Modules that other fields name are always allowed.",
    )

    @model_validator(mode="before")
    @classmethod
    def _apply_recipe(cls, raw: object) -> object:
        return with_recipe(raw) if isinstance(raw, dict) else raw

    @model_validator(mode="before")
    @classmethod
    def _name_registered_model(cls, raw: object) -> object:
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
            return raw | {"promote": promote | {"model": f"{name[:LONGEST_NAME]}{STUDENT}"}}
        return raw

    @field_validator("teacher", mode="before")
    @classmethod
    def _complete_teacher(cls, raw: object, info: ValidationInfo) -> object:
        return complete_data(raw, info.data.get("data"))

    @field_validator("variants", mode="before")
    @classmethod
    def _expand_variants(cls, raw: object, info: ValidationInfo) -> object:
        if not isinstance(raw, list):
            return raw
        data = info.data.get("data")  # None if the data are not valid. This mistake is reported separately
        return expand(raw, info.data.get("student"), adds_images=data is None or data.adds_images)

    @model_validator(mode="after")
    def _require_different_views(self) -> Self:
        views = self.knowledge.views
        if views not in ("auto", 0, 1) and not self.student_augment:
            field = "data.augment" if self.student.augment is None else "student.augment"
            message = f"{views} views are identical without {field}. Allowed: auto, 0, 1"
            raise mistake(message, "knowledge", "views")
        return self

    @model_validator(mode="after")
    def _require_logits_of_ensemble(self) -> Self:
        for variant in self.variants if self.teacher.ensemble else []:
            if variant.teacher_places:
                reason = f"{variant.name} compares features, which the members of an ensemble do not share"
                raise mistake(f"{reason}. Allowed: losses of logits", "variants")
        return self

    @model_validator(mode="after")
    def _require_tunable_numbers(self) -> Self:
        if self.tune:
            self.tune.check([(variant.terms, self.student_of(variant)) for variant in self.variants])
        return self

    @model_validator(mode="after")
    def _require_measured_metrics(self) -> Self:
        check_metrics(self.metrics, self.rank_by, self.promote.require.metrics)
        return self

    @model_validator(mode="after")
    def _require_reported_variants(self) -> Self:
        names = [variant.name for variant in self.variants]
        for index, name in enumerate(self.promote.report):
            if name not in names:
                raise mistake(f"unknown variant {show(name)}. {allowed(name, names)}", "promote", "report", index)
        return self

    @property
    def ranking(self) -> Metric | None:
        """The metric that ranks the students. `None` if the accuracy ranks the students."""
        return next((metric for metric in self.metrics if metric.name == self.rank_by), None)

    @property
    def recipes(self) -> list[tuple[str, Member | Student]]:
        """Pairs of a field's name and its network with training recipe. All teachers have the field name `teacher`."""
        teachers: list[tuple[str, Member | Student]] = [("teacher", member) for member in self.teacher.members]
        own = [(f"variants.{each.name}.student", each.student) for each in self.variants if each.student]
        return [*teachers, ("student", self.student), *own]

    @property
    def student_augment(self) -> tuple[Operation, ...]:
        """The augmentations of the images that students see. The teacher's outputs are computed for the same images."""
        return self.data.augment if self.student.augment is None else self.student.augment

    def teacher_augment(self, teacher: Member) -> tuple[Operation, ...]:
        """Return the augmentations of the images on which a teacher is trained."""
        return self.data.augment if teacher.augment is None else teacher.augment

    @property
    def own_augmentations(self) -> list[tuple[str, Function]]:
        """Pairs of a field's name and a function of the user in this field that augments images."""
        fields = [("data.augment", self.data.augment), ("student.augment", self.student.augment)]
        fields += [("teacher.augment", member.augment) for member in self.teacher.members]
        return [(field, each.own) for field, augment in fields for each in augment or () if isinstance(each, Own)]

    def student_of(self, variant: Variant) -> Student:
        """Return the student that is trained for a variant."""
        return variant.student or self.student

    def control_of(self, variant: Variant) -> Variant:
        """Return the control of a variant: the variant that trains the same student on labels only.

        See `variants.control_of`.
        """
        control = control_of(variant, self.variants)
        assert control is not None, "expand() adds a control for each student"
        return control

    def only(self, names: Collection[str]) -> Self:
        """Return a copy of the experiment that has only the named variants, their controls and `hard-labels`."""
        controls = [self.control_of(variant).name for variant in self.variants if variant.name in names]
        chosen = {CONTROL, *names, *controls}
        raw = self.model_dump()
        raw["variants"] = [variant for variant in raw["variants"] if variant["name"] in chosen]
        raw["promote"]["report"] = [name for name in raw["promote"]["report"] if name in chosen]
        if self.tune:
            kept = [(each.terms, self.student_of(each)) for each in self.variants if each.name in chosen]
            raw["tune"]["space"] = self.tune.space_of(kept)
        return self.model_validate(raw)

    def allowing(self, modules: Sequence[str]) -> Self:
        """Return a copy of the experiment with these modules added to `allow_code`."""
        return self.model_copy(update={"allow_code": [*self.allow_code, *modules]})
