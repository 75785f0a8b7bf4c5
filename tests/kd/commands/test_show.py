"""`kd show`: everything about one run, and the table of classes."""

import json

import pytest

from kd.commands.show import print_classes, print_seeds, print_trained_with, print_trials, print_versions
from tasks.listings import ClassLine, VersionLine
from tests.conftest import Here
from tests.kd.conftest import Done, Printed


def test_a_run_is_found_by_the_start_of_its_id(here: Here, second_run: Done) -> None:
    parent = json.loads(second_run.stdout)["parent_run_id"]
    assert json.loads(here("show", parent[:10], "--json")[1])["run_id"] == parent
    assert "small-student" in here("show", parent)[1]


def test_a_registered_model_is_shown_as_the_run_that_made_it(here: Here, second_run: Done) -> None:
    code, out, error = here("show", "small-student@champion", "--json")
    assert code == 0, error
    document = json.loads(out)
    assert document["kind"] == "student"
    assert [version["aliases"] for version in document["versions"]] == [["champion"]]
    titles, champion = here("show", "small-student")[1].splitlines()[:2]
    assert titles.split() == ["version", "aliases", "made", "by", "test", "%", "run", "comparison"]
    assert champion.split()[:3] == ["1", "champion", document["name"]]
    assert document["run_id"][:8] in champion
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


def test_versions_are_printed_with_what_fits(printed: Printed) -> None:
    version = VersionLine(
        version=2,
        aliases=["champion"],
        made_by="hard-labels-equal-steps",
        run_id="0123456789",
        comparison="9876543210",
        test_accuracy="95.82 % (93.22 to 97.45)",
        note="forced: it is the only one",
    )
    foreign = VersionLine(
        version=1, aliases=[], made_by=None, run_id=None, comparison=None, test_accuracy=None, note=None
    )
    titles, row, other, blank = printed(130, print_versions, [version, foreign])
    assert " ".join(titles.split()) == "version aliases made by test % run comparison note"
    assert " ".join(row.split()) == (
        "2 champion hard-labels-equal-steps 95.82 (93.22 to 97.45) 01234567 98765432 forced: it is the only one"
    )
    assert (other, blank) == ("1", "")
    narrow = printed(80, print_versions, [version, foreign])
    assert " ".join(narrow[0].split()) == "version aliases made by test % run"
    assert len(narrow) == 4
    print_versions([])


def test_losses_of_replicas_are_left_out_in_a_narrow_terminal(printed: Printed) -> None:
    losses = dict.fromkeys(("train/loss", "train/logit_regression", "val/loss", "val/logit_regression"), 0.0423)
    seeds = [{"seed": 0, "epoch": 40, **losses, "val/accuracy": 0.963}]
    assert printed(120, print_seeds, seeds)[1].split() == [*seeds[0]]
    _, titles, row = printed(80, print_seeds, seeds)
    assert titles.split() == ["seed", "epoch", "val/loss", "val/logit_regression", "val/accuracy"]
    assert row.split() == ["0", "40", "0.0423", "0.0423", "0.9630"]
