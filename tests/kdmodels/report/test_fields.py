"""docs/fields.md agrees with the model of the experiment file."""

import re
from pathlib import Path

from kdmodels.experiment import Experiment, GeneratorExperiment
from kdmodels.report.fields import document

DOCUMENT = Path(__file__).parents[3] / "docs" / "fields.md"


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == document(), "run: make docs"


def test_every_field_is_listed_and_described() -> None:
    text = document()
    kinds = (Experiment, GeneratorExperiment)
    models = [model for kind in kinds for model in kind.model_json_schema()["$defs"].values()]
    for name in [
        *(name for kind in kinds for name in kind.model_fields),
        *(name for model in models for name in model["properties"]),
    ]:
        assert f"\n| `{name}` |" in text
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert [row for row in rows if row.endswith("|  |")] == []


def test_every_link_leads_to_a_section() -> None:
    text = document()
    headings = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert len(headings) == len(set(headings))
    for name, anchor in re.findall(r"\[([^]]+)\]\(#([^)]+)\)", text):
        assert name in headings
        assert anchor == re.sub(r"[^\w -]", "", name).replace(" ", "-")


def test_ranges_and_defaults_are_those_of_the_model() -> None:
    text = document()
    assert "| `seeds` | a whole number from 1 to 500 | `3` | Number of replicas" in text
    assert "| `validation` | a number above 0 and below 1 or text that is not empty, or null | `null` |" in text
    assert "The fields are those of [teacher](#teacher), without `ensemble`." in text
