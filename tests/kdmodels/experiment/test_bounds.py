"""What an experiment file costs to read is bounded: long texts, and grids that stand for many variants.

With work that grows as the square of a text's length, or with as many variants as a grid has points, none of these
tests would end within a day.
"""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kdmodels.errors import UserError
from kdmodels.experiment import Experiment, Require
from kdmodels.experiment.file import read_experiment
from kdmodels.experiment.grids import MOST_VARIANTS

LENGTH = 1_000_000
SHORT: dict[str, Any] = {
    "name": "x",
    "data": "digits",
    "teacher": {"network": {"mlp": [8]}, "epochs": 1},
    "student": {"network": {"mlp": [4]}, "epochs": 1},
    "variants": ["kd"],
}
TEXTS = [
    ("name",),
    ("device",),
    ("student", "network"),
    ("student", "network", "module"),
    ("student", "optimizer"),
    ("knowledge", "budget"),
    ("promote", "model"),
    ("promote", "require", "accuracy"),
    ("promote", "require", "file_mb"),
    ("schedule", "cron"),
    ("schedule", "timezone"),
    ("variants", 0),
    ("variants", 0, "name"),
    ("variants", 0, "terms"),
]
PIECES = ["1", "a", "a.", "a:", " ", "1,", "*/1", ">= 1", "9GB"]


def changed(path: tuple[Any, ...], value: object) -> dict[str, Any]:
    raw = deepcopy(SHORT)
    node: Any = raw
    for step in path[:-1]:
        if isinstance(node, dict):
            node.setdefault(step, {})
        if not isinstance(node[step], dict | list):
            node[step] = {}
        node = node[step]
    node[path[-1]] = value
    return raw


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: ".".join(map(str, path)))
def test_a_long_text_gives_a_short_message(path: tuple[Any, ...]) -> None:
    for piece in PIECES:
        for begin in ("", ">= ", "<= "):
            with pytest.raises(ValidationError) as caught:
                Experiment.model_validate(changed(path, begin + piece * (LENGTH // len(piece)) + "\n"))
            assert len(str(caught.value.errors()[0]["msg"])) < 2_000


@pytest.mark.parametrize("end", ["x", "", " ", "e", ".", "e5", ".."])
def test_a_bound_of_many_digits_is_refused(end: str) -> None:
    for digits in (60_000, LENGTH):
        with pytest.raises(ValidationError, match=r"expected a bound such as '>= 0\.95', or null, got"):
            Require.model_validate({"accuracy": f">= {'1' * digits}{end}"})


def test_bounds_are_normalised() -> None:
    for text, meaning in [(">=0.9", ">= 0.9"), (" >=  .5 ", ">= .5"), (">= 1.", ">= 1."), (">= 1e-3", ">= 1e-3")]:
        assert Require.model_validate({"accuracy": text}).accuracy == meaning
    for text in (">= 1e999", ">= ", ">= .", ">= 1..", ">= 0x1", ">= nan", ">= inf", "> 1", ">= -1", ">= 1_0"):
        with pytest.raises(ValidationError, match="expected a bound such as"):
            Require.model_validate({"accuracy": text})
    with pytest.raises(ValidationError, match="expected a bound such as"):
        Require.model_validate({"file_mb": "<= 1e999"})


def grid(*lengths: int) -> dict[str, list[float]]:
    axes = ("temperature", "hard_labels.weight", "soft_targets.weight", "hard_labels.warmup", "soft_targets.warmup")
    return {axis: [(i + 1) / 2_000 for i in range(length)] for axis, length in zip(axes, lengths, strict=False)}


def own_terms(*lengths: int) -> dict[str, Any]:
    losses = ("hard_labels", "soft_targets", "logit_regression", "dist")
    terms = [{loss: {"weight": [i + 1 for i in range(length)]}} for loss, length in zip(losses, lengths, strict=False)]
    return {"name": "own", "terms": terms}


@pytest.mark.parametrize(
    "variants",
    [
        [{"kd": grid(1000, 1000)}],
        [{"kd": grid(1000, 1000, 1000, 1000, 1000)}],  # 10^15
        [own_terms(1000, 1000)],
        [own_terms(1000, 1000, 1000, 1000)],  # 10^12
        [own_terms(1001)],
    ],
    ids=["a preset's", "a preset's, nested", "of own terms", "of own terms, nested", "one axis"],
)
def test_a_grid_of_too_many_variants_is_refused_before_any_is_built(variants: list[Any]) -> None:
    with pytest.raises(ValidationError, match=r"expected at most 1,000 variants in an experiment, got [0-9,]+"):
        Experiment.model_validate(SHORT | {"variants": variants})


def test_several_grids_count_together() -> None:
    one = grid(MOST_VARIANTS // 20, 10)
    many = [{"kd": one}, {"kd": {"hard_labels.weight": [2.0, 3.0], "temperature": list(range(1, 300))}}]
    with pytest.raises(ValidationError, match="expected at most 1,000 variants in an experiment, got 1,098"):
        Experiment.model_validate(SHORT | {"variants": many})
    assert len(Experiment.model_validate(SHORT | {"variants": many[:1]}).variants) == 1 + MOST_VARIANTS // 2


def test_a_long_list_of_places_is_refused() -> None:
    places = [f"layer{number}" for number in range(101)]
    terms = [{"hint": {"weight": 1, "at": places}}]
    with pytest.raises(ValidationError, match="expected at most 100 places, got 101"):
        Experiment.model_validate(SHORT | {"variants": [{"name": "own", "terms": terms}]})


@pytest.mark.parametrize("text", ["9" * 5_000, "9" * 400 + ".5", "1e400", "-1e400", "1" + "_000" * 3, "0x" + "f" * 99])
@pytest.mark.parametrize("field", ["student.epochs", "student.seeds", "student.optimizer.adam.lr", "seed", "threads"])
def test_a_huge_number_is_one_line(tmp_path: Path, field: str, text: str) -> None:
    (tmp_path / "x.yaml").write_text(json.dumps(SHORT))
    with pytest.raises(UserError) as error:
        read_experiment(tmp_path / "x.yaml", [f"{field}={text}"])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_a_merge_key_is_an_unknown_field(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(json.dumps(SHORT)[:-1] + ', "<<": {"seed": 3}}')
    with pytest.raises(UserError, match=r"<<: unknown field\. Allowed: "):
        read_experiment(tmp_path / "x.yaml")
    with pytest.raises(UserError, match=r"student\.<<: unknown field\. Allowed: "):
        read_experiment(tmp_path / "x.yaml", ["student.<<={epochs: 3}"])


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/b", "..", ".", "a\\b", "a:b", "models:/x", "x\n", "~root", "%2e%2e"]
)
@pytest.mark.parametrize("field", ["name", "promote.model", "variants.0.name"])
def test_names_can_not_contain_paths(tmp_path: Path, field: str, name: str) -> None:
    raw = SHORT | {"variants": [{"name": "own", "terms": "kd"}]}
    (tmp_path / "x.yaml").write_text(json.dumps(raw))
    with pytest.raises(UserError, match=rf"{field}: expected a name, got .*\. Allowed: at most [0-9]+ letters, digits"):
        read_experiment(tmp_path / "x.yaml", [f"{field}={json.dumps(name)}"])
