"""`kd show`: everything about one run, and the table of classes."""

import json

import pytest

from kd.commands.show import print_classes, print_trained_with, print_trials
from tasks.listings import ClassLine
from tests.conftest import Here
from tests.kd.conftest import Done


def test_a_run_is_found_by_the_start_of_its_id(here: Here, second_run: Done) -> None:
    parent = json.loads(second_run.stdout)["parent_run_id"]
    assert json.loads(here("show", parent[:10], "--json")[1])["run_id"] == parent
    assert "small-student" in here("show", parent)[1]


def test_a_registered_model_is_shown_as_the_run_that_made_it(here: Here, second_run: Done) -> None:
    code, out, error = here("show", "small-student@champion", "--json")
    assert code == 0, error
    assert json.loads(out)["kind"] == "student"
    assert here("show", "small-student@best")[0] == 2


def test_the_least_accurate_of_many_classes_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        ClassLine(name=f"c{number}", examples=9, accuracy=number / 100, precision=None, f1=None) for number in range(30)
    ]
    print_classes(rows)
    title, columns, *lines = capsys.readouterr().out.splitlines()
    assert title == "classes on validation (the least accurate 20 of 30)"
    assert columns.split() == ["class", "examples", "accuracy", "precision", "f1"]
    assert [line.split()[0] for line in lines] == [f"c{number}" for number in range(20)]
    print_classes(rows[:3])
    assert capsys.readouterr().out.splitlines()[0] == "classes on validation"
    print_classes([])
    assert capsys.readouterr().out == ""


def test_the_values_of_a_tuned_student_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_trained_with({"lr": 0.000132, "soft_targets.weight": 3.7278})
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["trained", "with"],
        ["lr", "0.000132"],
        ["soft_targets.weight", "3.728"],
    ]
    print_trained_with(None)
    assert capsys.readouterr().out == ""


def test_the_best_trials_of_a_search_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    trials = [{"trial": number, "lr": 0.00012345, "inner_accuracy": 0.9} for number in range(1, 7)]
    print_trials(trials)
    title, columns, first, *others = capsys.readouterr().out.splitlines()
    assert title == "trials on the inner split of the training data (the most accurate 5 of 6)"
    assert columns.split() == ["trial", "lr", "inner_accuracy"]
    assert first.split() == ["1", "0.0001234", "0.9"]
    assert len(others) == 4
    print_trials([{"trial": 1, "lr": 1.0, "inner_accuracy": None}])
    assert capsys.readouterr().out.splitlines()[-1].split() == ["1", "1", "diverged"]
    print_trials([])
    assert capsys.readouterr().out == ""
