"""The metrics of the catalogue against scikit-learn, and functions of the user."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, recall_score, roc_auc_score, top_k_accuracy_score
from torch import Tensor

from kdmodels.errors import UsageError, UserError
from kdmodels.evaluation.metrics import check, measure, version_of

CLASSES = ["cat", "dog", "owl", "a:b"]
NAMES = ["macro_f1", "auroc", "top_2", "recall_owl", "recall_a:b"]
MINE = """\
import random

import torch


def cost(logits, labels):
    costs = torch.tensor([1.0, 2.0, 3.0, 4.0])
    return (costs[labels] * (logits.argmax(1) != labels)).mean()


def entries(logits, labels):
    return logits.mean(0)


def infinite(logits, labels):
    return float("inf")


def moody(logits, labels):
    return random.random()


def broken(logits, labels):
    raise KeyError("costs")


def greedy(logits, labels):
    logits.zero_()
    return 1
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_metrics.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "own_metrics", raising=False)
    return "own_metrics"


def drawn(seed: int, count: int = 40, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=generator)
    labels[:4] = torch.arange(4)
    return scale * torch.randn(count, 4, generator=generator), labels


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_the_catalogue_equals_scikit_learn(seed: int) -> None:
    logits, labels = drawn(seed)
    predicted, probabilities = logits.argmax(1), logits.double().softmax(1)
    expected = {
        "macro_f1": f1_score(labels, predicted, average="macro"),
        "auroc": roc_auc_score(labels, probabilities, multi_class="ovr", average="macro"),
        "top_2": top_k_accuracy_score(labels, logits.double(), k=2),
        "recall_owl": recall_score(labels, predicted, average=None)[2],
        "recall_a:b": recall_score(labels, predicted, average=None)[3],
    }
    assert measure(NAMES, logits, labels, CLASSES) == pytest.approx(expected, abs=1e-6)


def test_auroc_orders_large_logits_and_leaves_out_absent_classes() -> None:
    logits = torch.tensor([[200.0, 100, 0, 0], [300.0, 0, 0, 0], [0.0, 200, 0, 0], [190.0, 100, 0, 0]])
    labels = torch.tensor([0, 0, 1, 1])
    areas = [roc_auc_score(labels == each, logits.double().softmax(1)[:, each]) for each in (0, 1)]
    assert measure(["auroc"], logits, labels, CLASSES)["auroc"] == pytest.approx(sum(areas) / 2)


def test_the_recall_of_a_class_without_examples_is_an_error() -> None:
    with pytest.raises(UserError, match="metrics: recall_owl is nan for 2 examples"):
        measure(["recall_owl"], torch.eye(4)[:2], torch.tensor([0, 1]), CLASSES)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("top_5", "metrics: top_5: the data have 4 classes. Allowed: top_1 to top_4"),
        (
            "recall_own",
            "metrics: recall_own: the data have no class 'own'. Did you mean 'recall_owl'? Allowed: recall_cat",
        ),
    ],
)
def test_metrics_that_do_not_fit_the_data_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check([name], CLASSES)
    assert message in str(caught.value)


def test_a_users_metric_is_computed_from_logits_and_labels(mine: str) -> None:
    check([f"{mine}:cost"], CLASSES)
    logits, labels = torch.eye(4), torch.tensor([0, 1, 2, 0])
    assert measure([f"{mine}:cost"], logits, labels, CLASSES) == {f"{mine}:cost": 0.25}


def test_a_users_metric_cannot_change_the_logits_of_the_next(mine: str) -> None:
    logits, labels = drawn(0)
    before = logits.clone()
    values = measure([f"{mine}:greedy", "macro_f1"], logits, labels, CLASSES)
    assert torch.equal(logits, before)
    assert values["macro_f1"] == measure(["macro_f1"], logits, labels, CLASSES)["macro_f1"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("entries", "expected a number, got a Tensor. Allowed: a float"),
        ("infinite", "is inf for 32 examples. Allowed: a finite number"),
        ("moody", "for the same logits. Allowed: equal values"),
        ("broken", "raised KeyError: 'costs'"),
    ],
)
def test_a_users_metric_is_checked_before_training(mine: str, function: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check([f"{mine}:{function}"], CLASSES)
    assert str(caught.value).startswith(f"metrics: {mine}:{function} ") or f"{mine}:{function}: " in str(caught.value)
    assert message in str(caught.value)


def test_a_missing_function_is_named_with_those_that_exist(mine: str) -> None:
    with pytest.raises(UsageError, match="metrics: own_metrics has no 'costs'"):
        check([f"{mine}:costs"], CLASSES)


def test_the_version_of_a_metric_depends_on_its_own_code(mine: str, tmp_path: Path) -> None:
    before = version_of(f"{mine}:cost")
    (tmp_path / "own_metrics.py").write_text(MINE.replace("4.0", "5.0"))
    assert version_of(f"{mine}:cost") != before
    assert version_of("auroc") == {"torchmetrics version": "1.9.0"}
