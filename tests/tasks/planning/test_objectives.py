"""Every objective is tried before training, on the networks as they will be built."""

import pytest

from kdmodels.errors import UserError
from tasks.planning.objectives import check_objectives
from tasks.references import DataReference
from tests.tasks.planning.conftest import small_experiment

LOSSES = "tests.support.losses:"


def test_the_note_names_parameters_that_no_term_trains(data: DataReference) -> None:
    alone = {"name": "alone", "terms": [{"similarity_preserving": {"at": "middle"}}]}
    assert check_objectives(small_experiment("kd", alone), data)[0] == [
        "", "", "no term reaches the last layer: a linear probe, fitted on the labels; "
        "untrained: block2.linear.weight, block2.linear.bias"]  # fmt: skip


@pytest.mark.parametrize(
    ("terms", "batch", "line"),
    [
        (["hard_labels", {"hint": {"at": {"student": "first", "teacher": "block9"}}}], 64,
         r"^variant x: of the teacher, at: unknown module 'block9'. Did you mean 'block2'\?"),
        (["hard_labels", {"hint": {"at": {"student": "block9", "teacher": "first"}}}], 64,
         "^variant x: at: unknown module 'block9'"),
        (["hard_labels", "attention_transfer"], 64, "^variant x: attention_transfer at first, middle, deepest: "),
        (["hard_labels", {"similarity_preserving": {"at": "flatten"}}], 64,
         "^variant x: similarity_preserving at flatten: trains no parameter of the student"),
        (["hard_labels", "hint"], 1, "^variant x: batch: 1: batch norm can't learn from one example"),
        (["hard_labels", f"{LOSSES}undefined"], 64,
         f"^variant x: {LOSSES}undefined: returned nan for random examples. Allowed: finite values$"),
        (["hard_labels", f"{LOSSES}constant"], 64, f"^variant x: {LOSSES}constant: has no gradient for student_logits"),
        (["hard_labels", {f"{LOSSES}attention": {"at": "first"}}], 64,
         f"^variant x: {LOSSES}attention at first: raised ValueError: expected maps"),
        (["hard_labels", {f"{LOSSES}relations": {"at": "block9"}}], 64,
         "^variant x: of the teacher, at: unknown module 'block9'"),
        (["hard_labels", f"{LOSSES}Plain"], 64,
         f"^variant x: terms: the class {LOSSES}Plain is not a torch.nn.Module$"),
        (["hard_labels", f"{LOSSES}correlated"], 1,
         f"^variant x: batch: 1: {LOSSES}correlated compares the examples of a batch. Allowed: 2 or more$"),
    ],
)  # fmt: skip
def test_an_objective_that_cannot_work_is_an_error(
    terms: list[object], batch: int, line: str, data: DataReference
) -> None:
    with pytest.raises(UserError, match=line):
        check_objectives(small_experiment({"name": "x", "terms": terms}, batch=batch), data)


def test_the_note_says_that_a_loss_without_vmap_trains_seeds_one_after_the_other(data: DataReference) -> None:
    terms = ["hard_labels", f"{LOSSES}by_numpy"]
    alone = {"name": "alone", "terms": terms}
    conv = alone | {"name": "conv", "student": {"network": {"conv": [4, 4]}}}  # seeds are never trained together
    line = f"seeds are trained one after the other, because of {LOSSES}by_numpy (no torch.func.vmap)"
    notes = check_objectives(small_experiment(alone, conv), data).student_notes
    assert notes == ["", line, "", ""]


def test_frozen_parameters_are_an_error_unless_the_teacher_is_not_trained(data: DataReference) -> None:
    frozen = {"network": "tests.support.networks:Frozen", "epochs": 1}
    line = r"the network has frozen parameters: network\.body\.weight, network\.body\.bias\. Allowed: all of them"
    with pytest.raises(UserError, match=f"^variant hard-labels: {line}"):
        check_objectives(small_experiment(student=frozen), data)
    with pytest.raises(UserError, match=f"^teacher: {line}"):
        check_objectives(small_experiment(teacher=frozen), data)
    read = {"network": frozen["network"], "checkpoint": "x.pt"}
    assert check_objectives(small_experiment("kd", teacher=read), data)[0] == ["", ""]


def test_a_network_that_cannot_be_written_as_onnx_is_an_error(data: DataReference) -> None:
    """torch computes eigenvalues and their gradient. ONNX has no operation for eigenvalues."""
    spectral = {"module": "tests.support.networks:Spectral"}
    line = r": the network can't be written as ONNX, the format of served models: .*"
    with pytest.raises(UserError, match=f"^variant hard-labels{line}$") as raised:
        check_objectives(small_experiment("kd", student={"network": spectral, "epochs": 1}), data)
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match=f"^teacher{line}$"):
        check_objectives(small_experiment("kd", teacher={"network": spectral, "epochs": 1}), data)


def test_a_softmax_as_the_last_layer_is_warned_about_once_for_each_network(data: DataReference) -> None:
    softmax, logits = "tests.support.networks:Softmax", "tests.support.networks:by_function"
    other = {"name": "other", "terms": "kd", "student": {"network": {"mlp": [5]}}}
    experiment = small_experiment("kd", other, student={"network": softmax, "epochs": 1})
    assert check_objectives(experiment, data).warnings == [
        "the student returns probabilities: its outputs are at least 0 and sum to 1. The losses expect logits. Remove "
        "the softmax after its last layer"
    ]
    both = small_experiment(
        {"name": "other", "terms": "kd", "student": {"network": softmax}}, teacher={"network": softmax, "epochs": 1}
    )
    assert [warning.partition(" returns")[0] for warning in check_objectives(both, data).warnings] == [
        "the teacher", "the student of hard-labels-of-other"]  # fmt: skip
    plain = small_experiment("kd", teacher={"network": logits, "epochs": 1}, student={"network": logits, "epochs": 1})
    assert check_objectives(plain, data).warnings == []
