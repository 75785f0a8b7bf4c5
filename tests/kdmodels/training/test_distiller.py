"""An objective joined with a student: every preset trains, what no term reaches is told, the teacher stays as it is."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdmodels.catalogue import LOSSES
from kdmodels.data import Split
from kdmodels.errors import UserError
from kdmodels.experiment import Network, Recipe, Term
from kdmodels.knowledge import Knowledge, distil_knowledge
from kdmodels.networks import build, initialise
from kdmodels.objectives import PRESETS
from kdmodels.randomness import stream
from kdmodels.training import Distiller, Replica, fit

SHAPE = {"input_shape": (1, 8, 8), "classes": 3, "mean": [0.5], "std": [0.25]}
PLACES = ["first", "middle", "deepest", "last"]
TEACHER_SHAPES = {"logits": (3,), "first": (6, 4, 4), "middle": (8, 2, 2), "deepest": (10, 2, 2), "last": (10,)}


def split(examples: int, purpose: str) -> Split:
    generator = stream(7, purpose)
    labels = torch.randint(3, (examples,), generator=generator)
    images = torch.rand(examples, 1, 8, 8, generator=generator) * 0.4 + labels.view(-1, 1, 1, 1) * 0.3
    return Split(images, labels)


TRAIN, VALIDATION = split(41, "train"), split(20, "validation")  # batches of 16, 16 and 9


def make_teacher() -> nn.Module:
    teacher = build(Network(conv=[6, 8, 10]), **SHAPE)
    initialise(teacher, stream(1, "teacher"))
    return teacher


def make_student() -> nn.Module:
    return build(Network(conv=[2, 3, 4]), **SHAPE)


@pytest.fixture(scope="module")
def knowledge() -> tuple[Knowledge, Knowledge]:
    teacher = make_teacher()
    train, validation = (distil_knowledge(teacher, part.images, PLACES) for part in (TRAIN, VALIDATION))
    return train, validation


def terms(*written: Any) -> list[Term]:
    return [Term.model_validate(term) for term in written]


def distiller(*written: Any, student: nn.Module | None = None) -> Distiller:
    network = make_student() if student is None else student
    return Distiller(network, terms(*written), input_shape=(1, 8, 8), teacher_shapes=TEACHER_SHAPES, examples=41)


def trained(
    objective: list[Term] | tuple[Term, ...], knowledge: Any, student: nn.Module | None = None, **recipe: Any
) -> list[Replica]:
    settings = Recipe.model_validate({"epochs": 2, "batch": 16, **recipe})
    network = make_student() if student is None else student
    return fit(network, objective, settings, TRAIN, VALIDATION, seeds=[0, 1], knowledge=knowledge)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains_and_reports_its_terms(name: str, knowledge: tuple[Knowledge, Knowledge]) -> None:
    initial = make_student()
    initialise(initial, stream(0, "student"))
    for replica in trained(PRESETS[name].terms, knowledge):
        assert replica.diverged is None
        assert replica.state.keys() == initial.state_dict().keys()
        for term in PRESETS[name].terms:
            assert f"train/{term.loss}" in replica.figures
            assert (f"val/{term.loss}" in replica.figures) is not LOSSES[term.loss].remembers
    for key, parameter in initial.named_parameters():
        assert not torch.equal(parameter, replica.state[key]) or name == "hard-labels"


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in ("attention", "nst", "fsp", "review")])
def test_presets_without_maps_train_stacked_as_alone(name: str) -> None:
    """An MLP's replicas are one stacked computation: each is as it would be alone."""
    teacher, student = build(Network(mlp=[12, 6]), **SHAPE), build(Network(mlp=[5]), **SHAPE)
    initialise(teacher, stream(1, "teacher"))
    known = tuple(distil_knowledge(teacher, part.images, PLACES) for part in (TRAIN, VALIDATION))
    settings = Recipe(epochs=2, batch=16)
    objective = PRESETS[name].terms
    both = fit(student, objective, settings, TRAIN, VALIDATION, seeds=[0, 1], knowledge=known)  # type: ignore[arg-type]
    (alone,) = fit(student, objective, settings, TRAIN, VALIDATION, seeds=[1], knowledge=known)  # type: ignore[arg-type]
    for key in alone.state:
        assert torch.allclose(alone.state[key], both[1].state[key], rtol=1e-3, atol=1e-4)
    assert alone.figures.keys() == both[1].figures.keys()


def test_convolutional_replicas_do_not_depend_on_each_other(knowledge: tuple[Knowledge, Knowledge]) -> None:
    two = trained(PRESETS["kd"].terms, knowledge)
    settings = Recipe(epochs=2, batch=16)
    (alone,) = fit(make_student(), PRESETS["kd"].terms, settings, TRAIN, VALIDATION, seeds=[1], knowledge=knowledge)
    assert all(torch.equal(alone.state[key], two[1].state[key]) for key in alone.state)


def test_the_teacher_stays_in_eval_mode_and_its_statistics_do_not_move() -> None:
    teacher = make_teacher().train()
    before = {key: tensor.clone() for key, tensor in teacher.state_dict().items()}
    known = tuple(distil_knowledge(teacher, part.images, PLACES) for part in (TRAIN, VALIDATION))
    trained(PRESETS["kd+hint"].terms, known)
    assert not teacher.training
    assert all(torch.equal(before[key], tensor) for key, tensor in teacher.state_dict().items())
    assert not any(values.requires_grad for part in known for values in (part.logits, *part.features.values()))


def test_no_gradient_reaches_the_teachers_side() -> None:
    """Whatever the term, with a teacher's tensors that ask for gradient."""
    for preset in PRESETS.values():
        joined = distiller(*preset.terms).train()
        teacher = {name: torch.rand(6, *shape, requires_grad=True) for name, shape in TEACHER_SHAPES.items()}
        _, values = joined(torch.rand(6, 1, 8, 8), torch.arange(6) % 3, teacher, torch.arange(6))
        sum(value.mean() for value in values.values()).backward()
        assert [name for name, tensor in teacher.items() if tensor.grad is not None] == []


def test_features_alone_leave_the_head_to_a_linear_probe(knowledge: tuple[Knowledge, Knowledge]) -> None:
    joined = distiller({"similarity_preserving": {"weight": 3000, "at": "last"}})
    assert joined.probed
    assert joined.unreached == []
    one, _ = trained(terms({"similarity_preserving": {"weight": 3000, "at": "last"}}), knowledge, epochs=12)
    assert one.history[-1]["train/probe"] < one.history[0]["train/probe"]
    assert one.figures["val/loss"] == pytest.approx(3000 * one.figures["val/similarity_preserving"], rel=1e-4)


def test_the_probe_s_gradient_ends_at_the_head() -> None:
    joined = distiller({"similarity_preserving": {"at": "last"}}).train()
    teacher = {name: torch.rand(6, *shape) for name, shape in TEACHER_SHAPES.items()}
    _, values = joined(torch.rand(6, 1, 8, 8), torch.arange(6) % 3, teacher, torch.arange(6))
    values["probe"].mean().backward()
    reached = {name for name, parameter in joined.student.named_parameters() if parameter.grad is not None}
    assert reached == {"head.weight", "head.bias"}


def test_what_no_term_reaches_is_named() -> None:
    joined = distiller({"hint": {"at": "middle"}})
    assert joined.probed
    assert joined.unreached == ["block3.conv.weight", "block3.norm.weight", "block3.norm.bias"]
    assert distiller("hard_labels").unreached == []


def test_an_objective_that_reaches_nothing_is_an_error() -> None:
    with pytest.raises(UserError, match="hint: no term reaches any parameter of the student"):
        distiller({"hint": {"at": {"student": "normalise", "teacher": "middle"}}})


@pytest.mark.parametrize(
    ("term", "line"),
    [
        ({"attention_transfer": {"at": "last"}}, "attention_transfer at last: "),
        ({"hint": {"at": {"student": "last", "teacher": "middle"}}}, "hint at last with middle: "),
        ({"flow_of_solution": {"at": "first"}}, "flow_of_solution at first: "),
    ],
)
def test_features_that_can_not_be_compared_are_refused_before_training(term: Any, line: str) -> None:
    with pytest.raises(UserError, match=line):
        distiller("hard_labels", term)


def test_the_discriminator_learns_and_its_loss_is_no_part_of_the_students(
    knowledge: tuple[Knowledge, Knowledge],
) -> None:
    one, _ = trained(PRESETS["adversarial"].terms, knowledge, epochs=30, batch=41)
    assert one.history[-1]["train/discriminator"] < one.history[0]["train/discriminator"]
    figures = one.figures
    total = figures["train/hard_labels"] + 0.1 * figures["train/adversarial"]
    assert figures["train/loss"] == pytest.approx(total, rel=1e-5)


def test_per_batch_values_on_validation_are_of_training_sized_batches(knowledge: tuple[Knowledge, Knowledge]) -> None:
    """Similarity scales as 1 / B: over one large batch it would not be comparable with training's."""
    objective = terms("hard_labels", {"similarity_preserving": {"at": "last"}})
    replica, _ = trained(objective, knowledge, epochs=1, batch=10)
    network = make_student()
    network.load_state_dict(replica.state)
    network.eval()
    from kdmodels.losses import similarity_preserving

    def value(rows: Tensor) -> float:
        embeddings = network.get_submodule("flatten")(
            nn.Sequential(*list(network.children())[:-1])(VALIDATION.images[rows])
        )
        return similarity_preserving(embeddings, knowledge[1].features["last"][rows].float()).item()

    expected = sum(value(rows) for rows in torch.arange(20).split(10)) / 2
    assert replica.figures["val/similarity_preserving"] == pytest.approx(expected, rel=1e-4)


def test_a_weight_rises_in_its_warm_up_and_counts_in_full_on_validation(knowledge: tuple[Knowledge, Knowledge]) -> None:
    objective = terms("hard_labels", {"logit_regression": {"weight": 2, "warmup": 0.5}})
    replica, _ = trained(objective, knowledge, epochs=4, batch=41, optimizer={"sgd": {"lr": 1e-9}})
    shares = [
        (figures["train/loss"] - figures["train/hard_labels"]) / figures["train/logit_regression"]
        for figures in replica.history
    ]
    assert shares == pytest.approx([2 * 0.125 / 0.5, 2 * 0.375 / 0.5, 2, 2], rel=1e-3)
    figures = replica.figures
    assert figures["val/loss"] == pytest.approx(
        figures["val/hard_labels"] + 2 * figures["val/logit_regression"], rel=1e-5
    )


def test_a_maps_regressor_matches_another_size() -> None:
    """The student's map is 4x4 and the teacher's 2x2: both are compared at 2x2."""
    joined = distiller("hard_labels", {"hint": {"at": {"student": "first", "teacher": "deepest"}}}).eval()
    images = torch.rand(5, 1, 8, 8)
    teacher = {"logits": torch.rand(5, 3), "deepest": torch.rand(5, 10, 2, 2)}
    _, values = joined(images, torch.zeros(5, dtype=torch.int64), teacher, torch.arange(5))
    maps = joined.student.get_submodule("block1")(joined.student.get_submodule("normalise")(images))
    (regressor,) = joined.own["hint"]  # type: ignore[misc]
    expected = (F.adaptive_avg_pool2d(regressor(maps), 2) - teacher["deepest"]).square().flatten(1).mean(dim=1)
    assert torch.allclose(values["hint"], expected, rtol=1e-5)
