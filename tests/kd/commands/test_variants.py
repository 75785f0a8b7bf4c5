"""`kd variants`: the catalogue of presets and losses."""

import json

from kdmodels.report.losses import LEGEND, loss_rows
from tests.conftest import Here


def test_the_whole_catalogue_is_listed(kd_here: Here) -> None:
    variants = {row["name"]: row for row in json.loads(kd_here("variants", "--json")[1])["variants"]}
    assert variants["kd"]["terms"] == [
        "1 hard_labels, published weight 0.1",
        "auto soft_targets, temperature 4, published weight 0.9",
    ]
    assert variants["kd"]["paper"].startswith("Hinton")
    table = kd_here("variants")[1]
    assert all(name in table for name in variants)
    assert all(row[key] in table for row in loss_rows() for key in row)
    assert "\n".join(LEGEND) in table


def test_one_preset_is_listed_with_its_own_losses(kd_here: Here) -> None:
    out = kd_here("variants", "kd")[1]
    assert "T² KL(softmax(z_t / T) ‖ softmax(z_s / T))" in out
    assert "mean over classes" not in out


def test_the_nearest_preset_is_suggested(kd_here: Here) -> None:
    assert "Did you mean 'dkd'?" in kd_here("variants", "dk")[2]
