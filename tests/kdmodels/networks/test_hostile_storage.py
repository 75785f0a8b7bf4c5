"""Checkpoints and stored networks of any bytes: tensors, or a user's error of one line."""

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from kdmodels.errors import UserError
from kdmodels.experiment import Network
from kdmodels.networks import Description, load_network, save_network
from kdmodels.networks.checkpoint import read_content, tensor_mappings
from kdmodels.networks.storage import DESCRIPTION, WEIGHTS, read_description

DESCRIBED = Description(network=Network(mlp=[5]), input_shape=(1, 4, 4), classes=["a", "b"], mean=[0.5], std=[0.2])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored")
    state = DESCRIBED.build().state_dict()
    save_network(folder, DESCRIBED, state)
    torch.save(state, folder / "whole.pt")
    torch.save({"state_dict": state}, folder / "old.pt", _use_new_zipfile_serialization=False)
    save_file(state, folder / "whole.safetensors")
    return folder


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Cut short, with some bytes changed, or anything at all."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.binary(max_size=200))
    content = bytearray(whole[: draw(st.integers(0, len(whole)))] if draw(st.booleans()) else whole)
    for place, byte in draw(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=4)):
        if content:
            content[place % len(content)] = byte
    return bytes(content)


@pytest.mark.parametrize("name", ["whole.pt", "old.pt", "whole.safetensors"])
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_bytes_are_tensors_or_a_users_error(folder: Path, name: str, data: st.DataObject) -> None:
    file = folder / f"fuzzed-{name}"
    file.write_bytes(data.draw(damaged((folder / name).read_bytes())))
    try:
        mappings = tensor_mappings(read_content(file))
    except UserError as error:
        message = str(error)
    else:
        assert all(isinstance(tensor, torch.Tensor) for state in mappings.values() for tensor in state.values())
        message = "tensors"
    assert len(message.splitlines()) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.floats() | st.sampled_from(["a", "mlp", "os:mkdir", "vgg8"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["mlp", "module", "a"]), inner),
    max_leaves=5,
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(changes=st.dictionaries(st.sampled_from([*Description.model_fields, "more"]), JSON, min_size=1, max_size=2))
def test_any_description_is_that_of_its_weights_or_a_users_error(folder: Path, changes: dict[str, object]) -> None:
    other = folder / "other"
    other.mkdir(exist_ok=True)
    (other / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes())
    (other / DESCRIPTION).write_text(json.dumps(DESCRIBED.model_dump(mode="json") | changes))
    try:
        network, _ = load_network(other)
    except UserError as error:
        message = str(error)
    else:
        assert network(torch.zeros(2, 1, 4, 4)).shape == (2, 2)
        message = "a network"
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("module", "code", "line"),
    [
        ("os:mkdir", (), r"the store names the code of os, which this command does not\. .*--allow-code os"),
        ("os:mkdir", ("os",), "os is a module of Python itself"),
        ("sympy:sympify", (), "the store names the code of sympy, which this command does not"),
        ("sympy:sympify", ("sympy.core", "symp"), "the store names the code of sympy"),
        ("numpy:memmap", ("numpy",), "the class numpy:memmap is not a torch.nn.Module"),
        ("tests.support.networks:torch.hub.load", ("tests.support.networks",), "torch is a module"),
        ("tests.support.networks:Tensor.new", ("tests.support.networks",), "is defined in "),
        ("tests.support.networks_copy:Net", ("tests.support.networks",), "which this command does not"),
    ],
)
def test_a_stored_description_runs_no_code_that_the_user_did_not_name(
    module: str, code: tuple[str, ...], line: str, folder: Path, tmp_path: Path
) -> None:
    """A registered model's description could name any function, with its arguments."""
    canary = tmp_path / "canary"
    arguments = {"path": str(canary)} if module == "os:mkdir" else {"a": f"__import__('os').mkdir({str(canary)!r})"}
    network = {"module": module, "arguments": arguments}
    (tmp_path / DESCRIPTION).write_text(json.dumps(DESCRIBED.model_dump(mode="json") | {"network": network}))
    (tmp_path / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes())
    with pytest.raises(UserError, match=rf"^network\.module: .*{line}") as error:
        load_network(tmp_path, code)
    assert "\n" not in str(error.value)
    assert not canary.exists()


def test_a_stored_description_of_a_named_module_is_rebuilt(tmp_path: Path) -> None:
    own = "tests.support.networks"
    described = DESCRIBED.model_copy(update={"network": Network(module=f"{own}:by_function", arguments={"hidden": 3})})
    built = described.build()
    save_network(tmp_path, described, built.state_dict())
    network, description = load_network(tmp_path, {own, "other"})
    assert description == described
    images = torch.rand(2, 1, 4, 4)
    assert torch.equal(network(images), built.eval()(images))


class Poison:
    """Unpickling it makes a folder."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.canary),))


def header(about: dict[str, object], data: bytes = b"", length: int | None = None) -> bytes:
    """A .safetensors file with that header, whatever it says, or with a header that claims to be of that length."""
    text = json.dumps(about).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def zipped(*contents: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"archive/{'data.pkl' if number == 0 else number}", content)
    return stream.getvalue()


def scripted() -> bytes:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), stream)
    return stream.getvalue()


ATTACKS = {  # by the name of the file; each gets a canary's path
    "pickle.pt": lambda canary: pickle.dumps(Poison(canary)),
    "pickle.safetensors": lambda canary: pickle.dumps(Poison(canary)),
    "zip.safetensors": lambda canary: zipped(pickle.dumps(Poison(canary))),
    "zip.pt": lambda canary: zipped(pickle.dumps(Poison(canary))),
    "zip-in-zip.pt": lambda canary: zipped(zipped(pickle.dumps(Poison(canary))), zipped(pickle.dumps(Poison(canary)))),
    "script.pt": lambda canary: scripted(),
    "script.safetensors": lambda canary: scripted(),
    "header-of-2-to-62.safetensors": lambda canary: header({}, length=2**62),
    "header-of-2-to-64.safetensors": lambda canary: header({}, length=2**64 - 1),
    "beyond-the-data.safetensors": lambda canary: header(
        {"head.bias": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}, bytes(16)
    ),
    "shape-overflows.safetensors": lambda canary: header(
        {"head.bias": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 16]}}, bytes(16)
    ),
    "one-over-another.safetensors": lambda canary: header(
        {name: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for name in ("a", "b")}, bytes(16)
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_and_nothing_of_it_runs(name: str, tmp_path: Path) -> None:
    canary, file = tmp_path / "canary", tmp_path / name
    file.write_bytes(ATTACKS[name](canary))
    with pytest.raises(
        UserError,
        match=r"refused, because the file holds |the file is damaged, incomplete or not a checkpoint\. Allowed: ",
    ) as error:
        read_content(file)
    assert "\n" not in str(error.value)
    assert not canary.exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_never_ends_is_not_read(suffix: str, tmp_path: Path) -> None:
    """A link to an endless device, a pipe without a writer, and a file of a terabyte that holds nothing."""
    (tmp_path / f"device{suffix}").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / f"pipe{suffix}")
    for name in ("device", "pipe"):
        with pytest.raises(UserError, match="no such checkpoint file"):
            read_content(tmp_path / f"{name}{suffix}")
    with (tmp_path / f"sparse{suffix}").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match="damaged, incomplete or not a checkpoint"):
        read_content(tmp_path / f"sparse{suffix}")


def test_a_description_that_is_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / DESCRIPTION)
    with pytest.raises(UserError, match=r"network\.json: not a regular file$"):
        read_description(tmp_path)
