"""The table of runs that `kd list` and `kd show` print."""

from kd.console import local_time
from kd.run_table import print_runs
from kdmodels.run_status import RunStatus
from tasks.listings import RunLine
from tests.kd.conftest import Printed

RUN = RunLine(
    run_id="0123456789",
    name="hard-labels-equal-steps",
    kind="student",
    experiment="digits",
    status=RunStatus.FINISHED,
    started="2026-12-01T00:58:26+00:00",
    seconds=27.852,
    accuracy=0.89500000000001,
    parent="p",
)


def test_a_narrow_terminal_shows_what_matters_most(printed: Printed) -> None:
    started = local_time(RUN.started)
    wide, narrow = printed(130, print_runs, [RUN]), printed(80, print_runs, [RUN])
    assert wide[1].split() == f"01234567 {RUN.name} student digits finished {started} 27.9 89.50".split()
    assert narrow[1].split() == f"01234567 {RUN.name} finished {started} 89.50".split()
    sorted_by_seconds = printed(80, print_runs, [RUN], sort="seconds")
    assert " ".join(sorted_by_seconds[0].split()) == "run_id name status seconds validation %"
