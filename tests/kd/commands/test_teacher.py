"""`kd teacher` prints one line that says how to use the teacher."""

import json
import re

import pytest

from kd import prefect_flows
from tests.conftest import Here


def no_server() -> None:
    pytest.fail("a server was started")


def test_the_teacher_of_a_finished_comparison_is_registered(here: Here) -> None:
    code, out, error = here("teacher", "small.yaml")
    assert (code, error) == (0, "small: teacher; starting\n")
    assert re.fullmatch(
        r"small-teacher version 1: \d\d\.\d\d % on validation \(reused run [0-9a-f]{8}\)\. "
        r"In an experiment file: teacher: \{registry: small-teacher\}\n",
        out,
    )
    code, out, _ = here("teacher", "small.yaml", "--json")
    document = json.loads(out)
    assert (code, document["model"], document["version"], document["reused"]) == (0, "small-teacher", 1, True)
    code, out, _ = here("run", "small.yaml", "--set", "teacher={registry: small-teacher}", "--dry-run", "--json")
    assert (code, json.loads(out)["teacher"]["action"]) == (0, "train")


@pytest.mark.parametrize(("words", "message"), [
    (("--as", "small-student"), "--as small-student: this is a model of students. Allowed: another name"),
    (("--as", "a/b"), "model name 'a/b': allowed are 1 to 250 characters without / : @ and quotes"),
    (("--set", "teacher=[{registry: a}, {registry: b}]"), "teacher.ensemble: an ensemble can't be registered. Allow"),
    (("--set", "teacher={registry: big}"), "teacher.registry: big is registered already, and can be used as it is"),
    (("--set", "teacher.epoch=5"), "--set teacher.epoch: unknown field. Did you mean 'epochs'?"),
], ids=str)  # fmt: skip
def test_a_mistake_is_reported_without_a_server(
    here: Here, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.setattr(prefect_flows, "running_server", no_server)
    code, out, error = here("teacher", "small.yaml", *words)
    assert (code, out) == (2, "")
    assert message in error
