"""The values that tasks exchange.

They are small references to data and runs. They can be written as JSON and never hold tensors.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from kdmodels.evaluation.ranking import StudentResult
from kdmodels.experiment import Data
from kdmodels.experiment.recipe import Member

Kind = Literal["teacher", "student", "tuning", "generator"]
"""The kind of a planned run."""

CODE = "code"
"""Prefix of the params that hold the versions of the code on which a run depends."""

CALIBRATED = "calibrated."
"""Prefix of the params that hold calibrated loss weights.

The other params determine these weights, so the weights are not part of the run's key.
"""


class Reference(BaseModel):
    """Base class of all references.

    References are frozen and can be written as JSON, so they can be sent to tasks in any thread, process or machine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


class Options(Reference):
    """Options of a command, in addition to the experiment."""

    fresh: bool = Field(default=False, description="Train everything again. Reuse no finished run.")
    data_dir: str | None = Field(default=None, description="Folder of the data's files. Default: $KD_DATA.")
    quiet: bool = Field(default=False, description="Show no progress.")


class DataReference(Reference):
    """A reference to a dataset, which is identified by its content. Any worker can load the dataset.

    Attributes:
        folder: The folder of the data files. `None` in two cases: the dataset needs no files, or it is downloaded.
        digest: The digest of the whole dataset.
        training_digest: The digest of the training and the validation split. New test images change neither this
            digest nor the cache key of a run.
        distillation_digest: The digest of these two splits and of the images that only distilled students learn from.
        fold: The number of the cross-validation fold, counted from 0.
        generator_digest: The digest of the generator in the field `data.transfer.generator`. `None` if there is none.
        teachers: References to the datasets of teachers that have their own data.
    """

    data: Data
    folder: str | None
    digest: str
    training_digest: str
    distillation_digest: str
    examples: dict[str, int]
    input_shape: tuple[int, int, int]
    classes: list[str]
    mean: list[float]
    std: list[float]
    notes: list[str] = []
    fold: int = 0
    generator_digest: str | None = None
    teachers: list["DataReference"] = []

    def of(self, teacher: Member) -> "DataReference":
        """Return the data on which a teacher is trained: its own data, or by default the data of the students."""
        if teacher.data is None:
            return self
        return next(reference for reference in self.teachers if reference.is_of(teacher.data))

    def is_of(self, data: Data) -> bool:
        """Return whether this reference has these data settings. The image size may differ."""
        return self.data.model_copy(update={"size": data.size}) == data


class PlannedRun(Reference):
    """One run of a plan: what is done for the teacher or for a variant, e.g. train or reuse, and why.

    Attributes:
        name: The name of the teacher or variant. With cross-validation, the name ends with the fold, e.g. `kd 2/5`.
        key: The cache key of the run: the digest of `params` and the seeds.
        replicas: The digest of `params` without the seeds. Runs with an equal digest can share replicas. A replica is
            the network that is trained with one seed.
        params: Everything that determines the result except the seeds, by dotted name.
        source: The id of the earlier run. Depending on `action`, this run is reused (`reuse`), provides some of the
            replicas (`extend`) or is resumed (`resume`). `None` if the action is `train`.
        note: A note for the user, e.g. on the parameters that no loss term trains.
        fresh: Whether the run must be trained again even if an earlier run could be reused.
        fold: The number of the fold and the number of folds, e.g. `2/5`. Empty without cross-validation.
        tuning: The search that chooses a student's hyperparameters before the student is trained. `None` if there is no
            search, or if the student is reused.
    """

    name: str
    kind: Kind
    action: Literal["reuse", "extend", "resume", "train"]
    reason: str
    key: str
    replicas: str
    params: dict[str, JsonValue]
    seeds: list[int]
    source: str | None = None
    note: str = ""
    fresh: bool = False
    fold: str = ""
    tuning: "PlannedRun | None" = None

    @property
    def variant(self) -> str:
        """The name of the teacher or variant in the experiment file."""
        return self.name.removesuffix(f" {self.fold}")

    @property
    def is_loaded(self) -> bool:
        """Whether the network is loaded from a checkpoint or the registry and only measured."""
        return self.kind == "teacher" and not self.params.keys().isdisjoint(("checkpoint", "registry.model"))

    @property
    def action_in_words(self) -> str:
        """The action, or `load` if a teacher would be loaded and not trained."""
        return "load" if self.is_loaded and self.action == "train" else self.action


class Views(Reference):
    """The form in which the students get the teacher's outputs.

    The outputs are stored for a number of views, or the teacher is live. A view is one augmented version of each
    training image. A live teacher computes its outputs while a student is trained.

    Attributes:
        count: The number of stored views. 0 means a live teacher, which sees new augmented images in each epoch.
        reason: The reason for this form.
    """

    count: int
    reason: str

    @property
    def action(self) -> str:
        """The form as text for the user, e.g. "4 views" or "live teacher"."""
        return f"{self.count} view{'s' if self.count > 1 else ''}" if self.count else "live teacher"


class Plan(Reference):
    """The planned runs of a command, with notes about the data and warnings for the user."""

    members: list[PlannedRun] = Field(
        default=[], description="The members of a teacher ensemble. The run `teacher` combines them."
    )
    teacher: PlannedRun
    knowledge: Views
    students: list[PlannedRun]
    notes: list[str] = Field(default=[], description="Facts about the data that the user should know.")
    warnings: list[str] = Field(default=[], description="Problems that make the results of the comparison doubtful.")
    folds: list["Plan"] = Field(
        default=[], description="With cross-validation, the plans of the folds after the first."
    )
    cluster: str | None = Field(
        default=None, description="The Ray or Dask cluster that trains the students. `null` if there is none."
    )

    @property
    def steps(self) -> list[PlannedRun]:
        """All planned runs, in the order of execution."""
        return [*self.members, self.teacher, *self.students, *(step for fold in self.folds for step in fold.steps)]

    @property
    def searches(self) -> list[PlannedRun]:
        """The searches for hyperparameters, which come before the training of the students."""
        return [step.tuning for step in self.steps if step.tuning]

    @property
    def taught(self) -> bool:
        """Whether any student depends on the teacher."""
        return any("teacher" in step.params for step in self.students)


class GeneratorPlan(Reference):
    """The planned runs of a flow that trains a generator, with notes about the data."""

    judge: PlannedRun
    generator: PlannedRun
    notes: list[str] = Field(default=[], description="Facts about the data that the user should know.")

    @property
    def steps(self) -> list[PlannedRun]:
        """The planned runs of the judge and of the generator, in the order of execution."""
        return [self.judge, self.generator]


class TeacherReference(Reference):
    """A reference to the run that holds the teacher's network and its stored outputs.

    Attributes:
        warnings: Problems of the teacher that make the results of the comparison doubtful.
    """

    run_id: str
    reused: bool
    metrics: dict[str, float]
    warnings: list[str] = []


class KnowledgeReference(Reference):
    """A reference to the teacher's knowledge: its outputs for the training and validation images.

    Attributes:
        taps: The layers of the teacher whose features are needed.
        views: The number of stored views, i.e. augmented versions of each training image. 0 means that the outputs are
            not stored but computed while a student is trained.
        folder: The folder of the outputs in the artifacts of the teacher's run.
        reused: Whether all needed outputs had already been stored.
    """

    teacher_run_id: str
    taps: list[str]
    views: int
    folder: str
    reused: bool = False


class StudentReference(StudentResult, Reference):
    """A row of the leaderboard: the run of one variant. The run may be unfinished.

    With cross-validation, `folds` lists the runs of all folds, and `run_id` is the run of the first fold. The
    accuracies are computed over all folds.

    Attributes:
        trials: The number of trials of the search that chose the hyperparameters. `None` if there was no search.
        grid: The name of the grid in the experiment file, if the variant is a point of a grid.
    """

    error: str | None = None
    trials: int | None = None
    grid: str | None = None
    folds: list[str] = []


class LeaderboardReference(Reference):
    """The students of a comparison, the winning variant, and notes for the user.

    Attributes:
        teacher_run_id: The id of the teacher's run. `None` for an old comparison that did not record the id.
        students: The students in the order of the experiment file.
    """

    parent_run_id: str
    teacher_run_id: str | None
    students: list[StudentReference]
    winner: str
    notes: list[str] = []


class VerdictReference(Reference):
    """The decision about a promotion.

    The gate, a set of rules, decides whether the winner of a comparison becomes the champion, the served model.

    Attributes:
        accepted: `True` in three cases: a student was promoted, its promotion waits for a person, or the winner is
            already the champion and still meets all requirements.
        version: The registered version that is the champion after the decision. `None` if there is no champion.
        winner: The student that the decision is about. It is the winner of the comparison, or the winner's control if
            the control was promoted instead.
        forced: The reason that the user gave for forcing the promotion. `None` if the promotion was not forced.
        dry_run: Whether this was a dry run. A dry run promotes nothing, whatever the other fields say.
        pending: The registered version that waits until a person approves its promotion. `None` if no promotion waits.
    """

    promoted: bool
    already_champion: bool
    accepted: bool
    model: str
    version: int | None
    reason: str
    winner: str
    evidence: dict[str, Any]
    test_accuracy: dict[str, float]
    forced: str | None = None
    dry_run: bool = False
    pending: int | None = None


class GeneratorReference(Reference):
    """A reference to the run of a generator, with its last metrics.

    Attributes:
        warnings: Problems of the generator that the user should know, such as mode collapse.
    """

    run_id: str
    reused: bool
    metrics: dict[str, float]
    warnings: list[str] = []


class GeneratorVerdict(Reference):
    """The decision whether a new generator becomes the champion, the generator that `kd sample` uses.

    Attributes:
        accepted: Whether the generator was promoted or is already the champion.
        model: The name of the registered model.
        version: The registered version that is the champion after the decision. `None` if there is no champion.
        test: The metrics of the generator on the test split, by name. Empty if the split was not needed.
    """

    promoted: bool
    already_champion: bool
    accepted: bool
    model: str
    version: int | None
    reason: str
    evidence: dict[str, Any]
    test: dict[str, float]


class GeneratorOutcome(Reference):
    """The result of a flow run that trained a generator. `kd run --json` prints this result as a JSON document.

    Attributes:
        parent_run_id: The id of the generation's run. The runs of the judge and of the generator are its child runs.
    """

    experiment: str
    parent_run_id: str
    judge: TeacherReference
    generator: GeneratorReference
    notes: list[str]
    verdict: GeneratorVerdict
    seconds: dict[str, float]


class Outcome(Reference):
    """The result of a flow run that compared students. `kd run --json` prints this result as a JSON document."""

    experiment: str
    parent_run_id: str
    teacher: TeacherReference
    students: list[StudentReference]
    notes: list[str]
    verdict: VerdictReference
    seconds: dict[str, float]
