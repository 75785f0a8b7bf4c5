"""docs/losses.md agrees with the catalogue."""

from pathlib import Path

from kdmodels.experiment.catalogue import LOSSES
from kdmodels.experiment.presets import PRESETS
from kdmodels.report.losses import catalogue, loss_rows, variant_rows

DOCUMENT = Path(__file__).parents[3] / "docs" / "losses.md"


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == catalogue(), "run: make docs"


def test_every_loss_and_variant_is_described() -> None:
    assert [row["name"] for row in variant_rows()] == list(PRESETS)
    assert [row["name"] for row in loss_rows()] == list(LOSSES)
    for row in loss_rows():
        assert all(row[key] for key in ("formula", "inputs", "paper", "weight", "cost"))


def test_a_default_that_depends_on_features_is_described_in_words() -> None:
    (row,) = (row for row in loss_rows(["review"]) if row["name"] == "review")
    assert row["defaults"].startswith("width the channels of the student's deepest map, at most 512 (a whole number, 1")


def test_every_weight_names_its_batch_size() -> None:
    assert [name for name, loss in LOSSES.items() if "batch" not in loss.weight] == []


def test_each_loss_of_the_named_variants_is_listed_once() -> None:
    assert [row["name"] for row in loss_rows(["kd", "kd+hint"])] == ["hard_labels", "soft_targets", "hint"]
