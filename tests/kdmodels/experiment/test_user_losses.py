"""Users' own losses in an experiment file: what their signatures say, and every mistake with its sentence."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from kdmodels.experiment import Experiment
from kdmodels.experiment.file import parse_experiment
from kdmodels.experiment.schema import explain
from kdmodels.experiment.terms import Term
from kdmodels.experiment.user_losses import read_loss
from tests.conftest import SMALL

OWN = "tests.support.losses:"
WRITTEN = """\
raise RuntimeError("this module must not run")

def soft(student_logits, teacher_logits, *, temperature: float = 4): ...
def positional(student_logits, teacher_logits, temperature=4): ...
def starred(student_logits, *others): ...
def alone(student_logits): ...
def without_student(teacher_logits, labels): ...
def weighted(student_logits, labels, *, weight: float = 1): ...
def listed(student_logits, labels, *, sizes: list[int] = ()): ...
class Empty: ...
class Sized:
    def __init__(self, width): ...
    def forward(self, student_logits, labels): ...
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with a module of losses, which raises an error if it is imported."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "read_losses.py").write_text(WRITTEN)
    (tmp_path / "broken_losses.py").write_text("def loss(:\n")
    return tmp_path


def problem(term: object) -> str:
    with pytest.raises(ValidationError) as raised:
        Term.model_validate(term)
    (detail,) = raised.value.errors()
    path, message = explain(detail, Term)
    return ": ".join([*map(str, path), message])


def test_a_term_names_a_function() -> None:
    term = Term.model_validate({f"{OWN}soft": {"weight": "auto", "temperature": 2}})
    assert term.inputs == ["student_logits", "teacher_logits"]
    assert term.hyperparameters == {"temperature": 2.0}
    assert (term.row.needs, term.row.ensemble, term.at) == ("logits", "softened", None)
    assert Term.model_validate(f"{OWN}smoothed").row.needs == "labels"
    features = Term.model_validate({f"{OWN}attention": {"at": "first"}})
    assert (features.row.needs, features.pairs) == ("features", [("first", "first")])
    assert Term.model_validate(f"{OWN}attention").at == "middle"


def test_a_term_names_a_class() -> None:
    term = Term.model_validate({f"{OWN}Projected": {"initial": 1}})
    assert (term.inputs, term.hyperparameters) == (["student_features", "teacher_features"], {"initial": 1.0})


def test_hyperparameters_keep_the_types_of_their_annotations() -> None:
    term = Term.model_validate({f"{OWN}everything": {"count": 3, "kind": "l1"}})
    assert term.hyperparameters == {"kind": "l1", "count": 3, "scaled": False, "note": ""}
    assert term.row.needs == "logits and features and labels"
    again = Term.model_validate_json(term.model_dump_json())
    assert [type(value) for value in again.hyperparameters.values()] == [str, int, bool, str]


def test_the_row_of_a_loss_describes_it() -> None:
    row = read_loss(f"{OWN}soft")
    assert (row.file, row.formula, row.inputs) == (
        "tests.support.losses", "Hinton's soft targets.", ("student_logits", "teacher_logits"),
    )  # fmt: skip
    assert str(row.hyperparameters["temperature"]) == "a number"


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ({f"{OWN}soft": {"temprature": 2}},
         f"temprature: {OWN}soft has no hyperparameter 'temprature'. Did you mean 'temperature'? Allowed: temperature, "
         "weight, warmup, cosine"),
        ({f"{OWN}soft": {"temperature": "hot"}}, "temperature: expected a number, got 'hot'"),
        ({f"{OWN}soft": {"temperature": float("inf")}}, "temperature: expected a number, got Infinity"),
        ({f"{OWN}everything": {"count": 2.5}}, "count: expected a whole number, got 2.5"),
        ({f"{OWN}everything": {"count": True}}, "count: expected a whole number, got true"),
        ({f"{OWN}everything": {"count": 1, "kind": "l3"}}, "kind: expected 'l1' or 'l2', got 'l3'"),
        ({f"{OWN}everything": {"count": 1, "note": None}},
         "note: expected a number, or a whole number, or true or false, or text, got null"),
        (f"{OWN}everything", f"count: {OWN}everything needs the hyperparameter count, which has no default. Allowed: "
         "a whole number"),
        ({f"{OWN}soft": {"at": "last"}}, re.compile(f"at: {OWN}soft takes no features. Allowed with the losses: hint")),
        ({f"{OWN}attention": {"at": 3}}, re.compile("at: expected a place in the network, got 3. Allowed: first")),
        ({f"{OWN}smoothed": "auto"}, f"weight: {OWN}smoothed does not use the teacher. Allowed: a number above 0"),
        ({f"{OWN}soft": 0}, "weight: expected a number above 0, auto, or {auto: RATIO}, got 0"),
        ({"loss": f"{OWN}soft", "inputs": 5}, "inputs: expected a list of names, got 5"),
        ("./mylosses.py:soft", "./mylosses.py:soft: expected module:name, such as mylosses:smooth_hint"),
        ("absent_losses:soft",
         "absent_losses:soft: the module absent_losses does not exist in the current folder or on Python's path"),
        ("broken_losses:loss",
         "broken_losses:loss: the module broken_losses can't be read: invalid syntax (<unknown>, line 1)"),
        ("read_losses:sofd", "read_losses:sofd: read_losses defines no function or class 'sofd'. Did you mean 'soft'? "
         "Allowed: soft, positional, starred, alone, without_student, weighted, listed, Empty, Sized"),
        ("read_losses:positional", "read_losses:positional: positional has the positional argument 'temperature'. "
         "Did you mean 'teacher_features'? Allowed: student_logits, teacher_logits, labels, student_features, "
         "teacher_features. Write hyperparameters "
         "after a *, as in f(student_logits, teacher_logits, *, temperature: float = 4)"),
        ("read_losses:starred", re.compile("read_losses:starred: starred has the positional argument '[*]others'. ")),
        ("read_losses:alone", "read_losses:alone: its positional arguments are student_logits. Allowed: student_logits "
         "or student_features, and at least one of teacher_logits, labels, student_features, teacher_features"),
        ("read_losses:without_student", re.compile("read_losses:without_student: its positional arguments are")),
        ("read_losses:weighted", "read_losses:weighted: the hyperparameter weight has the name of a field of every "
         "term. Allowed: another name"),
        ("read_losses:listed", "read_losses:listed: the hyperparameter sizes has the annotation list[int]. Allowed: "
         "float, int, bool, str, several of them with |, or Literal['a', 'b']"),
        ("read_losses:Empty",
         "read_losses:Empty: the class Empty defines no forward. Allowed: an nn.Module that does"),
        ("read_losses:Sized", re.compile("read_losses:Sized: __init__ has the positional argument 'width'. Allowed: "
         "student_shape, teacher_shape, classes. Write hyperparameters after a [*]")),
    ],
)  # fmt: skip
def test_a_mistake_has_its_sentence(term: object, message: str | re.Pattern[str], folder: Path) -> None:
    if isinstance(message, str):
        assert problem(term) == message
    else:
        assert message.match(problem(term)), problem(term)


def test_code_is_read_and_not_run_and_a_recorded_experiment_does_not_need_it(folder: Path) -> None:
    written = SMALL | {"variants": [{"name": "mine", "terms": ["hard_labels", {"read_losses:soft": {"weight": 2}}]}]}
    experiment = Experiment.model_validate(written)
    recorded = experiment.model_dump(mode="json")
    (folder / "read_losses.py").unlink()
    assert parse_experiment(recorded) == experiment
    with pytest.raises(ValidationError, match="the module read_losses does not exist"):
        Experiment.model_validate(written)


def test_a_grid_of_an_own_loss_has_names_without_its_module() -> None:
    terms = ["hard_labels", {f"{OWN}soft": {"temperature": [1, 2]}}]
    experiment = Experiment.model_validate(SMALL | {"variants": [{"name": "mine", "terms": terms}]})
    assert [variant.name for variant in experiment.variants] == [
        "hard-labels", "mine-soft.temperature=1", "mine-soft.temperature=2",
    ]  # fmt: skip
