"""What travels between tasks: small, JSON-able references, never tensors."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from kdmodels.experiment import Data
from kdmodels.objectives import CONTROL

CODE = "code"
"""The prefix of the params that hold the versions of kdflow's results on which a run depends."""


class Reference(BaseModel):
    """Frozen and JSON-able, so that a task runs the same in this thread, another process or on another machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Options(Reference):
    """What one command asks for beyond the experiment."""

    fresh: bool = Field(default=False, description="Train everything anew, whatever has finished before.")
    data_dir: str | None = Field(default=None, description="The folder of the data's files; null: $KD_DATA.")
    quiet: bool = Field(default=False, description="Show no progress.")


class DataReference(Reference):
    """A dataset by its content, and how any worker loads it: `folder` None means without, or downloaded.

    `training_digest` leaves the test split out: new test images change no key of a run.
    With cross-validation it is one `fold` of it, counted from 0.
    """

    data: Data
    folder: str | None
    digest: str
    training_digest: str
    examples: dict[str, int]
    input_shape: tuple[int, int, int]
    classes: list[str]
    mean: list[float]
    std: list[float]
    notes: list[str] = []
    fold: int = 0


class Step(Reference):
    """One line of the plan: what is done for the teacher or a variant, and why.

    With cross-validation `name` ends with the `fold` that it is of, as 2/5. `params` is all that determines the
    result, flat; `key` its digest; `replicas` the digest without the seeds.
    `source` is the run that is reused, or whose replicas are (`extend`), or the one that goes on (`resume`);
    `note` what its objective leaves untrained; `fresh` that nothing that was done before may serve.
    """

    name: str
    kind: Literal["teacher", "student"]
    action: Literal["reuse", "extend", "resume", "train"]
    reason: str
    key: str
    replicas: str
    params: dict[str, Any]
    seeds: list[int]
    source: str | None = None
    note: str = ""
    fresh: bool = False
    fold: str = ""

    @property
    def variant(self) -> str:
        """What the file calls it."""
        return self.name.removesuffix(f" {self.fold}")


class Views(Reference):
    """How the students get the teacher's knowledge: so many stored views of each training image, and why.

    `count` 0 is a live teacher: each epoch shows another view.
    """

    count: int
    reason: str

    @property
    def action(self) -> str:
        """What is done, in words."""
        return f"{self.count} view{'s' if self.count > 1 else ''}" if self.count else "live teacher"


class Plan(Reference):
    """What a command will do, before it does it, and what it should be known of its data."""

    members: list[Step] = Field(default=[], description="The teachers of an ensemble, which `teacher` joins.")
    teacher: Step
    knowledge: Views
    students: list[Step]
    notes: list[str] = Field(default=[], description="What should be known of the data.")
    folds: list["Plan"] = Field(default=[], description="With cross-validation, those of the folds after this one.")

    @property
    def steps(self) -> list[Step]:
        """All of them, in the order in which they are done."""
        return [*self.members, self.teacher, *self.students, *(step for fold in self.folds for step in fold.steps)]

    @property
    def taught(self) -> bool:
        """Whether any student depends on the teacher."""
        return any("teacher" in step.params for step in self.students)


class TeacherReference(Reference):
    """The run that holds the teacher's network and knowledge."""

    run_id: str
    reused: bool
    metrics: dict[str, float]


class KnowledgeReference(Reference):
    """The teacher's run, the places whose features were asked for, and how many views are stored; 0: a live teacher."""

    teacher_run_id: str
    taps: list[str]
    views: int


class StudentReference(Reference):
    """One variant's run, finished or not; a row of the leaderboard. `control` is the variant it is compared with.

    With cross-validation `folds` are the runs of all its folds, `run_id` is the first's, and accuracies are of all.
    """

    variant: str
    control: str = CONTROL
    run_id: str | None
    status: str
    reused: bool
    seeds: list[int]
    metrics: dict[str, float]
    per_seed: dict[str, list[float]]
    parameters: int | None
    error: str | None = None
    folds: list[str] = []


class LeaderboardReference(Reference):
    """A comparison's students, in the order of the file, the variant that won, and what a reader should know of it.

    `teacher_run_id` is None where it is not known: of comparisons of before it was kept.
    """

    parent_run_id: str
    teacher_run_id: str | None
    students: list[StudentReference]
    winner: str
    notes: list[str] = []


class VerdictReference(Reference):
    """What the gate decided; `version` is the registered version that is the champion after it.

    `accepted`: the winner was promoted, or is the champion already and meets every requirement.

    `forced` is why somebody promoted what the gate refused; of a `dry_run` nothing was promoted, whatever it says.
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


class Outcome(Reference):
    """All that a run of the flow did: the JSON document of `kd run --json`."""

    experiment: str
    parent_run_id: str
    teacher: TeacherReference
    students: list[StudentReference]
    notes: list[str]
    verdict: VerdictReference
    seconds: dict[str, float]
