"""The console's tables, fields and JSON, without a terminal."""

import json

import pytest

from kd.console import print_fields, print_json, print_table


def test_numbers_that_are_not_finite_are_null_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"loss": float("nan"), "bound": float("inf"), "accuracy": 0.5})
    assert json.loads(capsys.readouterr().out) == {"loss": None, "bound": None, "accuracy": 0.5}


def test_markup_in_a_value_is_printed_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"name": "[bold]kd[/bold]", "ok": None}, {"name": "x", "ok": False}], {"name": "name", "ok": "ok"})
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["name", "ok"],
        ["[bold]kd[/bold]"],
        ["x", "no"],
    ]


def test_nested_fields_are_indented_and_empty_fields_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"run_id": "a", "error": None, "params": {"lr": 0.5}, "seeds": [{"seed": 0, "epoch": 3}], "tags": {}})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["run_id", "a"], ["params"], ["lr", "0.5000"], ["seeds"], ["seed", "epoch"], ["0", "3"]]


def test_a_long_name_of_a_field_is_two_spaces_from_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"params": {"terms.1.hyperparameters.temperature": 4.0, "a" * 24: 1}, "b" * 24: 2, "lr": 3})
    assert capsys.readouterr().out.splitlines() == [
        "params",
        "  terms.1.hyperparameters.temperature  4.0000",
        f"  {'a' * 24}  1",
        f"{'b' * 24}  2",
        f"lr{' ' * 24}3",
    ]
