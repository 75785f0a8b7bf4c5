"""`kd variants`: the catalogue of presets and losses."""

import json
from pathlib import Path

from kdmodels.report.losses import LEGEND, loss_rows
from tests.conftest import SMALL, Here


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


def test_the_variants_of_a_file_are_listed_with_its_own_losses(kd_here: Here, tmp_path: Path) -> None:
    terms = ["hard_labels", {"tests.support.losses:soft": {"weight": "auto", "temperature": 2}}]
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps(SMALL | {"variants": ["kd", {"name": "mine", "terms": terms}]}))
    tables = json.loads(kd_here("variants", str(file), "--json")[1])
    assert [row["name"] for row in tables["variants"]] == ["hard-labels", "kd", "mine"]
    assert tables["variants"][-1]["terms"] == ["1 hard_labels", "auto tests.support.losses:soft, temperature 2"]
    assert [row["name"] for row in tables["losses"]] == ["hard_labels", "soft_targets", "tests.support.losses:soft"]
    assert tables["losses"][-1] | {"weight": ""} == {
        "name": "tests.support.losses:soft",
        "formula": "Hinton's soft targets.",
        "inputs": "student_logits, teacher_logits",
        "defaults": "temperature 4.0 (a number)",
        "paper": "none: your own loss",
        "weight": "",
        "cost": "not known",
    }
    both = json.loads(kd_here("variants", "dkd", str(file), "--json")[1])["variants"]
    assert [row["name"] for row in both] == ["dkd", "hard-labels", "kd", "mine"]


def test_the_nearest_preset_is_suggested(kd_here: Here) -> None:
    assert "Did you mean 'dkd'?" in kd_here("variants", "dk")[2]
