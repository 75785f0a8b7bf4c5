"""Correlation congruence: a plain loop, and batches of one example."""

import pytest
import torch

from kdmodels import losses
from tests.kdmodels.losses.samples import drawn


def test_the_value_equals_a_plain_loop() -> None:
    student, teacher = drawn(0, 4, 3), drawn(1, 4, 3)
    differences = [[abs(s - t) for s, t in zip(*rows, strict=True)] for rows in zip(student, teacher, strict=True)]
    products = [sum(a * b for a, b in zip(differences[i], differences[i + 1], strict=True)) for i in range(3)]
    assert losses.correlation_congruence(student, teacher).item() == pytest.approx(float(sum(products)) / 3)
    assert losses.correlation_congruence(student, student) == 0


def test_the_module_projects_both_embeddings() -> None:
    module = losses.CorrelationCongruence(4, 6, width=5).double()
    student, teacher = drawn(0, 3, 4), drawn(1, 3, 6)
    expected = losses.correlation_congruence(module.student(student), module.teacher(teacher))
    assert torch.equal(module(student, teacher), expected)
    assert losses.CorrelationCongruence(4, 6).student.out_features == 128


def test_a_single_example_has_no_pair() -> None:
    student = drawn(0, 1, 3).requires_grad_()
    value = losses.correlation_congruence(student, drawn(1, 1, 3))
    value.backward()
    assert value == 0
    assert student.grad is not None
    assert not student.grad.any()


def test_embeddings_of_different_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        losses.correlation_congruence(drawn(0, 3, 4), drawn(1, 3, 1))
