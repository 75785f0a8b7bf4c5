"""Training equals a plain loop and one seed at a time, and uses no global state."""

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from kdmodels.data import Split
from kdmodels.errors import UserError
from kdmodels.experiment import Network, Recipe, Term
from kdmodels.knowledge import Knowledge, distil_knowledge
from kdmodels.losses import regressor
from kdmodels.networks import build, find_tap, initialise
from kdmodels.networks.layers import Dropout
from kdmodels.randomness import generator_for
from kdmodels.training import Replica, fit, stack

SHAPE = {"input_shape": (1, 4, 4), "classes": 3, "mean": [0.5], "std": [0.25]}
KD = [
    Term(loss="hard_labels", weight=0.1),
    Term(loss="soft_targets", weight=0.9, hyperparameters={"temperature": 4.0}),
]
HINT = [Term(loss="hard_labels"), Term(loss="hint", weight=2.0)]


def split(examples: int, purpose: str) -> Split:
    generator = generator_for(7, purpose)
    labels = torch.randint(3, (examples,), generator=generator)
    images = torch.rand(examples, 1, 4, 4, generator=generator) * 0.4 + labels.view(-1, 1, 1, 1) * 0.3
    return Split(images, labels)


TRAIN, VALIDATION = split(50, "train"), split(20, "validation")  # 50 are 4 batches of at most 16, of 13 or 12
STUDENT = build(Network(mlp=[5]), **SHAPE)


@pytest.fixture(scope="module")
def knowledge() -> tuple[Knowledge, Knowledge]:
    teacher = build(Network(mlp=[8, 6]), **SHAPE)
    initialise(teacher, generator_for(1, "teacher"))
    train, validation = (distil_knowledge(teacher, part, ["middle"]) for part in (TRAIN, VALIDATION))
    return train, validation


def trained(
    terms: Sequence[Term], seeds: Sequence[int], knowledge: tuple[Knowledge, Knowledge] | None, **recipe: object
) -> list[Replica]:
    settings = Recipe.model_validate({"epochs": 3, "batch": 16, **recipe})
    return fit(STUDENT, terms, settings, TRAIN, VALIDATION, seeds=seeds, knowledge=knowledge)


def plain_loop(seed: int, knowledge: Knowledge) -> dict[str, Tensor]:
    """Train by a plain loop with torch's modules, losses and optimizer."""
    network = build(Network(mlp=[5]), **SHAPE)
    initialise(network, generator_for(seed, "student"))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for epoch in (1, 2, 3):
        order = torch.randperm(len(TRAIN), generator=generator_for(seed, "order", epoch))
        for rows in order.tensor_split(4):
            logits = network(TRAIN.images[rows])
            teacher = knowledge.logits[rows].float()
            soft = F.kl_div(F.log_softmax(logits / 4, 1), F.softmax(teacher / 4, 1), reduction="batchmean") * 16
            loss = 0.1 * F.cross_entropy(logits, TRAIN.labels[rows]) + 0.9 * soft
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 0.0) -> bool:
    return one.keys() == other.keys() and all(
        torch.allclose(one[name], other[name], rtol=tolerance, atol=tolerance) for name in one
    )


def test_stacked_replicas_equal_a_plain_loop(knowledge: tuple[Knowledge, Knowledge]) -> None:
    for replica in trained(KD, [3, 4], knowledge):
        assert same(replica.state, plain_loop(replica.seed, knowledge[0]), tolerance=1e-5)


@pytest.mark.parametrize("terms", [KD, HINT], ids=["kd", "hint"])
def test_a_replica_is_the_same_alone_and_among_others(
    terms: list[Term], knowledge: tuple[Knowledge, Knowledge]
) -> None:
    together = trained(terms, [0, 1, 2], knowledge)
    alone = trained(terms, [1], knowledge)
    assert same(together[1].state, alone[0].state, tolerance=1e-5)
    assert not same(together[0].state, together[1].state, tolerance=1e-2)


@pytest.mark.parametrize("terms", [KD, HINT], ids=["kd", "hint"])
def test_three_seeds_and_two_seeds_equal_five_seeds_up_to_rounding(
    terms: list[Term], knowledge: tuple[Knowledge, Knowledge]
) -> None:
    """Kernels round differently at the ends of arrays, which depend on the stack's size."""
    extended = [*trained(terms, [0, 1, 2], knowledge, epochs=20), *trained(terms, [3, 4], knowledge, epochs=20)]
    for one, other in zip(extended, trained(terms, range(5), knowledge, epochs=20), strict=True):
        assert one.seed == other.seed
        for name in one.state:
            torch.testing.assert_close(one.state[name], other.state[name], rtol=0, atol=1e-5)
        assert one.figures == pytest.approx(other.figures, rel=1e-5, abs=1e-5)
        assert torch.equal(one.is_correct, other.is_correct)


def test_two_fits_are_bit_identical_also_in_concurrent_threads(knowledge: tuple[Knowledge, Knowledge]) -> None:
    torch.manual_seed(0)
    first = trained(KD, [0, 1], knowledge)
    with ThreadPoolExecutor(2) as pool:
        again = list(pool.map(lambda _: trained(KD, [0, 1], knowledge), range(2)))
    for replicas in again:
        assert [replica.history for replica in replicas] == [replica.history for replica in first]
        assert all(same(one.state, other.state) for one, other in zip(replicas, first, strict=True))


def test_global_randomness_is_neither_read_nor_changed(knowledge: tuple[Knowledge, Knowledge]) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = trained(KD, [0], knowledge)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert same(trained(KD, [0], knowledge)[0].state, first[0].state)


def test_the_network_argument_keeps_its_weights(knowledge: tuple[Knowledge, Knowledge]) -> None:
    before = {name: tensor.clone() for name, tensor in STUDENT.state_dict().items()}
    trained(KD, [0], knowledge)
    assert same(STUDENT.state_dict(), before)


def test_every_term_is_reported_and_the_loss_is_their_sum(knowledge: tuple[Knowledge, Knowledge]) -> None:
    (replica,) = trained(KD, [0], knowledge)
    for figures in replica.history:
        for part in ("train", "val"):
            whole = 0.1 * figures[f"{part}/hard_labels"] + 0.9 * figures[f"{part}/soft_targets"]
            assert figures[f"{part}/loss"] == pytest.approx(whole, rel=1e-5)


def test_validation_figures_are_those_of_the_stored_weights(knowledge: tuple[Knowledge, Knowledge]) -> None:
    (replica,) = trained(KD, [0], knowledge)
    network = build(Network(mlp=[5]), **SHAPE)
    network.load_state_dict(replica.state)
    logits = network.eval()(VALIDATION.images)
    assert replica.figures["val/accuracy"] == pytest.approx((logits.argmax(1) == VALIDATION.labels).float().mean())
    assert replica.figures["val/hard_labels"] == pytest.approx(F.cross_entropy(logits, VALIDATION.labels).item())


def test_best_validation_keeps_the_first_of_the_best_epochs() -> None:
    (replica,) = trained([Term(loss="hard_labels")], [0], None, epochs=12, select="best-validation")
    accuracies = [figures["val/accuracy"] for figures in replica.history]
    assert replica.epoch == 1 + accuracies.index(max(accuracies))
    assert len(replica.history) == 12


def test_the_regressor_is_trained_and_stays_out_of_the_student(knowledge: tuple[Knowledge, Knowledge]) -> None:
    (replica,) = trained(HINT, [0], knowledge, epochs=30)
    assert replica.state.keys() == STUDENT.state_dict().keys()
    assert replica.history[-1]["train/hint"] < 0.7 * replica.history[0]["train/hint"]


def test_a_replica_that_diverges_leaves_the_others_as_they_are(
    monkeypatch: pytest.MonkeyPatch, knowledge: tuple[Knowledge, Knowledge]
) -> None:
    whole = trained(KD, [0, 1], knowledge)
    poisoned = generator_for(1, "student").initial_seed()

    def broken(network: nn.Module, generator: torch.Generator, *, fan_out: bool = False) -> None:
        initialise(network, generator, fan_out=fan_out)
        if generator.initial_seed() == poisoned:
            nn.init.constant_(network.head.weight, float("nan"))  # type: ignore[union-attr, arg-type]

    monkeypatch.setattr(stack, "initialise", broken)
    good, bad = trained(KD, [0, 1], knowledge)
    assert (good.diverged, bad.diverged) == (None, 1)
    assert same(good.state, whole[0].state)


def test_the_first_term_that_diverged_is_named(knowledge: tuple[Knowledge, Knowledge]) -> None:
    teacher = build(Network(mlp=[8, 6]), **SHAPE)
    nn.init.constant_(teacher.head.weight, 1e30)  # type: ignore[union-attr, arg-type]
    loud = (distil_knowledge(teacher, TRAIN), distil_knowledge(teacher, VALIDATION))
    one, other = trained([Term(loss="hard_labels"), Term(loss="logit_regression")], [0, 1], loud)
    assert (one.diverged, one.culprits) == (other.diverged, other.culprits) == (1, ["logit_regression"])
    fine = trained(KD, [0], knowledge)
    assert fine[0].culprits == []


def test_training_ends_when_every_replica_has_diverged() -> None:
    (replica,) = trained([Term(loss="hard_labels", weight=1e38)], [0], None, epochs=50, optimizer={"sgd": {"lr": 1e38}})
    assert replica.diverged is not None
    assert len(replica.history) == replica.diverged < 50


def test_dropout_is_a_function_of_the_seed_and_off_in_validation() -> None:
    network = build(Network(mlp=[50], dropout=0.5), **SHAPE)
    recipe = Recipe(epochs=2, batch=16)
    terms = [Term(loss="hard_labels")]
    first, again = (fit(network, terms, recipe, TRAIN, VALIDATION, seeds=[0, 1]) for _ in range(2))
    (plain,) = fit(build(Network(mlp=[50]), **SHAPE), terms, recipe, TRAIN, VALIDATION, seeds=[0])
    assert [replica.history for replica in first] == [replica.history for replica in again]
    assert first[0].history[0]["train/loss"] != pytest.approx(plain.history[0]["train/loss"], rel=1e-3)
    rebuilt = build(Network(mlp=[50], dropout=0.5), **SHAPE)
    rebuilt.load_state_dict(first[0].state)
    value = F.cross_entropy(rebuilt.eval()(VALIDATION.images), VALIDATION.labels).item()
    assert first[0].figures["val/loss"] == pytest.approx(value, rel=1e-5)


def test_an_exception_of_on_step_ends_the_training() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(STUDENT, [Term(loss="hard_labels")], Recipe(epochs=1), TRAIN, VALIDATION, seeds=[0], on_step=stop)


@pytest.mark.parametrize(
    "optimizer", [{"adam": {"lr": 1e-2}}, {"adamw": {"lr": 1e-2}}, {"sgd": {"lr": 0.1, "momentum": 0.9}}]
)
@pytest.mark.parametrize("schedule", [None, {"cosine": {"warmup": 1}}, {"step": {"at": [5], "factor": 0.1}}])
def test_every_optimizer_and_schedule_learns(optimizer: dict[str, object], schedule: dict[str, object] | None) -> None:
    (replica,) = trained([Term(loss="hard_labels")], [0], None, epochs=10, optimizer=optimizer, schedule=schedule)
    assert replica.history[-1]["train/loss"] < 0.8 * replica.history[0]["train/loss"]


@pytest.mark.parametrize("batch", [49, 7, 50, 60])
def test_a_last_batch_of_one_does_not_meet_batch_norm(batch: int, knowledge: tuple[Knowledge, Knowledge]) -> None:
    (replica,) = trained(HINT, [0], knowledge, batch=batch)
    assert replica.diverged is None
    with pytest.raises(UserError, match="batch: 1"):
        trained(HINT, [0], knowledge, batch=1)


def test_a_last_step_that_explodes_is_a_divergence() -> None:
    """Divergence was once detected by train/loss only, which is computed before the step."""
    recipe = {"epochs": 1, "batch": 50, "optimizer": {"sgd": {"lr": 1e38}}}
    (replica,) = trained([Term(loss="hard_labels", weight=1e3)], [0], None, **recipe)
    assert replica.diverged == 1


def test_a_term_with_a_teacher_needs_knowledge() -> None:
    with pytest.raises(UserError, match="soft_targets: compares with a teacher, but `knowledge` is None"):
        trained(KD, [0], None)


def one_step(terms: Sequence[Term], knowledge: tuple[Knowledge, Knowledge]) -> Replica:
    """Train one epoch at a learning rate so small that the weights stay the initial weights."""
    return trained(terms, [0], knowledge, epochs=1, optimizer={"sgd": {"lr": 1e-12}})[0]


def features(network: nn.Module, at: str, images: Tensor) -> Tensor:
    with find_tap(network, at).on(network) as caught, torch.no_grad():
        network(images)
    return caught[0]


def test_metrics_are_means_over_the_examples_with_each_splits_knowledge(
    monkeypatch: pytest.MonkeyPatch, knowledge: tuple[Knowledge, Knowledge]
) -> None:
    monkeypatch.setattr(stack, "BATCH", 7)  # three validation batches, one partial
    replica = one_step(KD, knowledge)
    network = build(Network(mlp=[5]), **SHAPE)
    network.load_state_dict(replica.state)
    for name, part, known in (("train", TRAIN, knowledge[0]), ("val", VALIDATION, knowledge[1])):
        logits = network.eval()(part.images)
        assert replica.figures[f"{name}/hard_labels"] == pytest.approx(
            F.cross_entropy(logits, part.labels).item(), rel=1e-5
        )
        log_q, p = F.log_softmax(logits / 4, 1), F.softmax(known.logits.float() / 4, 1)
        value = 16 * F.kl_div(log_q, p, reduction="batchmean").item()
        assert replica.figures[f"{name}/soft_targets"] == pytest.approx(value, rel=1e-4)


def test_each_pair_of_places_is_compared_student_with_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    """If regressors only cut to the teacher's width, a pair's value is a plain mean square."""

    class Cut(nn.Module):
        def __init__(self, student_shape: tuple[int, ...], teacher_shape: tuple[int, ...]) -> None:
            super().__init__()
            self.width = teacher_shape[0]

        def forward(self, features: Tensor) -> Tensor:
            return features[:, : self.width]

    monkeypatch.setattr(regressor, "HintRegressor", Cut)
    teacher = build(Network(mlp=[4, 3]), **SHAPE)
    known = tuple(distil_knowledge(teacher, part, ["block1", "last"]) for part in (TRAIN, VALIDATION))
    at = [{"student": "block1", "teacher": "last"}, {"student": "last", "teacher": "block1"}]
    term = Term.model_validate({"hint": {"weight": 1, "at": at}})
    replica = one_step([Term(loss="hard_labels"), term], known)  # type: ignore[arg-type]
    student = build(Network(mlp=[5]), **SHAPE)
    student.load_state_dict(replica.state)
    expected = sum(
        F.mse_loss(
            features(student, student_place, VALIDATION.images)[:, :width], known[1].features[teacher_place].float()
        ).item()
        for student_place, teacher_place, width in (("block1", "last", 3), ("last", "block1", 4))
    )
    assert replica.figures["val/hint"] == pytest.approx(expected, rel=1e-5)


def test_dropout_keeps_its_share_and_the_expectation() -> None:
    layer = Dropout(0.2, 400)
    keep = layer.draw(torch.arange(500), generator_for(0, "dropout", 1))
    assert keep.mean().item() == pytest.approx(0.8, abs=0.005)
    output = functional_call(layer.train(), {"drawn": keep}, (torch.ones(500, 400),))
    assert output.mean().item() == pytest.approx(1.0, abs=0.006)
    assert torch.equal(layer.eval()(torch.ones(2, 400)), torch.ones(2, 400))


def test_the_learning_rate_follows_the_schedule_in_epochs() -> None:
    """Under plain SGD with one fixed gradient direction, steps have the lengths of the schedule."""
    schedule = {"step": {"at": [2], "factor": 1e-9}}
    two, four = (
        trained([Term(loss="hard_labels")], [0], None, epochs=n, schedule=schedule, optimizer={"sgd": {"lr": 0.1}})[0]
        for n in (2, 4)
    )
    assert same(two.state, four.state, tolerance=1e-6)
    cosine = trained([Term(loss="hard_labels")], [0], None, epochs=4, schedule={"cosine": {}})[0]
    late = [abs(b["val/loss"] - a["val/loss"]) for a, b in itertools.pairwise(cosine.history)]
    assert late[-1] < 0.35 * late[0]
