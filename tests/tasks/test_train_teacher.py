"""A teacher that is reused is not trained again."""

from kdmodels.experiment import Experiment
from tasks import tracking
from tasks.planning.plan import make_plan
from tasks.prepare_data import prepare_data
from tasks.train_teacher import train_teacher
from tests.conftest import RECORDED, Recorded


def test_a_reused_teacher_is_the_recorded_run(recorded: Recorded) -> None:
    experiment = Experiment.model_validate(RECORDED)
    data = prepare_data.fn(experiment.data, None)
    step = make_plan(experiment, data).teacher
    before = len(tracking.runs(limit=1_000))
    teacher = train_teacher.fn(experiment.teacher, experiment, data, step, recorded.first)
    assert teacher.reused
    assert tracking.get(teacher.run_id).parent == recorded.first
    assert teacher.metrics["val/accuracy"] == tracking.get(teacher.run_id).metrics["val/accuracy"]
    assert len(tracking.runs(limit=1_000)) == before
