"""The keys that `kd list --json` and `kd show --json` print: scripts read them."""

from kdmodels.run_status import RunStatus
from tasks.listings import ClassLine, ComparisonDetails, ExperimentLine, RunLine, StudentDetails, TeacherDetails

LINE = ["run_id", "name", "kind", "experiment", "status", "started", "seconds", "val/accuracy", "parent"]
DETAILS = [*LINE, "error", "params", "metrics", "tags", "model", "artifacts", "versions"]


def keys(model: type[RunLine | ExperimentLine | ClassLine]) -> list[str]:
    return [field.serialization_alias or name for name, field in model.model_fields.items()]


def test_the_keys_of_json_stay() -> None:
    assert keys(RunLine) == LINE
    assert keys(ExperimentLine) == ["name", "shipped", "comparisons", "last_started", "champion"]
    assert keys(ClassLine) == ["class", "examples", "accuracy", "precision", "f1"]
    assert keys(TeacherDetails) == [*DETAILS, "classes"]
    assert keys(StudentDetails) == [*DETAILS, "replica", "seeds", "classes", "trials", "trained_with"]
    assert keys(ComparisonDetails) == [*DETAILS, "children", "verdict"]


def test_a_line_is_printed_with_its_aliases() -> None:
    line = RunLine(
        run_id="r", name="kd", kind="student", experiment="digits", status=RunStatus.RUNNING, started="2026",
        seconds=None, accuracy=0.5, parent=None,
    )  # fmt: skip
    assert line.model_dump(mode="json", by_alias=True) == {
        "run_id": "r", "name": "kd", "kind": "student", "experiment": "digits", "status": "RUNNING", "started": "2026",
        "seconds": None, "val/accuracy": 0.5, "parent": None,
    }  # fmt: skip
