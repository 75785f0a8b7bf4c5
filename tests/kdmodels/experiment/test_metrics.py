"""The fields `metrics`, `rank_by` and `promote.require` for metrics other than the accuracy."""

import json
from pathlib import Path
from typing import Any

import pytest

from kdmodels.errors import UserError
from kdmodels.experiment import Experiment
from kdmodels.experiment.file import read_experiment
from kdmodels.experiment.metrics import Metric
from kdmodels.experiment.user_code import named_modules

FILE: dict[str, Any] = {
    "name": "x",
    "data": "digits",
    "teacher": {"network": {"mlp": [8]}, "epochs": 1},
    "student": {"network": {"mlp": [4]}, "epochs": 1},
    "variants": ["kd"],
}
METRICS = ["macro_f1", "top_3", "recall_7", {"mymetrics.costs:cost": "lower"}]


def test_shorthands_have_a_normal_form() -> None:
    experiment = Experiment.model_validate(
        FILE | {"metrics": METRICS, "promote": {"require": {"macro_f1": ">=0.9", "mymetrics.costs:cost": "<= -1.5"}}}
    )
    assert experiment.metrics[0] == Metric(name="macro_f1")
    assert experiment.metrics[3] == Metric(name="mymetrics.costs:cost", better="lower")
    assert experiment.promote.require.metrics == {"macro_f1": ">= 0.9", "mymetrics.costs:cost": "<= -1.5"}
    assert experiment.promote.require.accuracy is None
    assert Experiment.model_validate(experiment.model_dump()) == experiment


def test_only_the_modules_of_own_metrics_may_run() -> None:
    assert named_modules(Experiment.model_validate(FILE | {"metrics": METRICS})) == {"mymetrics.costs"}


def test_rank_by_names_the_metric_and_its_direction() -> None:
    assert Experiment.model_validate(FILE | {"metrics": METRICS}).ranking is None
    cost = Experiment.model_validate(FILE | {"metrics": METRICS, "rank_by": "mymetrics.costs:cost"}).ranking
    assert cost is not None
    assert cost.merit(2.0) < cost.merit(1.0)
    assert (cost.title, Metric(name="top_3").title) == ("cost", "top_3")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"metrics": ["macro_f"]},
            "metrics.0.name: unknown metric 'macro_f'. Did you mean 'macro_f1'? Allowed: macro_f1",
        ),
        ({"metrics": ["top_0"]}, "metrics.0.name: unknown metric 'top_0'"),
        ({"metrics": ["my-metrics:cost"]}, "metrics.0.name: unknown metric 'my-metrics:cost'"),
        ({"metrics": [{"auroc": "lowest"}]}, "metrics.0.better: unknown value 'lowest'. Did you mean 'lower'?"),
        ({"metrics": ["auroc", "auroc"]}, "metrics.1: auroc appears twice. Each metric may appear only once"),
        ({"rank_by": "auroc"}, "rank_by: 'auroc' is not measured. Did you mean 'accuracy'? Allowed: accuracy"),
        (
            {"metrics": ["auroc"], "promote": {"require": {"macro_f1": ">= 0.9"}}},
            "promote.require.macro_f1: macro_f1 is not in metrics. Allowed: auroc",
        ),
        (
            {"metrics": ["auroc"], "promote": {"require": {"auroc": 0.9}}},
            "promote.require.auroc: expected a bound such as '>= 0.9' or '<= 0.1', got 0.9",
        ),
        (
            {"promote": {"require": {"acuracy": ">= 0.9"}}},
            "promote.require.acuracy: unknown field. Did you mean 'accuracy'?",
        ),
    ],
)
def test_mistakes_name_the_field_and_what_is_allowed(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(json.dumps(FILE | fields))
    with pytest.raises(UserError) as caught:
        read_experiment(file)
    assert message in str(caught.value)
