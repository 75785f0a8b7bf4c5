"""Checkpoints: files of weights that kdflow or other tools wrote. They are read without running code."""

import re
from argparse import Namespace
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from kdmodels.data.files import listed, printable
from kdmodels.errors import UserError, allowed
from kdmodels.networks.external import ExternalNetwork
from kdmodels.networks.published_names import with_names_of_catalogue

CONTAINERS = (
    "state_dict",  # Lightning, timm, PyTorch's ImageNet example
    "state_dict_ema",  # timm
    "model",  # torchvision's references, RepDistiller, mdistiller
    "model_ema",  # torchvision's references
    "model_state_dict",  # PyTorch's tutorials
    "model_state",
    "net",
    "network",
    "weights",
)
"""Keys under which tools store the weights of a network."""

PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
"""Prefixes of names that DataParallel, torch.compile, and the attribute of a Lightning module add."""

NORMALISATION = "normalise."  # prefix of the names in the layer that normalises images
NESTED = 4  # largest number of prefixes that are removed one after the other
LONGEST = 1000  # largest number of characters in the dotted path of a mapping that is searched
SHOWN = 3  # number of names that an error message shows of each kind


@dataclass(frozen=True)
class _Match:
    """A comparison of a file's tensors with the tensors of a network.

    Attributes:
        state: The tensors of the file, under the names of the network.
        missing: Names that only the network has.
        unexpected: Names that only the file has.
        shapes: Descriptions of tensors whose shapes differ.
    """

    state: dict[str, Tensor]
    missing: list[str]
    unexpected: list[str]
    shapes: list[str]

    @property
    def faults(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.shapes)

    def __str__(self) -> str:
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.shapes}
        return "; ".join(f"{len(names)} {kind}: {_examples(names)}" for kind, names in kinds.items() if names)


def load_checkpoint(
    network: nn.Module, path: Path, *, key: str | None = None, prefix: str | None = None, name: str | None = None
) -> dict[str, Tensor]:
    """Load the weights of a file into a network.

    The weights may be at the top of the file, or under one of the keys `CONTAINERS`. Prefixes of names that tools add
    are removed if the names then match the network. The names in an external network may lack the prefix `network.`
    that kdflow adds. The names in a network of the catalogue may be those of RepDistiller or mdistiller. If the file
    has no tensors for the normalisation layer, this layer does not change.

    Args:
        network: Network to change.
        path: A safetensors file, or a file that `torch.save` wrote.
        key: Dotted path of the weights in the file. If None, the weights are searched as described above.
        prefix: Prefix of the names of the weights. Other tensors are ignored, and the prefix is removed.
        name: Name of the network in the catalogue. None for all other networks.

    Returns:
        The loaded tensors of the network, by name.

    Raises:
        UserError: The file is missing, damaged or can run code, or its weights do not fit the network. The message
            names what the file holds.
    """
    content = read_content(path)
    states = _candidates(path, content, key)
    if prefix:
        states = {place: _below(prefix, state, path) for place, state in states.items()}
    matches = {place: _best_match(network, state, name) for place, state in states.items()}
    fitting = [place for place, match in matches.items() if not match.faults]
    if len(fitting) > 1:
        keys = " and ".join(fitting)
        raise UserError(f"{path}: the weights under {keys} all fit the network. Set teacher.key to one of these keys")
    if not fitting:
        place = min(matches, key=lambda place: matches[place].faults)
        where = f" under the key {printable(place)}" if place else ""
        keys = f". The keys of the file: {_keys(content)}" if place else ""
        raise UserError(f"{path}: the weights{where} do not fit the network: {matches[place]}{keys}")
    state = matches[fitting[0]].state
    load_state(network, {**network.state_dict(), **state})
    current = network.state_dict()
    return {name: current[name] for name in state}


def load_state(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Load a plain dict of tensors into a network.

    For some layers of torchvision, `load_state_dict` needs version metadata that a plain dict lacks. The function takes
    the metadata from the network's own state dict.

    Raises:
        ValueError: The keys differ from the keys of the network's state dict.
    """
    current = network.state_dict()
    if current.keys() != state.keys():
        raise ValueError(f"not the state of this network: {', '.join(sorted(current.keys() ^ state.keys()))}")
    current.update(state)
    network.load_state_dict(current)


def read_content(path: Path) -> object:
    """Read a safetensors file or a file that `torch.save` wrote, without running code.

    A PyTorch file is read with `weights_only=True`. `argparse.Namespace`, in which training scripts of torchvision and
    timm store their options, is allowed too: reading a Namespace only sets its attributes.

    Returns:
        Tensors by name, or whatever the PyTorch file holds.

    Raises:
        UserError: The file is missing or damaged, or reading it could run code.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises errors of many kinds
        code = None if path.suffix == ".safetensors" else _code(path, str(error))
        if code:
            raise UserError(
                f"{path}: refused, because the file holds {printable(code)}, and reading that can run code. Where the "
                "file was written, save the weights alone: torch.save(model.state_dict(), 'weights.pt')"
            ) from error
        raise UserError(
            f"{path}: the file is damaged, incomplete or not a checkpoint. Allowed: .safetensors, or a state dict or "
            "checkpoint that torch.save wrote"
        ) from error


def _code(path: Path, error: str) -> str | None:
    """Return what in a PyTorch file can run code, given the error of `torch.load`. None if the file is only damaged."""
    with path.open("rb") as file:
        start = file.read(2)
        file.seek(max(0, path.stat().st_size - 1000))
        end = file.read(1000)
    if "TorchScript" in error:
        return "a TorchScript program"
    if start[:1] == b"\x80" and start[1:] > b"\x02":  # the first bytes of a pickle, in a protocol that torch lacks
        return "pickled Python objects"
    name = re.search(r"GLOBAL (\S+)\.(\S*) w", error)
    if name is None or not name[2] or name[2].encode() == end.rpartition(b"\n")[2][:-1]:
        return None  # without an object's name, or with a name within which an incomplete file ends
    return f"the Python object {name[1]}.{name[2]}"


def _candidates(path: Path, content: object, key: str | None) -> dict[str, dict[str, Tensor]]:
    """Return the tensors that may be the weights, by their place in the file. At the top, the place is an empty text.

    Raises:
        UserError: There are no tensors, or none where they are expected.
    """
    found = tensor_mappings(content)
    if not found:
        holds = f"Its keys: {_keys(content)}" if isinstance(content, dict) else f"It is a {type(content).__name__}"
        raise UserError(f"{path}: holds no mapping of only tensors, as model.state_dict() returns. {holds}")
    if key:
        if key not in found:
            places = [printable(place) for place in found if place]
            hint = allowed(key, places[:20]) if places else "The tensors are at the top of the file: remove this field"
            raise UserError(f"teacher.key: {path} has no mapping of only tensors under {key!r}. {hint}")
        return {key: found[key]}
    known = {place: state for place, state in found.items() if place in ("", *CONTAINERS)}
    if not known:
        raise UserError(
            f"{path}: holds weights under none of the usual keys ({', '.join(CONTAINERS)}). Set teacher.key. "
            f"Allowed: {listed([*found])}"
        )
    return known


def tensor_mappings(content: object) -> dict[str, dict[str, Tensor]]:
    """Return every mapping in a file that maps names to tensors and to nothing else, by its dotted path.

    >>> [*tensor_mappings({"epoch": 3, "nets": {"teacher": {"weight": torch.zeros(2)}}})]
    ['nets.teacher']
    """
    found: dict[str, dict[str, Tensor]] = {}
    pending = deque([("", content)])
    seen: set[int] = set()  # a mapping may contain itself
    while pending:
        place, value = pending.popleft()
        if not isinstance(value, dict) or not value or id(value) in seen or len(place) > LONGEST:
            continue
        seen.add(id(value))
        names = [name for name in value if isinstance(name, str)]
        if len(names) == len(value) and all(_is_plain(tensor) for tensor in value.values()):
            found[place] = value
        else:
            pending += [(f"{place}.{name}" if place else name, value[name]) for name in names]
    return found


def _is_plain(value: object) -> bool:
    """Return whether a value is a tensor that stores each of its numbers."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_nested)
    )


def _below(prefix: str, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    below = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    if not below:
        raise UserError(f"teacher.prefix: no name in {path} begins with {prefix!r}. Names there: {_examples([*state])}")
    return below


def _best_match(network: nn.Module, state: dict[str, Tensor], name: str | None) -> _Match:
    """Compare a state with a network under all names that the state may have, and return the best match."""
    current = network.state_dict()
    variants = list(_without_prefixes(state))
    if name is not None:
        names = [tensor for tensor in current if not tensor.startswith(NORMALISATION)]
        renamed = [with_names_of_catalogue(name, names, variant) for variant in variants]
        variants += [variant for variant in renamed if variant is not None]
    if isinstance(network, ExternalNetwork):
        variants += [{f"network.{name}": tensor for name, tensor in variant.items()} for variant in variants]
    return min((_compare(current, variant) for variant in variants), key=lambda match: match.faults)


def _without_prefixes(state: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yield a state, then the state without a prefix that all its names share, and so on."""
    yield state
    state = {name: tensor for name, tensor in state.items() if name != "n_averaged"}  # of torch's AveragedModel
    for _ in range(NESTED):
        prefix = next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in state)), "")
        if not prefix:
            return
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        yield state


def _compare(current: dict[str, Tensor], state: dict[str, Tensor]) -> _Match:
    return _Match(
        state=state,
        missing=[name for name in current if name not in state and not name.startswith(NORMALISATION)],
        unexpected=[name for name in state if name not in current],
        shapes=[
            f"{name} is {tuple(state[name].shape)}, not {tuple(current[name].shape)}"
            for name in current
            if name in state and state[name].shape != current[name].shape
        ],
    )


def _examples(names: list[str]) -> str:
    return ", ".join(map(printable, names[:SHOWN])) + (", …" if len(names) > SHOWN else "")


def _keys(content: object) -> str:
    return listed([str(key) for key in content]) if isinstance(content, dict) else ""
