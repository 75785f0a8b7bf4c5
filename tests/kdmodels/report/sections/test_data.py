"""The facts about the data."""

from kdmodels.report.components import Table, Text
from kdmodels.report.contents import DataFacts
from kdmodels.report.sections.data import data_section
from tests.support.reports import column, contents


def test_source_splits_classes_digests_and_notes_are_shown() -> None:
    classes = [f"class {number}" for number in range(32)]
    data = DataFacts(
        "digits", {"digest of the data": "abc"}, {"train": 1000, "validation": 200, "rest": 50}, classes, ["odd"]
    )
    section = data_section(contents(data=data))
    assert section is not None
    table, note = section.components
    assert isinstance(table, Table)
    facts = dict(zip(column(table, "fact"), column(table, "value"), strict=True))
    assert (facts["labelled training images"], facts["unlabelled images"]) == ("1,000", "50")
    assert facts["classes"].startswith("32: class 0, class 1")
    assert facts["classes"].endswith("class 29, and 2 more")
    assert facts["digest of the data"] == "abc"
    assert note == Text("odd", role="note")


def test_without_records_there_is_no_section() -> None:
    assert data_section(contents()) is None
