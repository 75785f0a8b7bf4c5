"""Time and reuse."""

from kdmodels.report.components import Table
from kdmodels.report.contents import PlannedRun
from kdmodels.report.sections.work import work_section
from tests.support.reports import column, contents


def test_stages_and_runs_are_listed() -> None:
    runs = [PlannedRun("kd", "reuse", "run 0123 has the same key", 2.5), PlannedRun("hint", "train", "new", None)]
    section = work_section(contents(seconds={"data": 1.0, "students": 3.0}, runs=runs))
    assert section is not None
    stages, planned = [each for each in section.components if isinstance(each, Table)]
    assert column(stages, "stage") == ["data", "students"]
    assert column(stages, "share") == ["25 %", "75 %"]
    assert column(planned, "action") == ["reuse", "train"]
    assert column(planned, "training, s") == ["2.5", ""]


def test_without_records_there_is_no_section() -> None:
    assert work_section(contents()) is None
