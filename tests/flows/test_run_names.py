"""Names of flow runs. tests/tasks/ui/test_comparison.py has the name of a real run."""

import re

import pytest
from prefect import flow
from prefect.runtime import flow_run

from flows import run_names
from kdmodels.experiment import Experiment
from tests.conftest import SMALL

pytestmark = pytest.mark.usefixtures("prefect_server")


@flow(flow_run_name=run_names.rollback_run)
def rolled_back(model: str, to: int | None = None) -> str:
    return str(flow_run.name)


@flow(flow_run_name=run_names.promote_run)
def promoted(run: str | None = None) -> str:
    return str(flow_run.name)


@flow(flow_run_name=run_names.teacher_run)
def taught(experiment: Experiment) -> str:
    return str(flow_run.name)


def test_names_say_what_the_run_is_about() -> None:
    names = [
        rolled_back("m"),
        rolled_back("m", 3),
        promoted(),
        promoted("kd"),
        taught(Experiment.model_validate(SMALL)),
    ]
    abouts = [re.fullmatch(r"(.*) \d{4}-\d\d-\d\d \d\d:\d\d", name) for name in names]
    assert [about and about[1] for about in abouts] == [
        "rollback m", "rollback m/3", "promote the latest winner", "promote kd", "teacher small",
    ]  # fmt: skip
