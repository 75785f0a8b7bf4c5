"""An objective joined with a student: presets train, unreached parameters are named, the teacher does not change."""

import math
from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdmodels import losses
from kdmodels.data import Split
from kdmodels.errors import UserError
from kdmodels.experiment import Network, Recipe, Term
from kdmodels.experiment.catalogue import LOSSES
from kdmodels.experiment.presets import PRESETS
from kdmodels.knowledge import Knowledge, LiveTeacher, distil_knowledge
from kdmodels.networks import Ensemble, build, initialise
from kdmodels.randomness import generator_for
from kdmodels.training import Distiller, Replica, fit
from kdmodels.training.batches import Batch

SHAPE = {"input_shape": (1, 8, 8), "classes": 3, "mean": [0.5], "std": [0.25]}
ON_MAPS = ("attention", "nst", "fsp", "review", "ickd", "ab", "ofd")
PLACES = ["first", "middle", "deepest", "last"]
TEACHER_SHAPES = {"logits": (3,), "first": (6, 4, 4), "middle": (8, 2, 2), "deepest": (10, 2, 2), "last": (10,)}


def split(examples: int, purpose: str) -> Split:
    generator = generator_for(7, purpose)
    labels = torch.randint(3, (examples,), generator=generator)
    images = torch.rand(examples, 1, 8, 8, generator=generator) * 0.4 + labels.view(-1, 1, 1, 1) * 0.3
    return Split(images, labels)


TRAIN, VALIDATION = split(41, "train"), split(20, "validation")  # batches of 14, 14 and 13


def make_teacher() -> nn.Module:
    teacher = build(Network(conv=[6, 8, 10]), **SHAPE)
    initialise(teacher, generator_for(1, "teacher"))
    return teacher


def make_student() -> nn.Module:
    return build(Network(conv=[2, 3, 4]), **SHAPE)


@pytest.fixture(scope="module")
def knowledge() -> tuple[Knowledge, Knowledge]:
    teacher = make_teacher()
    train, validation = (distil_knowledge(teacher, part, PLACES) for part in (TRAIN, VALIDATION))
    return train, validation


def terms(*written: Any) -> list[Term]:
    return [Term.model_validate(term) for term in written]


def distiller(*written: Any, student: nn.Module | None = None) -> Distiller:
    network = make_student() if student is None else student
    return Distiller(
        network,
        terms(*written),
        Recipe(epochs=1, batch=16),
        input_shape=(1, 8, 8),
        teacher_shapes=TEACHER_SHAPES,
        labels=TRAIN.labels,
    )


def trained(
    objective: list[Term] | tuple[Term, ...], knowledge: Any, student: nn.Module | None = None, **recipe: Any
) -> list[Replica]:
    settings = Recipe.model_validate({"epochs": 2, "batch": 16, **recipe})
    network = make_student() if student is None else student
    return fit(network, objective, settings, TRAIN, VALIDATION, seeds=[0, 1], knowledge=knowledge)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains_and_reports_its_terms(name: str, knowledge: tuple[Knowledge, Knowledge]) -> None:
    for replica in trained(PRESETS[name].terms, knowledge):
        initial = make_student()
        initialise(initial, generator_for(replica.seed, "student"))
        assert replica.diverged is None
        assert replica.state.keys() == initial.state_dict().keys()
        for key, parameter in initial.named_parameters():
            assert not torch.equal(parameter, replica.state[key])
        for term in PRESETS[name].terms:
            assert f"train/{term.loss}" in replica.figures
            assert (f"val/{term.loss}" in replica.figures) is not LOSSES[term.loss].remembers


def naive_loop(name: str, seed: int, student: nn.Module, known: Knowledge, epochs: int, batch: int) -> tuple[Any, Any]:
    """Return the states of student and objective after a plain loop for one seed."""
    network = deepcopy(student)
    initialise(network, generator_for(seed, "student"))
    module: nn.Module = {
        "crd": lambda: losses.ContrastiveRepresentation(5, 6, TRAIN.labels, negatives=7, temperature=0.5),
        "vid": lambda: losses.VariationalInformation((5,), (12,)),
        "srd": lambda: losses.SimpleRecipe(5, 6),
        "adversarial": lambda: losses.Adversarial(3),
        "dkd": nn.Identity,
    }[name]()
    initialise(module, generator_for(seed, "own"))
    module.train()
    adversary = torch.optim.Adam(module.parameters(), lr=1e-3, betas=(0.5, 0.999)) if name == "adversarial" else None
    own = [] if adversary else list(module.parameters())
    optimizer = torch.optim.Adam([*network.parameters(), *own], lr=1e-3)
    steps, step = epochs * math.ceil(len(TRAIN) / batch), 0
    for epoch in range(1, epochs + 1):
        order = torch.randperm(len(TRAIN), generator=generator_for(seed, "order", epoch))
        draws = generator_for(seed, "objective.own.contrastive_representation.0.drawn", epoch)
        for rows in order.tensor_split(math.ceil(len(TRAIN) / batch)):
            embeddings = network[:-1](TRAIN.images[rows])  # type: ignore[index]
            logits = network[-1](embeddings)  # type: ignore[index]
            teacher = {at: features[rows].float() for at, features in known.features.items()}
            teacher_logits = known.logits[rows].float()
            loss = F.cross_entropy(logits, TRAIN.labels[rows])
            if name == "crd":
                module.drawn = module.draw(rows, draws)  # type: ignore[operator]
                loss = loss + 0.8 * module(embeddings, teacher["last"], rows).mean()
            elif name == "vid":
                loss = loss + module(embeddings, teacher["middle"]).mean()
            elif name == "srd":
                loss = loss + module(embeddings, teacher["last"])
            elif name == "adversarial":
                loss = loss + 0.1 * module(logits, teacher_logits).mean()
                own_loss = module.discriminator_loss(logits, teacher_logits).mean()  # type: ignore[operator]
            else:
                risen = min(1, (step + 0.5) / steps / (20 / 240))
                loss = loss + risen * losses.decoupled(logits, teacher_logits, TRAIN.labels[rows]).mean()
            optimizer.zero_grad()
            loss.backward()
            if adversary:
                adversary.zero_grad()
                own_loss.backward()
                adversary.step()
            optimizer.step()
            step += 1
    return network.state_dict(), module.state_dict()


@pytest.mark.parametrize("name", ["crd", "vid", "srd", "adversarial", "dkd"])
def test_objectives_with_parameters_equal_a_plain_loop(name: str) -> None:
    """Compare indices, draws and everything that is trained beside the student with a plain loop."""
    teacher, student = build(Network(mlp=[12, 6]), **SHAPE), build(Network(mlp=[5]), **SHAPE)
    initialise(teacher, generator_for(1, "teacher"))
    known = tuple(distil_knowledge(teacher, part, PLACES) for part in (TRAIN, VALIDATION))
    objective = PRESETS[name].published
    if name == "crd":
        objective = tuple(
            terms("hard_labels", {"contrastive_representation": {"weight": 0.8, "negatives": 7, "temperature": 0.5}})
        )
    replicas = fit(
        student,
        objective,
        Recipe(epochs=3, batch=16),
        TRAIN,
        VALIDATION,
        seeds=[0, 1],
        knowledge=known,  # type: ignore[arg-type]
    )
    for replica in replicas:
        state, own = naive_loop(name, replica.seed, student, known[0], epochs=3, batch=16)
        for key, tensor in state.items():
            torch.testing.assert_close(replica.state[key], tensor, rtol=1e-4, atol=1e-5)
        for key, tensor in own.items():
            prefix = next(iter(replica.own)).split(".")[0]
            place = "" if name == "adversarial" else "0."
            torch.testing.assert_close(replica.own[f"{prefix}.{place}{key}"], tensor, rtol=1e-4, atol=1e-5)
    if name != "dkd":
        one, other = (replica.own for replica in replicas)
        assert any(not torch.equal(one[key], other[key]) for key in one)


def test_a_regressor_is_built_only_if_widths_differ() -> None:
    assert "cosine_features" in distiller("hard_labels", "cosine_features").objective.own
    assert "flow_of_solution" in distiller("hard_labels", "flow_of_solution").objective.own
    same = build(Network(conv=[6, 8, 10]), **SHAPE)
    assert not distiller("hard_labels", "cosine_features", "flow_of_solution", student=same).objective.own


def test_a_loss_that_remembers_examples_has_no_value_on_validation(knowledge: tuple[Knowledge, Knowledge]) -> None:
    """The loss was once reported as 0."""
    for objective in (terms("contrastive_representation"), PRESETS["crd"].terms):
        replica, _ = trained(objective, knowledge)
        assert "train/loss" in replica.figures
        assert "val/loss" not in replica.figures


def test_a_weight_s_cosine_ends_near_zero(knowledge: tuple[Knowledge, Knowledge]) -> None:
    objective = terms("hard_labels", {"logit_regression": {"weight": 2, "cosine": True}})
    replica, _ = trained(objective, knowledge, epochs=4, batch=41, optimizer={"sgd": {"lr": 1e-9}})
    shares = [(f["train/loss"] - f["train/hard_labels"]) / f["train/logit_regression"] for f in replica.history]
    assert shares == pytest.approx([1 + math.cos(math.pi * (epoch + 0.5) / 4) for epoch in range(4)], rel=1e-3)


@pytest.mark.parametrize("term", ["similarity_preserving", "relational_distance"])
def test_batch_size_1_is_refused_if_examples_are_compared(term: str) -> None:
    student = build(Network(mlp=[5]), **SHAPE)
    shapes = {"logits": (3,), "last": (6,), "deepest": (6,)}
    with pytest.raises(UserError, match=f"batch: 1: {term} compares the examples of a batch"):
        Distiller(
            student,
            terms("hard_labels", term),
            Recipe(epochs=1, batch=1),
            input_shape=(1, 8, 8),
            teacher_shapes=shapes,
            labels=torch.arange(9) % 3,
        )
    with pytest.raises(UserError, match="batch: 1: batch norm"):
        Distiller(
            make_student(),
            terms("hard_labels"),
            Recipe(epochs=1, batch=1),
            input_shape=(1, 8, 8),
            teacher_shapes={},
            labels=torch.arange(9) % 3,
        )


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in ON_MAPS])
def test_presets_without_maps_train_equally_stacked_and_alone(name: str) -> None:
    """Replicas of an MLP are one stacked computation, and each equals a replica trained alone."""
    teacher, student = build(Network(mlp=[12, 6]), **SHAPE), build(Network(mlp=[5]), **SHAPE)
    initialise(teacher, generator_for(1, "teacher"))
    known = tuple(distil_knowledge(teacher, part, PLACES) for part in (TRAIN, VALIDATION))
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


def test_no_gradient_reaches_the_teachers_side() -> None:
    """The teacher's tensors require gradients here, and still get none from any term."""
    for preset in PRESETS.values():
        joined = distiller(*preset.terms).train()
        teacher = {name: torch.rand(6, *shape, requires_grad=True) for name, shape in TEACHER_SHAPES.items()}
        _, values = joined(Batch(torch.rand(6, 1, 8, 8), torch.arange(6) % 3, torch.arange(6), teacher, {}))
        sum(value.mean() for value in values.values()).backward()
        assert [name for name, tensor in teacher.items() if tensor.grad is not None] == []


def test_terms_on_features_alone_train_the_head_as_a_linear_probe(knowledge: tuple[Knowledge, Knowledge]) -> None:
    joined = distiller({"similarity_preserving": {"weight": 3000, "at": "last"}})
    assert joined.probed
    assert joined.unreached == []
    one, _ = trained(terms({"similarity_preserving": {"weight": 3000, "at": "last"}}), knowledge, epochs=12)
    assert one.history[-1]["train/probe"] < one.history[0]["train/probe"]
    assert one.figures["val/loss"] == pytest.approx(3000 * one.figures["val/similarity_preserving"], rel=1e-4)


def test_the_probe_s_gradient_ends_at_the_head() -> None:
    joined = distiller({"similarity_preserving": {"at": "last"}}).train()
    teacher = {name: torch.rand(6, *shape) for name, shape in TEACHER_SHAPES.items()}
    _, values = joined(Batch(torch.rand(6, 1, 8, 8), torch.arange(6) % 3, torch.arange(6), teacher, {}))
    values["probe"].mean().backward()
    reached = {name for name, parameter in joined.student.named_parameters() if parameter.grad is not None}
    assert reached == {"head.weight", "head.bias"}


def test_parameters_that_no_term_reaches_are_named() -> None:
    joined = distiller({"hint": {"at": "middle"}})
    assert joined.probed
    assert joined.unreached == ["block3.conv.weight", "block3.norm.weight", "block3.norm.bias"]
    assert distiller("hard_labels").unreached == []


@pytest.mark.parametrize("loss", ["hint", "similarity_preserving", "neuron_selectivity"])
@pytest.mark.parametrize("others", [[], ["hard_labels"]])
def test_a_term_that_trains_nothing_of_the_student_is_an_error(loss: str, others: list[str]) -> None:
    """A place without parameters before it once gave a value without a gradient function, and torch raised."""
    line = f"{loss} at normalise with deepest: trains no parameter of the student"
    with pytest.raises(UserError, match=line):
        distiller(*others, {loss: {"at": {"student": "normalise", "teacher": "deepest"}}})


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


def test_the_discriminator_learns_and_its_loss_is_not_part_of_the_students_loss(
    knowledge: tuple[Knowledge, Knowledge],
) -> None:
    one, _ = trained(PRESETS["adversarial"].terms, knowledge, epochs=30, batch=41)
    assert one.history[-1]["train/discriminator"] < one.history[0]["train/discriminator"]
    figures = one.figures
    total = figures["train/hard_labels"] + 0.1 * figures["train/adversarial"]
    assert figures["train/loss"] == pytest.approx(total, rel=1e-5)


def test_per_batch_values_on_validation_use_the_training_batch_size(knowledge: tuple[Knowledge, Knowledge]) -> None:
    """Batches mix the classes, because files are often sorted by class."""
    objective = terms("hard_labels", {"similarity_preserving": {"at": "last"}})
    replica, _ = trained(objective, knowledge, epochs=1, batch=10)
    network = make_student()
    network.load_state_dict(replica.state)
    network.eval()

    def value(rows: Tensor) -> float:
        embeddings = network.get_submodule("flatten")(
            nn.Sequential(*list(network.children())[:-1])(VALIDATION.images[rows])
        )
        return losses.similarity_preserving(embeddings, knowledge[1].features["last"][rows].float()).item()

    order = torch.randperm(20, generator=generator_for(0, "validation order"))
    expected = sum(value(rows) * 10 / 64 for rows in order.split(10)) / 2
    assert replica.figures["val/similarity_preserving"] == pytest.approx(expected, rel=1e-4)


def test_per_batch_values_on_validation_do_not_depend_on_the_order_of_classes() -> None:
    """In file order, most batches held one class only."""
    objective = terms("hard_labels", {"similarity_preserving": {"at": "last"}}, {"relational_distance": {"at": "last"}})
    validation = split(240, "validation")
    by_class = Split(*(part[validation.labels.argsort(stable=True)] for part in (validation.images, validation.labels)))
    figures = []
    for part in (validation, by_class):
        known = tuple(distil_knowledge(make_teacher(), one, PLACES) for one in (TRAIN, part))
        (replica,) = fit(make_student(), objective, Recipe(epochs=2, batch=20), TRAIN, part, seeds=[3], knowledge=known)
        figures.append(replica.figures)
        network = make_student()
        network.load_state_dict(replica.state)
        assert torch.equal(
            replica.is_correct, network.eval()(part.images).argmax(1) == part.labels
        )  # in the split's order
    for loss in ("similarity_preserving", "relational_distance"):
        assert figures[0][f"val/{loss}"] == pytest.approx(figures[1][f"val/{loss}"], rel=0.1)
    assert figures[0]["val/accuracy"] == figures[1]["val/accuracy"]


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
    """A student's map of 4x4 is compared with a teacher's map of 2x2 at 2x2."""
    joined = distiller("hard_labels", {"hint": {"at": {"student": "first", "teacher": "deepest"}}}).eval()
    images = torch.rand(5, 1, 8, 8)
    teacher = {"logits": torch.rand(5, 3), "deepest": torch.rand(5, 10, 2, 2)}
    _, values = joined(Batch(images, torch.zeros(5, dtype=torch.int64), torch.arange(5), teacher, {}))
    maps = joined.student.get_submodule("block1")(joined.student.get_submodule("normalise")(images))
    (regressor,) = joined.objective.own["hint"]  # type: ignore[misc]
    expected = (F.adaptive_avg_pool2d(regressor(maps), 2) - teacher["deepest"]).square().flatten(1).mean(dim=1)
    assert torch.allclose(values["hint"], expected, rtol=1e-5)


@pytest.mark.parametrize(("term", "joined"), [
    ({"soft_targets": {"temperature": 3}}, lambda z: losses.ensemble_logits(z, temperature=3.0)),
    ({"decoupled": {"temperature": 2}}, lambda z: losses.ensemble_logits(z, temperature=2.0)),
    ("logit_regression", lambda z: z.mean(dim=1)),
    ("adversarial", lambda z: z.mean(dim=1)),
], ids=["soft_targets", "decoupled", "logit_regression", "adversarial"])  # fmt: skip
def test_an_ensemble_equals_one_teacher_at_the_terms_temperature(term: Any, joined: Any) -> None:
    members = torch.randn(4, 3, 3, generator=generator_for(3, "members"))
    images, labels, indices = VALIDATION.batch(torch.arange(4)), VALIDATION.labels[:4], torch.arange(4)
    objective = distiller(term)
    _, values = objective(Batch(images, labels, indices, {"logits": members}, {}))
    _, expected = objective(Batch(images, labels, indices, {"logits": joined(members)}, {}))
    assert list(values) == list(expected)
    for name, value in values.items():
        torch.testing.assert_close(value, expected[name])


@pytest.mark.parametrize("loss", [name for name in LOSSES if LOSSES[name].needs in ("logits", "logits and labels")])
def test_an_ensemble_of_two_equal_teachers_equals_that_teacher(loss: str) -> None:
    images, labels, indices = VALIDATION.batch(torch.arange(4)), VALIDATION.labels[:4], torch.arange(4)
    alone = 5 + 3 * torch.randn(4, 3, generator=generator_for(3, "alone"))
    objective = distiller(loss)
    _, expected = objective(Batch(images, labels, indices, {"logits": alone}, {}))
    _, values = objective(Batch(images, labels, indices, {"logits": torch.stack([alone, alone], dim=1)}, {}))
    for name, value in values.items():
        torch.testing.assert_close(value, expected[name])


@pytest.mark.parametrize("live", [False, True])
def test_replicas_learn_from_an_ensemble_stored_or_live(live: bool) -> None:
    network, objective = build(Network(mlp=[8]), **SHAPE), terms("hard_labels", "soft_targets", "logit_regression")
    teacher = Ensemble([make_teacher(), make_teacher()])
    given = [LiveTeacher(teacher)] * 2 if live else [distil_knowledge(teacher, part) for part in (TRAIN, VALIDATION)]
    one = [distil_knowledge(make_teacher(), part) for part in (TRAIN, VALIDATION)]
    for replica, other in zip(trained(objective, given, network), trained(objective, one, network), strict=True):
        assert len(replica.history) == 2
        assert replica.figures["val/loss"] == pytest.approx(other.figures["val/loss"], rel=1e-3)  # two alike are one
