"""A whole `kd run` from a machine that shares nothing with the servers, and the commands after it."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.stack.clients import Client

pytestmark = pytest.mark.stack


def test_the_client_has_no_key_of_the_s3_store(ann: Client) -> None:
    assert not [name for name in ann.environment if name.startswith(("AWS_", "MLFLOW_S3"))]


def test_a_student_is_promoted(digits: Any) -> None:
    assert digits["verdict"]["promoted"]
    assert {student["status"] for student in digits["students"]} == {"FINISHED"}


def test_no_file_of_a_run_stays_on_the_client(ann: Client, digits: Any) -> None:
    assert digits
    assert not [path for path in ann.folder.iterdir() if path.suffix not in (".png", ".yaml", ".py")]


def test_another_member_sees_the_comparison(new_member: Callable[[str], Client], digits: Any) -> None:
    bob = new_member("bob")
    compared = bob.outcome("compare", digits["parent_run_id"])
    assert {row["run_id"] for row in compared} == {row["run_id"] for row in digits["students"]}


def test_the_champion_classifies_an_image(ann: Client, digits: Any) -> None:
    done = ann.kd("predict", digits["verdict"]["model"], "grey.png")
    assert done.returncode == 0, done.stderr
    assert "grey.png" in done.stdout


def test_a_promotion_can_be_tried(ann: Client, digits: Any) -> None:
    done = ann.kd("promote", digits["parent_run_id"], "--dry-run")
    assert done.returncode in (0, 4), done.stderr
    assert "Traceback" not in done.stderr
    assert digits["verdict"]["model"] in done.stdout + done.stderr


def test_the_same_run_again_trains_nothing(ann: Client, digits: Any) -> None:
    again = ann.outcome("run", "digits", "--quiet")
    assert all(student["reused"] for student in again["students"])
    assert again["verdict"]["version"] == digits["verdict"]["version"]
