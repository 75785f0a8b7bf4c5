"""Where features are taken: `at:` of an experiment file, found in any network."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from kdmodels.errors import UsageError, UserError, allowed


@dataclass(frozen=True)
class Tap:
    """The input or the output of one module of a network."""

    module: str
    side: str  # "input" | "output"

    @contextmanager
    def on(self, network: nn.Module) -> Iterator[list[Tensor]]:
        """Inside the context, every call of the module appends a copy of the tapped tensor to the list.

        A copy, since what follows may overwrite it, as `out += identity` does; it costs a hundredth of a step.
        """
        caught: list[Tensor] = []
        module = network.get_submodule(self.module)

        def catch(value: Any) -> None:
            caught.append(value.clone() if isinstance(value, Tensor) else value)

        def before(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            catch(next(iter((*inputs, *named.values()))))

        if self.side == "input":
            handle = module.register_forward_pre_hook(before, with_kwargs=True)
        else:
            handle = module.register_forward_hook(lambda _, inputs, output: catch(output))
        try:
            yield caught
        finally:
            handle.remove()

    def one(self, caught: Sequence[Tensor]) -> Tensor:
        """What one forward pass caught.

        Raises:
            UserError: the network called the module never or more than once, or it gave something else than a tensor.
        """
        if not caught:
            raise UserError(f"at: {self.module}: the network does not call this module by itself; allowed: another one")
        if len(caught) > 1:
            raise UserError(
                f"at: {self.module}: the network calls this module {len(caught)} times; "
                "allowed: a module that it calls once"
            )
        if not isinstance(caught[0], Tensor):
            kind = type(caught[0]).__name__
            raise UserError(f"at: {self.module}: gives a {kind}, not one tensor; allowed: another module")
        return caught[0]

    def shape(self, network: nn.Module, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one example's features, found by running the network on two blank images.

        Raises:
            UserError: there is no one tensor to be had there.
        """
        was_training = network.training
        network.eval()
        with self.on(network) as caught, torch.no_grad():
            network(torch.zeros(2, *input_shape))
        network.train(was_training)
        tensor = self.one(caught)
        if self.side == "output" and tensor.ndim == 4 and _channels_last(network):
            raise UserError(f"at: {self.module}: gives maps (B, H, W, C), which no loss takes; allowed: last")
        return tuple(tensor.shape[1:])


def _channels_last(network: nn.Module) -> bool:
    """Swin transformers, torchvision's and timm's, keep the channels last; a shape does not tell."""
    return any("swin" in type(module).__module__ for module in network.modules())


def find_tap(network: nn.Module, at: str) -> Tap:
    """The place that `at` names: `first`, `middle`, `deepest`, `last`, or a module's dotted name.

    Of n hidden blocks (see `hidden_blocks`), `first` is the output of the first, `middle` of number ceil(n/2) and
    `deepest` of the last; `last` is the input of the last linear layer in the order of registration: the embedding.

    Raises:
        UsageError: no module has that name; the line lists those there are.
        UserError: the network has no hidden block, or no linear layer.
    """
    modules = dict(network.named_modules())
    if at == "last":
        linear = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
        if not linear:
            raise UserError("at: last: the network has no linear layer; allowed: a module's dotted name")
        return Tap(linear[-1], "input")
    if at in _BLOCKS:
        blocks = hidden_blocks(network)
        if not blocks:
            near = ", ".join(name for name in modules if name and name.count(".") < 2)
            raise UserError(
                f"at: {at}: the network has no hidden blocks that are known by their names; "
                f"allowed: last, or a module's dotted name: {near}, and what is within them; "
                "or {student: NAME, teacher: NAME}"
            )
        return Tap(blocks[_BLOCKS[at](len(blocks)) - 1], "output")
    names = [name for name in modules if name]
    if at not in names:
        raise UsageError(f"at: {at!r}: the network has no such module; {allowed(at, [*_BLOCKS, 'last', *names])}")
    return Tap(at, "output")


def hidden_blocks(network: nn.Module) -> list[str]:
    """The dotted names of a network's hidden blocks, in order; empty where no names tell them.

    They are the children called block, layer or stage and a number, as `block1`, `layer4`, `stage_2`; or else the parts
    of a child called `features`, `blocks`, `layers` or `stages`; of the module nearest to the top that has any. Where
    no names tell them, they end with the activations of the first `nn.Sequential` that has any.

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
