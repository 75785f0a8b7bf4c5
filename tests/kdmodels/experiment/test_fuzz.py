"""Whatever stands in an experiment file: an experiment, or mistakes that say where they stand."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdmodels.errors import UserError
from kdmodels.experiment import Experiment
from kdmodels.experiment.file import read_experiment
from tests.kdmodels.experiment.test_file import SHORT


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "my.yaml"


KEYS = sorted(
    {*Experiment.model_fields, "mlp", "network", "epochs", "kd", "terms", "at", "require", "optimizer", "sgd"}
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(KEYS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner, max_size=3),
    max_leaves=8,
)
CHANGE = st.tuples(st.integers(0, len(SHORT)), st.integers(0, 9), st.text(max_size=3))  # where, what goes, what comes
PATHS = ["name", "data", "data.validation", "teacher", "student.network", "student.optimizer", "student.schedule"]
PATHS += ["variants", "variants.0", "variants.1.kd", "promote", "promote.require", "schedule", "x", "student.0"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=st.text() | st.lists(st.sampled_from([*"{}[]:,-#&*!|>'\"%@\n \t", "kd", "name: ", "0"])).map("".join))
def test_any_text_is_an_experiment_or_a_user_error(fuzzed: Path, text: str) -> None:
    fuzzed.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError) as caught:
        read_experiment(fuzzed)
    assert str(caught.value).startswith(str(fuzzed))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(SHORT)), st.integers(0, 9), st.text(max_size=3)), min_size=1, max_size=4
    )
)
def test_any_change_to_a_file_is_an_experiment_or_a_user_error(
    fuzzed: Path, changes: list[tuple[int, int, str]]
) -> None:
    text = SHORT
    for begin, length, new in changes:
        text = text[:begin] + new + text[begin + length :]
    fuzzed.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        experiment = read_experiment(fuzzed)
    except UserError as error:
        lines = str(error).split("\n")
    else:
        assert Experiment.model_validate(experiment.model_dump(mode="json")) == experiment
        lines = [str(fuzzed)]
    assert all(line.startswith(str(fuzzed)) for line in lines)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(path=st.sampled_from(PATHS), value=VALUES)
def test_any_value_anywhere_is_an_experiment_or_a_user_error(fuzzed: Path, path: str, value: object) -> None:
    fuzzed.write_text(SHORT)
    try:
        experiment = read_experiment(fuzzed, [f"{path}={json.dumps(value)}"])
    except UserError as error:
        message = str(error)
    else:
        message = f"--set {path}"
        assert Experiment.model_validate(experiment.model_dump(mode="json")) == experiment
    assert message.startswith((f"--set {path}", str(fuzzed)))
