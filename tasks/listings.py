"""The rows that `kd list` and `kd show` print.

The alias of a field is its key in JSON output and its column title in a table.
"""

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from kdmodels.run_status import RunStatus

Figures = dict[str, int | float | None]
"""The metrics of one replica (the network trained with one seed), by name. A metric that is not finite is `None`."""


TrialLine = dict[str, float | None]
"""A trial of a search: its number, its hyperparameters, and `inner_accuracy` (`None` if the trial diverged)."""


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunLine(_Row):
    """One run, as `kd list` shows it.

    Attributes:
        kind: The kind of the run: comparison, generation, teacher, student, tuning, generator or reproduction. `None`
            if kdflow did not make the run.
        started: The start of the run in UTC, in ISO 8601 format. For a resumed run, the time when it was last resumed.
        seconds: The duration of the run. `None` while the run is running.
        accuracy: The mean validation accuracy over the seeds. `None` if the run has no accuracy yet.
        parent: The id of the comparison or generation that this run is part of, or `None`.
    """

    run_id: str
    name: str
    kind: str | None
    experiment: str
    status: RunStatus
    started: str
    seconds: float | None
    accuracy: float | None = Field(serialization_alias="val/accuracy")
    parent: str | None


class ExperimentLine(_Row):
    """One experiment, as `kd list --experiments` shows it.

    Attributes:
        shipped: Whether the experiment comes with kdflow.
        comparisons: The number of recorded comparisons of this experiment.
        last_started: The start of the latest comparison in UTC, in ISO 8601 format. `None` if `comparisons` is 0.
        champion: The champion as `model/version`. `None` if there is no champion.
    """

    name: str
    shipped: bool
    comparisons: int
    last_started: str | None
    champion: str | None


class VersionLine(_Row):
    """A version of a registered model, as `kd show MODEL` shows it.

    Attributes:
        aliases: The aliases of the version, e.g. `champion`.
        made_by: The variant of the student, or the kind of another network, e.g. `teacher`. `None` if kdflow did not
            make the model.
        run_id: The id of the run that made the model. `None` if kdflow did not make the model.
        comparison: The id of the comparison or generation that promoted the version, or `None`.
        test_accuracy: The accuracy on the test split in percent, with its 95 % interval, or `None`.
        note: `rolled back`, `approved`, `rejected`, or `forced:` with the reason. `None` if none of them is the case.
    """

    version: int
    aliases: list[str]
    made_by: str | None
    run_id: str | None
    comparison: str | None
    test_accuracy: str | None
    note: str | None


class RunDetails(RunLine):
    """All recorded information about one run. A field is None or empty if the run has not recorded the value.

    Attributes:
        metrics: The last value of each metric.
        tags: The tags that kdflow has set.
        model: The URI of the stored model.
        artifacts: The names of the files and folders at the root of the run's artifacts.
        versions: If the user named a registered model, all versions of this model, the newest first.
    """

    error: str | None
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    model: str | None
    artifacts: list[str]
    versions: list[VersionLine]


class ClassLine(_Row):
    """The metrics of a stored network for one class of the validation split. An undefined metric is None."""

    name: str = Field(serialization_alias="class")
    examples: int
    accuracy: float | None
    precision: float | None
    f1: float | None


class TeacherDetails(RunDetails):
    """Details of a teacher. The list `classes` is sorted by accuracy, the least accurate class first."""

    classes: list[ClassLine]


class StudentDetails(RunDetails):
    """Details of a student.

    Attributes:
        replica: The metrics of the replica that is stored as the model. A replica is the network trained with one seed.
        seeds: The metrics of every replica.
        classes: The metrics of each class. The least accurate class comes first.
        trials: The trials of the search that chose the hyperparameters, the most accurate first.
        trained_with: The learning rate, term weights and hyperparameters with which the student was trained after a
            search. `None` if there was no search. The field `params` always holds the values of the experiment file.
    """

    replica: Figures | None
    seeds: list[Figures]
    classes: list[ClassLine]
    trials: list[TrialLine]
    trained_with: dict[str, float] | None


class TuningDetails(RunDetails):
    """Details of a search for hyperparameters. The list `trials` is sorted by accuracy, the most accurate first."""

    trials: list[TrialLine]


class ComparisonDetails(RunDetails):
    """Details of a comparison or a generation.

    Attributes:
        children: The child runs, e.g. the students, oldest first.
        verdict: The verdict of the promotion gate. `None` if there is no verdict.
    """

    children: list[RunLine]
    verdict: dict[str, JsonValue] | None


class ReproductionLine(_Row):
    """One reproduction, as `kd reproduce --list` shows it.

    Attributes:
        cost: The time that all seeds take on two cores, in words.
        seeds: The default number of seeds.
        last_seeds: The number of seeds of the latest result. All `last_` fields are `None` if the store has no result.
        last_finished: The time of the latest result in UTC, in ISO 8601 format.
        last_result: The number of claims with each outcome in the latest result, e.g. `5 agree, 1 is undecided`.
    """

    name: str
    title: str
    cost: str
    seeds: int
    last_seeds: int | None
    last_finished: str | None
    last_result: str | None
