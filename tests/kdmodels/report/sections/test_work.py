"""Time, memory and reuse."""

from kdmodels.report.components import Table, Text
from kdmodels.report.contents import Effort, PlannedRun
from kdmodels.report.sections.work import ABOUT_MEMORY, work_section
from tests.support.reports import column, contents

OLD = Effort(seconds=2.5)  # of a run that did not record its memory


def test_stages_and_runs_are_listed() -> None:
    runs = [
        PlannedRun("kd", "reuse", "run 0123 has the same key", OLD),
        PlannedRun("hint", "train", "new", Effort(3.0, 412.25)),
    ]
    stages = {"data": Effort(1.0, 300.0), "students": Effort(3.0, 512.5)}
    section = work_section(contents(stages=stages, runs=runs))
    assert section is not None
    listed, planned, about = section.components
    assert isinstance(listed, Table)
    assert column(listed, "stage") == ["data", "students"]
    assert column(listed, "share") == ["25 %", "75 %"]
    assert column(listed, "peak memory, MB") == ["300", "512"]
    assert isinstance(planned, Table)
    assert column(planned, "action") == ["reuse", "train"]
    assert column(planned, "training, s (all seeds)") == ["2.5", "3"]
    assert column(planned, "peak memory, MB") == ["", "412"]
    assert about == Text(ABOUT_MEMORY)


def test_the_memory_on_a_gpu_has_its_own_column() -> None:
    section = work_section(contents(runs=[PlannedRun("kd", "train", "new", Effort(3.0, 900.0, 64.5))]))
    assert section is not None
    planned = section.components[0]
    assert isinstance(planned, Table)
    assert column(planned, "peak memory, MB") == ["900"]
    assert column(planned, "peak GPU memory, MB") == ["64.5"]


def test_a_comparison_without_recorded_memory_has_no_columns_for_it() -> None:
    section = work_section(contents(stages={"data": OLD}, runs=[PlannedRun("kd", "train", "new", OLD)]))
    assert section is not None
    titles = [[each.title for each in table.columns] for table in section.components if isinstance(table, Table)]
    assert titles == [["stage", "seconds", "share"], ["run", "action", "training, s (all seeds)", "reason"]]


def test_without_records_there_is_no_section() -> None:
    assert work_section(contents()) is None
