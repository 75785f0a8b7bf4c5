"""The sections that are made of predictions: classes, calibration and disagreement."""

from typing import Any

import numpy as np

from kdmodels.report.components import Cards, Chart, Section, Table
from kdmodels.report.contents import Contents
from kdmodels.report.predictions import ClassShare, Disagreement, Predictions, summarise
from kdmodels.report.sections.calibration import calibration_section
from kdmodels.report.sections.classes import MOST_CLASSES, class_accuracies, classes_section
from kdmodels.report.sections.disagreement import disagreement_section
from tests.support.reports import column, contents

CLASSES = ["cat", "dog", "owl"]
LABELS = np.array([0, 0, 1, 1, 2, 2])
STUDENT = np.eye(3)[[0, 1, 1, 1, 2, 0]] * 0.7 + 0.1  # one cat as dog, one owl as cat
TEACHER = np.eye(3)[[0, 0, 1, 1, 2, 2]] * 0.7 + 0.1
DISAGREEMENT = Disagreement(
    label=2, picture="AAAA", shares={1.0: [ClassShare(index=0, student=0.8, teacher=0.125)], 4.0: []}
)


def with_predictions(**changes: Any) -> Contents:
    fields: dict[str, Any] = {
        "classes": CLASSES,
        "examples": 6,
        "networks": [
            summarise("student", "kd", STUDENT, LABELS),
            summarise("control", "hard-labels", STUDENT, LABELS),
            summarise("teacher", "teacher", TEACHER, LABELS),
        ],
        "disagreements": [DISAGREEMENT],
    }
    return contents(predictions=Predictions(**fields | changes))


def charts(section: Section | None) -> list[Any]:
    assert section is not None
    return [each for each in section.components if isinstance(each, Chart)]


def test_the_accuracy_on_each_class_is_drawn_for_each_network() -> None:
    accuracies, _ = charts(classes_section(with_predictions()))
    rows = {(row["network"], row["class"]): row["accuracy"] for row in accuracies.spec["data"]["values"]}
    assert rows["kd (student)", "cat"] == 50.0
    assert rows["kd (student)", "dog"] == 100.0
    assert rows["teacher", "cat"] == 100.0
    assert len(rows) == 9
    assert "kd (student): cat, 50.00 %" in accuracies.description


def test_a_confusion_matrix_has_the_counts_and_their_shares() -> None:
    _, matrices = charts(classes_section(with_predictions()))
    (panels,) = [row["hconcat"] for row in matrices.spec["vconcat"]]
    cells = {(row["true"], row["predicted"]): (row["examples"], row["share"]) for row in panels[0]["data"]["values"]}
    assert cells == {
        ("cat", "cat"): (1, 50.0),
        ("cat", "dog"): (1, 50.0),
        ("dog", "dog"): (2, 100.0),
        ("owl", "cat"): (1, 50.0),
        ("owl", "owl"): (1, 50.0),
    }
    names = [panel["title"].rpartition(": ")[0] for panel in panels]
    assert names == ["kd (student)", "hard-labels (control)", "teacher"]
    assert panels[0]["title"].endswith(": 66.67 %")  # 4 of 6 images


def test_the_table_lists_the_confusions_of_the_student_beside_the_other_networks() -> None:
    section = classes_section(with_predictions())
    assert section is not None
    (table,) = [each for each in section.components if isinstance(each, Table)]
    assert column(table, "true class") == ["cat", "owl"]
    assert column(table, "predicted class") == ["dog", "cat"]
    assert column(table, "kd (student)") == ["1", "1"]
    assert column(table, "teacher") == ["0", "0"]


def test_many_classes_leave_those_that_differ_most_and_no_matrix() -> None:
    count = MOST_CLASSES + 5
    labels = np.arange(count)
    perfect = np.eye(count)
    wrong_at_0 = np.eye(count)[[1, *range(1, count)]]
    networks = [summarise("student", "kd", wrong_at_0, labels), summarise("teacher", "teacher", perfect, labels)]
    of = with_predictions(classes=[f"class {number}" for number in range(count)], networks=networks)
    (accuracies,) = charts(classes_section(of))
    shown = {row["class"] for row in accuracies.spec["data"]["values"]}
    assert len(shown) == MOST_CLASSES
    assert "class 0" in shown


def test_a_class_without_examples_has_no_accuracy() -> None:
    accuracies = class_accuracies(np.array([[1, 1], [0, 0]]))
    assert accuracies[0] == 0.5
    assert np.isnan(accuracies[1])
    networks = [summarise("student", "kd", STUDENT[:4], LABELS[:4])]  # no owl
    first, _ = charts(classes_section(with_predictions(networks=networks)))
    assert {row["class"] for row in first.spec["data"]["values"]} == {"cat", "dog"}


def test_a_reliability_diagram_shows_the_bins_and_the_error() -> None:
    (chart,) = charts(calibration_section(with_predictions()))
    (panels,) = [row["hconcat"] for row in chart.spec["vconcat"]]
    assert panels[0]["layer"][2]["data"]["values"] == [{"confidence": 80.0, "accuracy": 66.667, "examples": 6}]
    assert panels[0]["title"] == "kd (student), ECE 0.133"
    assert "teacher 0.200" in chart.description


def test_a_disagreement_shows_the_picture_and_both_distributions() -> None:
    section = disagreement_section(with_predictions())
    assert section is not None
    (cards,) = [each for each in section.components if isinstance(each, Cards)]
    (card,) = cards.cards
    assert (card.title, card.alternative) == (
        "True class: owl",
        "Image 1 of the largest disagreements, of class owl",
    )
    assert list(card.bars) == ["student, T = 1", "teacher, T = 1", "student, T = 4", "teacher, T = 4"]
    (bar,) = card.bars["teacher, T = 1"]
    assert (bar.label, bar.share, bar.text) == ("cat", 0.125, "12 %")


def test_without_predictions_there_are_no_sections() -> None:
    assert classes_section(contents()) is None
    assert calibration_section(contents()) is None
    assert disagreement_section(contents()) is None
    assert disagreement_section(with_predictions(disagreements=[])) is None
