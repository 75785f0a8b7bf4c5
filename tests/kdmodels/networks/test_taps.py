"""Places that can't be tapped are reported in one line, before anything trains."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer

from kdmodels.data import Split
from kdmodels.errors import UserError
from kdmodels.experiment import Network, Recipe, Term
from kdmodels.knowledge import LiveTeacher, distil_knowledge
from kdmodels.networks import build, find_tap
from kdmodels.training import Distiller, fit
from kdmodels.training.batches import Batch


class Attentive(nn.Module):
    """Attention gives a pair, and torch reads its projection's weights without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        tokens = images.flatten(2)  # (N, C, 4)
        return self.head(self.attention(tokens, tokens, tokens)[0].mean(dim=1))


@pytest.mark.parametrize(("at", "line"), [
    ("attention", "at: attention: expected one tensor, got a tuple. Allowed: another module"),
    ("attention.out_proj", "at: attention.out_proj: the network does not call this module. Allowed: another"),
])  # fmt: skip
def test_what_gives_no_tensor_is_told(at: str, line: str) -> None:
    network = Attentive()
    with pytest.raises(UserError, match=line):
        find_tap(network, at).shape(network, (1, 2, 2))
    assert find_tap(network, "last").shape(network, (1, 2, 2)) == (4,)


def test_the_blocks_of_a_plain_sequence_end_with_its_activations() -> None:
    """README's own example, a student of the user's beside a ResNet, had no `middle`."""
    inner = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.SiLU(), nn.Flatten())
    network = nn.ModuleDict({"normalise": nn.Identity(), "network": nn.Sequential(*inner, nn.LazyLinear(2))})
    assert [find_tap(network, at).module for at in ("first", "middle", "deepest")] == ["network.1"] * 2 + ["network.4"]


def test_maps_with_their_channels_last_are_refused() -> None:
    """Their height was taken for channels, in silence."""
    small = SwinTransformer(patch_size=[4, 4], embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=[2, 2])
    with pytest.raises(UserError, match=r"gives maps \(B, H, W, C\), which no loss takes\. Allowed: last"):
        find_tap(small, "first").shape(small, (3, 32, 32))
    assert find_tap(small, "last").shape(small, (3, 32, 32)) == (16,)


def add(maps: Tensor, images: Tensor) -> Tensor:
    maps += images.mean() + 1
    return maps


OVERWRITING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "relu": lambda maps, images: F.relu(maps, inplace=True),
    "+=": add,
    "a view": lambda maps, images: maps.view(-1).neg_().view(maps.shape),
}
overwriting = pytest.mark.parametrize("change", OVERWRITING.values(), ids=OVERWRITING)


class Overwriting(nn.Module):
    """What its body gave is gone when the forward pass ends; `given` has a copy made in time."""

    def __init__(self, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change
        self.body = nn.Conv2d(1, 4, 3)
        self.head = nn.Linear(4, 3)
        self.given = torch.empty(0)
        nn.init.constant_(self.body.bias, -1.0)  # type: ignore[arg-type]  # so that blank images are rectified too

    def forward(self, images: Tensor) -> Tensor:
        maps = self.body(images)
        self.given = maps.detach().clone()
        changed = self.change(maps, images)
        assert not torch.equal(maps, self.given)  # it is gone
        return self.head(input=changed.mean(dim=(2, 3)))


IMAGES = torch.rand(6, 1, 5, 5, generator=torch.Generator().manual_seed(1))
SPLIT = Split(IMAGES, torch.arange(6) % 3)


@overwriting
@pytest.mark.parametrize("training", [False, True])
def test_what_is_tapped_is_what_the_module_gave(change: Callable[[Tensor, Tensor], Tensor], training: bool) -> None:
    """What followed had overwritten it, in silence: a student learned other features than those that were named."""
    network = Overwriting(change).train(training)
    body, last = find_tap(network, "body"), find_tap(network, "last")
    with body.on(network) as maps, last.on(network) as embeddings:
        logits = network(IMAGES)
    assert torch.equal(body.one(maps), network.given)
    torch.testing.assert_close(network.head(last.one(embeddings)), logits)
    (found,) = torch.autograd.grad(body.one(maps).square().sum(), network.body.weight)
    (expected,) = torch.autograd.grad(network.body(IMAGES).square().sum(), network.body.weight)
    torch.testing.assert_close(found, expected)


@overwriting
def test_teachers_and_students_are_tapped_alike(change: Callable[[Tensor, Tensor], Tensor]) -> None:
    network = Overwriting(change)
    said = LiveTeacher(network, ["body"]).of(torch.arange(6), IMAGES)
    assert torch.equal(said["body"], network.given)
    assert torch.equal(distil_knowledge(network, SPLIT, ["body"]).features["body"], network.given.half())
    term = Term.model_validate({"attention_transfer": {"at": "body"}})
    student = Distiller(
        network,
        [term],
        Recipe(epochs=1, batch=6),
        input_shape=(1, 5, 5),
        teacher_shapes={"body": (4, 3, 3)},
        labels=torch.arange(6) % 3,
    )
    _, values = student(Batch(IMAGES, SPLIT.labels, torch.arange(6), said, {}))
    assert values["attention_transfer"].tolist() == [0.0] * 6


def test_a_last_layer_that_is_called_by_keyword_is_tapped() -> None:
    """It was an IndexError."""
    network = Overwriting(OVERWRITING["relu"])
    assert find_tap(network, "last").shape(network, (1, 5, 5)) == (4,)
    terms = [Term(loss="hard_labels"), Term.model_validate({"similarity_preserving": {"at": "last"}})]
    live = LiveTeacher(Overwriting(OVERWRITING["+="]), ["last"])
    (replica,) = fit(network, terms, Recipe(epochs=1, batch=3), SPLIT, SPLIT, seeds=[0], knowledge=(live, live))
    assert replica.diverged is None


class Twice(nn.Module):
    """One rectifier for two places, as in torchvision's ResNets."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 5), nn.Linear(5, 6)
        self.relu = nn.ReLU()
        self.head = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.relu(self.two(self.relu(self.one(images.flatten(1)))))
        return self.head(hidden) if not self.training else self.head(hidden) + self.head(-hidden)


def test_a_module_that_is_called_twice_is_refused_before_training() -> None:
    """Its first call was taken, in silence."""
    network, line = (
        Twice(),
        "at: relu: the network calls this module 2 times. Allowed: a module that the network calls once",
    )
    with pytest.raises(UserError, match=line):
        find_tap(network, "relu").shape(network, (1, 2, 2))
    images = torch.ones(3, 1, 2, 2)
    with pytest.raises(UserError, match=line):
        LiveTeacher(network, ["relu"]).of(torch.arange(3), images)
    with pytest.raises(UserError, match=line):
        distil_knowledge(network, Split(images, torch.arange(3)), ["relu"])
    term = Term.model_validate({"hint": {"at": {"student": "relu", "teacher": "x"}}})
    with pytest.raises(UserError, match=line):
        Distiller(
            network,
            [term],
            Recipe(epochs=1, batch=3),
            input_shape=(1, 2, 2),
            teacher_shapes={"x": (4,)},
            labels=torch.arange(3) % 3,
        )


def test_a_module_that_is_called_twice_in_training_alone_is_refused_before_it() -> None:
    network = Twice()
    assert find_tap(network, "last").shape(network, (1, 2, 2)) == (6,)
    terms = [Term(loss="hard_labels"), Term.model_validate({"hint": {"at": {"student": "last", "teacher": "x"}}})]
    with pytest.raises(UserError, match="at: head: the network calls this module 2 times"):
        Distiller(
            network,
            terms,
            Recipe(epochs=1, batch=3),
            input_shape=(1, 2, 2),
            teacher_shapes={"x": (4,)},
            labels=torch.arange(3) % 3,
        )


SHAPE = {"input_shape": (1, 28, 28), "classes": 10, "mean": [0.1307], "std": [0.3081]}


@pytest.mark.parametrize(
    ("widths", "at", "shape"),
    [
        ([7], "middle", (7,)),
        ([7, 6], "middle", (7,)),
        ([7, 6, 5], "middle", (6,)),
        ([7, 6], "last", (6,)),
        ([7, 6], "block1.linear", (7,)),
        ([7, 6], "head", (10,)),
    ],
)
def test_taps_of_an_mlp(widths: list[int], at: str, shape: tuple[int, ...]) -> None:
    network = build(Network(mlp=widths), **SHAPE)
    assert find_tap(network, at).shape(network, (1, 28, 28)) == shape


@pytest.mark.parametrize(
    ("size", "at", "shape"),
    [
        (8, "first", (4, 4, 4)),
        (8, "middle", (6, 2, 2)),
        (8, "deepest", (8, 2, 2)),  # a map of 2x2 is not pooled any more
        (28, "first", (4, 14, 14)),
        (28, "deepest", (8, 3, 3)),
        (28, "last", (8,)),
    ],
)
def test_maps_of_a_convolutional_network(size: int, at: str, shape: tuple[int, ...]) -> None:
    network = build(Network(conv=[4, 6, 8]), **{**SHAPE, "input_shape": (1, size, size)})
    assert find_tap(network, at).shape(network, (1, size, size)) == shape


def test_any_module_can_be_tapped() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(3 * 26 * 26, 10))
    assert find_tap(network, "last").shape(network, (1, 28, 28)) == (2028,)
    assert find_tap(network, "0").shape(network, (1, 28, 28)) == (3, 26, 26)
    with pytest.raises(
        UserError,
        match=r"modules show no hidden blocks\. Allowed: last, a module's dotted name \(0, 1, 2,",
    ):
        find_tap(network, "middle")


def test_last_is_the_input_of_the_head() -> None:
    network = build(Network(mlp=[7, 6]), **SHAPE).eval()
    images = torch.rand(4, 1, 28, 28)
    with find_tap(network, "last").on(network) as caught:
        logits = network(images)
    assert torch.equal(network.head(caught[0]), logits)  # type: ignore[operator]


def test_the_error_for_an_unknown_place_lists_all_places() -> None:
    with pytest.raises(
        UserError,
        match=r"at: unknown module 'blok1'\. Did you mean 'block1'\? Allowed: first, middle, deepest, last, normalise",
    ):
        find_tap(build(Network(mlp=[7]), **SHAPE), "blok1")


def test_hooks_are_removed_after_the_context() -> None:
    network = build(Network(mlp=[7]), **SHAPE)
    with find_tap(network, "middle").on(network) as caught:
        pass
    network(torch.rand(1, 1, 28, 28))
    assert caught == []
