"""The console's tables, fields and JSON, without a terminal."""

import json
from datetime import UTC, datetime

import pytest

from kd.console import local_time, print_fields, print_json, print_table
from tests.kd.conftest import Printed


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
        "  terms.1.hyperparameters.temperature  4",
        f"  {'a' * 24}  1",
        f"{'b' * 24}  2",
        f"lr{' ' * 24}3",
    ]


def test_optional_columns_are_left_out_until_the_table_fits(printed: Printed) -> None:
    rows = [{"a": "a" * 30, "b": "b" * 20, "c": "c" * 20}]
    titles = {name: name for name in "abc"}

    def shown(width: int) -> str:
        return "".join(printed(width, print_table, rows, titles, ["c", "b"])[0].split())

    assert [shown(width) for width in (74, 73, 52, 51, 30, 20)] == ["abc", "ab", "ab", "a", "a", "a"]


def test_times_are_short_and_local() -> None:
    time = datetime(2026, 11, 30, 18, 5, 9, tzinfo=UTC)
    assert local_time(time) == local_time(time.isoformat()) == f"{time.astimezone():%Y-%m-%d %H:%M}"
    assert local_time(None) is None
