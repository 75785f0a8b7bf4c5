"""Every field of a recipe against the loop that everybody would write for one network."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdmodels.data import Split
from kdmodels.experiment import Network, Recipe, Term
from kdmodels.knowledge import distil_knowledge
from kdmodels.networks import build, initialise
from kdmodels.randomness import generator_for
from kdmodels.training import Replica, fit

SHAPE = {"input_shape": (1, 4, 4), "classes": 3, "mean": [0.5], "std": [0.25]}
LABELS = [Term(loss="hard_labels")]
EPOCHS, BATCH = 6, 16


def split(examples: int, purpose: str) -> Split:
    """Images of three classes, of which the first is rare."""
    generator = generator_for(7, purpose)
    labels = torch.randint(7, (examples,), generator=generator).add(1) // 3
    images = torch.rand(examples, 1, 4, 4, generator=generator) * 0.4 + labels.view(-1, 1, 1, 1) * 0.3
    return Split(images, labels)


TRAIN, VALIDATION = split(50, "train"), split(20, "validation")
STEPS = EPOCHS * 4  # batches of 13, 13, 12 and 12


def network() -> nn.Sequential:
    return build(Network(mlp=[5]), **SHAPE)


def trained(seeds: list[int], terms: list[Term] = LABELS, **recipe: Any) -> list[Replica]:
    settings = Recipe.model_validate({"epochs": EPOCHS, "batch": BATCH, **recipe})
    return fit(network(), terms, settings, TRAIN, VALIDATION, seeds=seeds)


def same(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 0.0) -> bool:
    return one.keys() == other.keys() and all(
        torch.allclose(one[name], other[name], rtol=tolerance, atol=tolerance) for name in one
    )


def one_cycle(step: int) -> float:
    """From 1 / 25 up to 1 at 30 % of the training, then down to 1 / 250,000, along cosines."""
    done = (step + 0.5) / STEPS
    if done < 0.3:
        return 1 - (1 - 1 / 25) * (1 + np.cos(np.pi * done / 0.3)) / 2
    return 1 / 250_000 + (1 - 1 / 250_000) * (1 + np.cos(np.pi * (done - 0.3) / 0.7)) / 2


def warm_up(step: int) -> float:
    return min(1.0, (step + 0.5) / 8)


def warm_steps(step: int) -> float:
    return warm_up(step) * (0.1 if step >= 12 else 1.0)


def limit_units(matrices: list[nn.Parameter], largest: float) -> None:
    for matrix in matrices:
        for unit in matrix.data:
            length = sum(float(weight) ** 2 for weight in unit) ** 0.5
            if length > largest:
                unit *= largest / length


def plain_loop(
    seed: int,
    rate: Any = lambda step: 1.0,
    clip: float | None = None,
    ema: float | None = None,
    decay: bool | None = None,
    weights: bool = False,
    max_norm: float | None = None,
) -> dict[str, Tensor]:
    """One network, torch's own optimiser and clipping; `decay`: whether biases too, None: nothing decays."""
    net = network()
    initialise(net, generator_for(seed, "student"))
    matrices = [parameter for name, parameter in net.named_parameters() if name.endswith("weight")]
    biases = [parameter for name, parameter in net.named_parameters() if name.endswith("bias")]
    groups = [{"params": matrices, "weight_decay": 0.0 if decay is None else 0.1}]
    groups += [{"params": biases, "weight_decay": 0.1 if decay else 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    kept = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    counts = np.bincount(TRAIN.labels.numpy())
    class_weights = torch.tensor(len(TRAIN) / (3 * counts), dtype=torch.float32)
    step = 0
    for epoch in range(1, EPOCHS + 1):
        order = torch.randperm(len(TRAIN), generator=generator_for(seed, "order", epoch))
        for rows in order.tensor_split(4):
            for group in optimizer.param_groups:
                group["lr"] = 0.01 * rate(step)
            values = F.cross_entropy(net(TRAIN.images[rows]), TRAIN.labels[rows], reduction="none")
            if weights:
                values = values * class_weights[TRAIN.labels[rows]]
            optimizer.zero_grad()
            values.mean().backward()
            if clip:
                nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
            if max_norm:
                limit_units(matrices, max_norm)
            if ema:
                share = min(ema, (1 + step) / (10 + step))
                kept = {name: share * kept[name] + (1 - share) * now for name, now in net.state_dict().items()}
            step += 1
    return kept if ema else net.state_dict()


ADAMW = {"adamw": {"lr": 0.01, "weight_decay": 0.0}}
DECAYING = {"adamw": {"lr": 0.01, "weight_decay": 0.1}}


@pytest.mark.parametrize(("recipe", "plain"), [
    ({"schedule": {"one_cycle": {}}}, {"rate": one_cycle}),
    ({"schedule": {"constant": {"warmup": 2}}}, {"rate": warm_up}),
    ({"schedule": {"step": {"at": [3], "factor": 0.1, "warmup": 2}}}, {"rate": warm_steps}),
    ({"clip": 0.3}, {"clip": 0.3}),
    ({"max_norm": 0.4}, {"max_norm": 0.4}),
    ({"ema": 0.5}, {"ema": 0.5}),
    ({"ema": 0.9}, {"ema": 0.9}),
    ({"optimizer": DECAYING}, {"decay": False}),
    ({"optimizer": DECAYING, "decay_norms": True}, {"decay": True}),
    ({"balance": "weights"}, {"weights": True}),
    ({"optimizer": DECAYING, "schedule": {"one_cycle": {}}, "clip": 0.3, "ema": 0.9, "balance": "weights",
      "max_norm": 0.5},
     {"decay": False, "rate": one_cycle, "clip": 0.3, "ema": 0.9, "weights": True, "max_norm": 0.5}),
], ids=["one_cycle", "constant", "step", "clip", "max_norm", "ema", "slower", "decay", "all decay", "weights",
        "all"])  # fmt: skip
def test_stacked_replicas_equal_a_plain_loop(recipe: dict[str, Any], plain: dict[str, Any]) -> None:
    bare = plain_loop(4)
    for replica in trained([3, 4], **{"optimizer": ADAMW, **recipe}):
        assert same(replica.state, plain_loop(replica.seed, **plain), tolerance=1e-5)
    assert not same(replica.state, bare, tolerance=1e-3)  # the field matters at this size


def test_the_measured_weights_are_the_averaged_ones() -> None:
    (replica,) = trained([0], ema=0.9, optimizer={"sgd": {"lr": 0.5}})
    net = network()
    net.load_state_dict(replica.state)
    logits = net.eval()(VALIDATION.images)
    assert replica.figures["val/loss"] == pytest.approx(F.cross_entropy(logits, VALIDATION.labels).item(), rel=1e-5)
    assert replica.figures["val/accuracy"] == pytest.approx((logits.argmax(1) == VALIDATION.labels).float().mean())


def test_averaged_weights_are_kept_with_averaged_statistics() -> None:
    """Beside the last step's running statistics, averaged weights were measured up to two points too low."""
    recipe = {"epochs": 2, "batch": BATCH}
    nets = [build(Network(conv=[3]), **SHAPE) for _ in range(2)]
    (averaged,), (raw,) = (
        fit(net, LABELS, Recipe.model_validate(recipe | extra), TRAIN, VALIDATION, seeds=[0])
        for net, extra in zip(nets, ({"ema": 0.9}, {}), strict=True)
    )
    assert not torch.allclose(averaged.state["head.weight"], raw.state["head.weight"], rtol=1e-4)
    for name in ("running_mean", "running_var"):
        assert not torch.equal(averaged.state[f"block1.norm.{name}"], raw.state[f"block1.norm.{name}"])
    count = "block1.norm.num_batches_tracked"
    assert torch.equal(averaged.state[count], raw.state[count])


def test_drawing_classes_alike_is_a_function_of_seed_and_epoch() -> None:
    first, again = (trained([0, 1], balance="sampling") for _ in range(2))
    plain = trained([0, 1])
    for one, other, bare in zip(first, again, plain, strict=True):
        assert one.history == other.history
        assert one.history != bare.history


def test_a_stack_of_one_seed_draws_as_among_others() -> None:
    together, alone = (
        trained([0, 1], balance="sampling", clip=0.3, ema=0.9),
        trained([1], balance="sampling", clip=0.3, ema=0.9),
    )
    assert same(together[1].state, alone[0].state, tolerance=1e-5)


def test_validation_figures_are_not_weighted() -> None:
    (replica,) = trained([0], balance="weights")
    net = network()
    net.load_state_dict(replica.state)
    value = F.cross_entropy(net.eval()(VALIDATION.images), VALIDATION.labels).item()
    assert replica.figures["val/loss"] == pytest.approx(value, rel=1e-5)


def naive_patience(accuracies: list[float], patience: int) -> int:
    """How many epochs a run has that waits so long for a better one."""
    best, since = -1.0, 0
    for epoch, accuracy in enumerate(accuracies, start=1):
        best, since = (accuracy, 0) if accuracy > best else (best, since + 1)
        if since == patience:
            return epoch
    return len(accuracies)


@pytest.mark.parametrize(("shape", "lr"), [({"mlp": [5]}, 0.05), ({"conv": [4]}, 0.5)], ids=["stacked", "alone"])
def test_each_replica_ends_by_itself_and_the_others_go_on(shape: dict[str, list[int]], lr: float) -> None:
    net = build(Network.model_validate(shape), **SHAPE)
    recipe = {"epochs": 30, "batch": BATCH, "select": "best-validation", "optimizer": {"sgd": {"lr": lr}}}
    seeds, seen = [0, 1, 2, 3], []

    def fitted(**extra: Any) -> list[Replica]:
        settings = Recipe.model_validate(recipe | extra)
        return fit(net, LABELS, settings, TRAIN, VALIDATION, seeds=seeds, on_epoch=lambda epoch, _: seen.append(epoch))

    whole = fitted()
    seen.clear()
    ended = fitted(patience=3)
    lengths = [naive_patience([f["val/accuracy"] for f in replica.history], 3) for replica in whole]
    assert [len(replica.history) for replica in ended] == lengths
    assert len(set(lengths)) > 1  # they do end apart
    assert max(lengths) < 30
    assert seen == list(range(1, max(lengths) + 1))
    for one, other in zip(ended, whole, strict=True):
        assert one.history == other.history[: len(one.history)]
        assert one.epoch <= len(one.history)
        assert one.figures["val/accuracy"] == max(figures["val/accuracy"] for figures in one.history)


def test_patience_ends_a_replica_that_diverged() -> None:
    recipe = {"select": "best-validation", "patience": 2, "epochs": 50, "optimizer": {"sgd": {"lr": 1e38}}}
    (replica,) = trained([0], [Term(loss="hard_labels", weight=1e38)], **recipe)
    assert replica.diverged is not None
    assert len(replica.history) < 50


@pytest.mark.parametrize("every", [2, 4, 5, 100])
@pytest.mark.parametrize(("shape", "lr"), [({"mlp": [5]}, 0.05), ({"conv": [4]}, 0.5)], ids=["stacked", "alone"])
def test_only_some_epochs_are_validated_and_the_training_is_the_same(
    shape: dict[str, list[int]], lr: float, every: int
) -> None:
    net = build(Network.model_validate(shape), **SHAPE)
    recipe = {"epochs": 11, "batch": BATCH, "optimizer": {"sgd": {"lr": lr}}}
    validated = [epoch for epoch in range(1, 12) if epoch % every == 0 or epoch == 11]

    def fitted(every: int, **extra: Any) -> list[Replica]:
        settings = Recipe.model_validate(recipe | extra)
        return fit(net, LABELS, settings, TRAIN, VALIDATION, seeds=[0, 1], validate_every=every)

    for one, whole in zip(fitted(every), fitted(1), strict=True):
        assert same(one.state, whole.state)
        assert torch.equal(one.is_correct, whole.is_correct)
        assert [epoch for epoch, figures in enumerate(one.history, 1) if "val/accuracy" in figures] == validated
        assert one.figures == whole.figures
        for epoch, (figures, complete) in enumerate(zip(one.history, whole.history, strict=True), 1):
            is_same = epoch in validated
            assert figures == {name: value for name, value in complete.items() if is_same or name.startswith("train/")}
    for one, whole in zip(fitted(every, select="best-validation"), fitted(1), strict=True):
        best = max(validated, key=lambda epoch: (whole.history[epoch - 1]["val/accuracy"], -epoch))
        assert (one.epoch, one.figures) == (best, whole.history[best - 1])
        assert one.is_correct.double().mean().item() == one.figures["val/accuracy"]
    patient = fitted(every, select="best-validation", patience=1)
    for one, whole in zip(patient, fitted(1), strict=True):
        accuracies = [whole.history[epoch - 1]["val/accuracy"] for epoch in validated]
        assert len(one.history) == validated[naive_patience(accuracies, 1) - 1]


def test_patience_counts_the_epochs_that_are_not_validated() -> None:
    """With 4 epochs between validations, a patience of 5 ends the training at the second validation without a gain."""
    recipe = {"epochs": 40, "batch": BATCH, "select": "best-validation", "optimizer": {"sgd": {"lr": 1e-12}}}
    (replica,) = fit(
        network(), LABELS, Recipe.model_validate(recipe | {"patience": 5}), TRAIN, VALIDATION, seeds=[0],
        validate_every=4,
    )  # fmt: skip
    assert (replica.epoch, len(replica.history)) == (4, 12)


def test_a_training_that_diverged_ends_at_the_next_validation() -> None:
    recipe = Recipe.model_validate({"epochs": 20, "batch": BATCH, "optimizer": {"sgd": {"lr": 1e38}}})
    terms = [Term(loss="hard_labels", weight=1e38)]
    for replica in fit(network(), terms, recipe, TRAIN, VALIDATION, seeds=[0, 1], validate_every=6):
        assert replica.diverged == 1
        assert len(replica.history) == 6
        assert "val/accuracy" in replica.figures


def test_bfloat16_trains_float32_weights_and_is_measured_in_float32() -> None:
    (half,), (whole,) = trained([0], precision="bfloat16"), trained([0])
    assert all(tensor.dtype == torch.float32 for tensor in half.state.values())
    assert same(half.state, whole.state, tolerance=0.05)
    assert not same(half.state, whole.state, tolerance=1e-6)
    net = network()
    net.load_state_dict(half.state)
    value = F.cross_entropy(net.eval()(VALIDATION.images), VALIDATION.labels).item()
    assert half.figures["val/loss"] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(("seeds", "tolerance"), [([0], 1e-5), ([0, 1], 1e-3)], ids=["alone", "stacked"])
def test_bfloat16_equals_autocast_of_one_network(seeds: list[int], tolerance: float) -> None:
    """The forward pass alone is in bfloat16; stacked it rounds once more, between a product and its bias."""
    replica, whole = (
        trained(seeds, precision=precision, epochs=1, optimizer={"sgd": {"lr": 0.1}})[0]
        for precision in ("bfloat16", "float32")
    )
    assert not same(replica.state, whole.state, tolerance=1e-5)
    net = network()
    initialise(net, generator_for(0, "student"))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for rows in torch.randperm(len(TRAIN), generator=generator_for(0, "order", 1)).tensor_split(4):
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(TRAIN.images[rows])
        assert logits.dtype == torch.bfloat16
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), TRAIN.labels[rows]).backward()
        optimizer.step()
    assert same(replica.state, net.state_dict(), tolerance=tolerance)


@pytest.mark.parametrize("fields", [{}, {"precision": "bfloat16"}, {"select": "best-validation"}])
@pytest.mark.parametrize("net", [{"mlp": [5], "dropout": 0.2}, {"conv": [3]}], ids=["stacked", "one by one"])
def test_no_unit_of_the_result_is_above_the_largest_norm(net: dict[str, Any], fields: dict[str, Any]) -> None:
    settings = Recipe.model_validate({"epochs": 2, "batch": BATCH, "max_norm": 0.3, **fields})
    student = build(Network.model_validate(net), **SHAPE)
    for replica in fit(student, LABELS, settings, TRAIN, VALIDATION, seeds=[0, 1]):
        weights = [tensor for name, tensor in replica.state.items() if tensor.ndim > 1 and name.endswith("weight")]
        norms = torch.cat([tensor.flatten(1).norm(dim=1) for tensor in weights])
        assert len(weights) == 2
        assert norms.max() <= 0.3 + 1e-6
        assert norms.max() > 0.29
        assert replica.state["head.weight"].dtype == torch.float32


def test_the_largest_norm_leaves_regressors_and_norms_as_they_are() -> None:
    """A batch norm's weight of 1 is above the limit, and so is a regressor's weight."""
    settings = Recipe.model_validate({"epochs": 1, "batch": BATCH, "max_norm": 0.1})
    teacher = build(Network(conv=[4]), **SHAPE)
    knowledge = distil_knowledge(teacher, TRAIN, ["middle"]), distil_knowledge(teacher, VALIDATION, ["middle"])
    terms = [Term(loss="hard_labels"), Term(loss="hint")]
    student = build(Network(conv=[3]), **SHAPE)
    (replica,) = fit(student, terms, settings, TRAIN, VALIDATION, seeds=[0], knowledge=knowledge)
    assert replica.state["block1.norm.weight"].min() > 0.5
    regressors = [tensor for tensor in replica.own.values() if tensor.ndim > 1]
    assert max(tensor.flatten(1).norm(dim=1).max() for tensor in regressors) > 0.2
