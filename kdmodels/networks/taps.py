"""Taps: the places in a network where features are taken. The field `at` of an experiment file names the taps."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Literal

import torch
from torch import Tensor, nn

from kdmodels.errors import UsageError, UserError, allowed


@dataclass(frozen=True)
class Tap:
    """A tap: the input or the output of a module of a network, where features are taken.

    Attributes:
        module: Dotted name of the module.
        side: The side of the module, input or output.
    """

    module: str
    side: Literal["input", "output"]

    @contextmanager
    def on(self, network: nn.Module) -> Iterator[list[Tensor]]:
        """Return a context that records the tensor of the tap whenever the network calls the module.

        The context yields a list. Each call of the module appends a copy of the tensor to this list. The copy is
        necessary because later layers may overwrite the tensor, for example with `out += identity`. Copies take about
        1 % of the time of a step.

        Args:
            network: Network that contains the module.
        """
        features: list[Tensor] = []
        module = network.get_submodule(self.module)

        def append(value: Tensor) -> None:
            features.append(value.clone() if isinstance(value, Tensor) else value)

        def append_input(_: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            append(next(iter((*inputs, *named.values()))))

        if self.side == "input":
            handle = module.register_forward_pre_hook(append_input, with_kwargs=True)
        else:
            handle = module.register_forward_hook(lambda _, inputs, output: append(output))
        try:
            yield features
        finally:
            handle.remove()

    def one(self, features: Sequence[Tensor]) -> Tensor:
        """Return the tensor that `on` recorded in a single forward pass.

        Args:
            features: The list that the context `on` filled.

        Raises:
            UserError: The network did not call the module exactly once, or the module did not return a tensor.
        """
        if not features:
            raise UserError(f"at: {self.module}: the network does not call this module. Allowed: another module")
        if len(features) > 1:
            raise UserError(
                f"at: {self.module}: the network calls this module {len(features)} times. "
                "Allowed: a module that the network calls once"
            )
        if not isinstance(features[0], Tensor):
            kind = type(features[0]).__name__
            raise UserError(f"at: {self.module}: expected one tensor, got a {kind}. Allowed: another module")
        return features[0]

    def shape(self, network: nn.Module, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Run the network on two blank images, and return the shape of one example's features.

        Args:
            network: The network.
            input_shape: The shape of one image, (C, H, W).

        Raises:
            UserError: The features are maps (B, H, W, C). For other errors, see `one`.
        """
        was_training = network.training
        network.eval()
        with self.on(network) as features, torch.no_grad():
            network(torch.zeros(2, *input_shape))
        network.train(was_training)
        tensor = self.one(features)
        if self.side == "output" and tensor.ndim == 4 and _channels_last(network):
            raise UserError(f"at: {self.module}: gives maps (B, H, W, C), which no loss takes. Allowed: last")
        return tuple(tensor.shape[1:])


def _channels_last(network: nn.Module) -> bool:
    """Return whether the maps of a network have the shape (B, H, W, C), which is true for Swin transformers.

    Swin transformers are recognised by the names of their modules, because a shape does not show which dimension holds
    the channels.
    """
    return any("swin" in type(module).__module__ for module in network.modules())


def find_tap(network: nn.Module, at: str) -> Tap:
    """Return the tap that `at` names.

    Args:
        network: Network, with n hidden blocks. See `hidden_blocks`.
        at: One of these names:

            - `first`: the output of hidden block 1.
            - `middle`: the output of hidden block ceil(n / 2).
            - `deepest`: the output of hidden block n.
            - `last`: the embedding, which is the input of the linear layer that was registered last.
            - The dotted name of a module: the output of the module.

    Raises:
        UsageError: No module has this name. The message lists all names.
        UserError: The network has no hidden blocks, or no linear layer.
    """
    modules = dict(network.named_modules())
    if at == "last":
        linear = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
        if not linear:
            raise UserError("at: last: the network has no linear layer. Allowed: a module's dotted name")
        return Tap(linear[-1], "input")
    if at in _BLOCKS:
        blocks = hidden_blocks(network)
        if not blocks:
            near = ", ".join(name for name in modules if name and name.count(".") < 2)
            raise UserError(
                f"at: {at}: the names of the network's modules show no hidden blocks. "
                f"Allowed: last, a module's dotted name ({near}, or a module inside these), "
                "or {student: NAME, teacher: NAME}"
            )
        return Tap(blocks[_BLOCKS[at](len(blocks)) - 1], "output")
    names = [name for name in modules if name]
    if at not in names:
        raise UsageError(f"at: unknown module {at!r}. {allowed(at, [*_BLOCKS, 'last', *names])}")
    return Tap(at, "output")


def hidden_blocks(network: nn.Module) -> list[str]:
    """Return the dotted names of a network's hidden blocks, in order.

    The modules are searched level by level, from the network itself to the innermost modules. The search stops at the
    first module with children of kind 1 or 2. If a module has both, kind 1 applies.

    1. Children named block, layer or stage with a number, such as `block1`, `layer4` or `stage_2`. These children are
       the hidden blocks.
    2. A child named `features`, `blocks`, `layers` or `stages` that has children itself. The children of this child are
       the hidden blocks.

    If no module has such children, each activation in the first `nn.Sequential` with activations ends a hidden block.
    The hidden block is then named after its activation. Without such an `nn.Sequential`, the list is empty.

    >>> hidden_blocks(nn.ModuleDict({"stem": nn.ReLU(), "features": nn.Sequential(nn.ReLU(), nn.ReLU())}))
    ['features.0', 'features.1']
    >>> hidden_blocks(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3), nn.GELU(), nn.Linear(3, 2)))
    ['1', '3']
    """
    level = [("", network)]
    while level:
        for prefix, module in level:
            children = dict(module.named_children())
            numbered = [name for name in children if _NUMBERED.fullmatch(name)]
            if numbered:
                return [prefix + name for name in numbered]
            for name in _SEQUENCES:
                parts = [part for part, _ in children[name].named_children()] if name in children else []
                if parts:
                    return [f"{prefix}{name}.{part}" for part in parts]
        level = [(f"{prefix}{name}.", child) for prefix, module in level for name, child in module.named_children()]
    for path, module in network.named_modules():
        if isinstance(module, nn.Sequential):
            ends = [name for name, child in module.named_children() if isinstance(child, _ACTIVATIONS)]
            if ends:
                return [f"{path}.{name}".removeprefix(".") for name in ends]
    return []


_ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Tanh,
    nn.Sigmoid,
)  # fmt: skip
_NUMBERED = re.compile(r"(block|layer|stage)_?\d+")
_SEQUENCES = ("features", "blocks", "layers", "stages")
_BLOCKS: dict[str, Callable[[int], int]] = {
    "first": lambda n: 1,
    "middle": lambda n: ceil(n / 2),
    "deepest": lambda n: n,
}
