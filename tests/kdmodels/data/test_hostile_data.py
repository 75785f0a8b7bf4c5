"""Damaged and malicious data files: each is reported in one line, and no code in them runs."""

import os
import pickle
import struct
import zipfile
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from kdmodels.data import load_dataset
from kdmodels.data.decoding import PIXELS, PRINTS
from kdmodels.errors import UserError
from kdmodels.experiment import Data
from kdmodels.knowledge import load_knowledge


class Poison:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.canary),))


def objects(canary: Path) -> np.ndarray:
    return np.array([Poison(canary)] * 20, dtype=object)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def arrays() -> dict[str, np.ndarray]:
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8)
    return {"images": images, "labels": np.arange(40) % 2}


@pytest.mark.parametrize("name", ["images", "labels", "classes"])
def test_an_npz_with_python_objects_is_refused(tmp_path: Path, canary: Path, name: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays() | {name: objects(canary)})
    with pytest.raises(
        UserError, match=r"x\.npz: can't be read: .*Allowed: an \.npz file written by numpy\.savez, without"
    ):
        load_dataset(Data(source=str(tmp_path / "x.npz")))
    assert not canary.exists()


def npy(header: str, data: bytes = bytes(16)) -> bytes:
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def npz_of(**members: bytes) -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_an_npz_with_paths_that_lead_out_of_it_is_refused(tmp_path: Path) -> None:
    content = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (16,)}")
    for name in ("../images.npy", "/images.npy", "a/images.npy", "..\\images.npy", "evil.npy", "images.npy/../../x"):
        (tmp_path / "x.npz").write_bytes(npz_of(**{name: content}))
        with pytest.raises(UserError, match=r"x\.npz: has the array "):
            load_dataset(Data(source=str(tmp_path / "x.npz")))


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 4, 4)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 4, 4)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1" + "0" * 60_000 + ",)}",
        "{'descr': __import__('os').mkdir('CANARY'), 'fortran_order': False, 'shape': (16,)}",
        "__import__('os').mkdir('CANARY')",
        "{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,)}",
        "(" * 20_000 + ")" * 20_000,
    ],
    ids=["10^12 images", "fewer than none", "digits", "code as a type", "code", "objects within", "nested"],
)
def test_a_malicious_array_header_is_refused(tmp_path: Path, canary: Path, header: str) -> None:
    images = npy(header.replace("CANARY", str(canary)))
    labels = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (16,)}")
    (tmp_path / "x.npz").write_bytes(npz_of(**{"images.npy": images, "labels.npy": labels}))
    with pytest.raises(UserError, match=r"x\.npz"):
        load_dataset(Data(source=str(tmp_path / "x.npz")))
    assert not canary.exists()


def test_an_npz_that_claims_to_exceed_the_disk_is_not_unpacked(tmp_path: Path, cache: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("images.npy", b"0")
        archive.filelist[0].file_size = 2**60  # the size stated in the central directory
    with pytest.raises(UserError, match=r"x\.npz need [0-9.]+ GB, but only [0-9.]+ GB are free"):
        load_dataset(Data(source=str(tmp_path / "x.npz")))
    assert not list(cache.rglob("*.npy"))


def test_an_npz_larger_than_it_claims_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", bytes(10**8))
        archive.filelist[0].file_size = 1_000
    assert (tmp_path / "x.npz").stat().st_size < 10**6
    with pytest.raises(UserError, match=r"x\.npz: can't be read: "):
        load_dataset(Data(source=str(tmp_path / "x.npz")))


def test_a_table_with_a_pickled_type_runs_no_code(tmp_path: Path, canary: Path) -> None:
    """Older versions of pyarrow unpickled the metadata of an extension type when they read the schema."""
    poison = pickle.dumps(Poison(canary))
    extension = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": poison}
    column = b'{"name": "label", "pandas_type": "object", "numpy_type": "object"}'
    table = pq.read_table(BytesIO(parquet()))
    schema = pa.schema([field.with_metadata(extension) for field in table.schema])
    for pandas in (b'{"index_columns": ["label"], "columns": [' + column + b"]}", b"no JSON", poison):
        pq.write_table(table.cast(schema).replace_schema_metadata({b"pandas": pandas}), tmp_path / "x.parquet")
        stored = pq.read_metadata(tmp_path / "x.parquet").metadata
        assert poison in b64decode(stored[b"ARROW:schema"])
        assert stored[b"pandas"] == pandas
        assert len(load_dataset(Data(source=str(tmp_path / "x.parquet"))).classes) == 2
    assert not canary.exists()


def test_a_link_to_a_system_file_does_not_reveal_its_content(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "x.png").symlink_to("/etc/passwd")
    with pytest.raises(
        UserError, match=r"none of 2 images can be read; the first is 0/x\.png: is not an image"
    ) as error:
        load_dataset(Data(source=str(tmp_path)))
    assert "root" not in str(error.value).replace(str(tmp_path), "")


def test_pickles_in_the_cache_are_refused(tmp_path: Path, cache: Path, canary: Path) -> None:
    np.savez(tmp_path / "x.npz", **arrays())
    load_dataset(Data(source=str(tmp_path / "x.npz")))
    for name in ("labels.npy", PIXELS, PRINTS):
        for file in cache.rglob(name):
            whole = file.read_bytes()
            np.save(file, objects(canary), allow_pickle=True)
            with pytest.raises(UserError, match=f"{name}: is damaged or holds Python objects"):
                load_dataset(Data(source=str(tmp_path / "x.npz")))
            file.write_bytes(whole)
            load_dataset(Data(source=str(tmp_path / "x.npz")))
    assert not canary.exists()


def test_pickles_in_stored_knowledge_are_refused(tmp_path: Path, canary: Path) -> None:
    np.save(tmp_path / "logits.npy", objects(canary), allow_pickle=True)
    with pytest.raises(UserError, match=r"logits\.npy: is damaged or holds Python objects"):
        load_knowledge(tmp_path)
    assert not canary.exists()


def test_a_malicious_batch_of_cifar10_is_refused(tmp_path: Path, canary: Path) -> None:
    """CIFAR-10 is published as pickles, which torchvision reads only if their checksums match."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ["batches.meta", "test_batch", *(f"data_batch_{number}" for number in range(1, 6))]:
        (folder / name).write_bytes(pickle.dumps(Poison(canary)))
    with pytest.raises(UserError, match=r"cifar10: .*no readable CIFAR10 in this folder"):
        load_dataset(Data(source="cifar10"), tmp_path)
    assert not canary.exists()


def test_a_link_in_a_zip_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("a/link.png", "b/link.png"):
            link = zipfile.ZipInfo(name)
            link.external_attr = 0o120777 << 16
            archive.writestr(link, str(tmp_path / "secret.png"))
    with pytest.raises(UserError, match=r"none of 2 images can be read; the first is a/link\.png: is not an image"):
        load_dataset(Data(source=str(tmp_path / "x.zip")))


@pytest.mark.parametrize(
    "name", ["a\x1b[31m", "a\nb", "a\0b", "x" * 300, "1" * 5_000], ids=["escape", "newline", "nul", "long", "digits"]
)
def test_a_class_name_that_cannot_be_printed_is_refused(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays() | {"classes": np.array(["b", name])})
    with pytest.raises(
        UserError, match=r"can't be a class name\. Allowed: one line of printable text, at most 255 characters"
    ) as e:
        load_dataset(Data(source=str(tmp_path / "x.npz")))
    assert str(e.value).isprintable()


def test_a_label_with_thousands_of_digits_is_reported(tmp_path: Path) -> None:
    labels = np.array(["1" * 5_000, "2" * 5_000] * 20)
    np.savez(tmp_path / "x.npz", images=arrays()["images"], labels=labels)
    with pytest.raises(UserError, match="can't be a class name") as error:
        load_dataset(Data(source=str(tmp_path / "x.npz")))
    assert str(error.value).isprintable()


def encoded(kind: str, **more: object) -> bytes:
    stream = BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(stream, kind, **more)
    return stream.getvalue()


def npz() -> bytes:
    stream = BytesIO()
    np.savez_compressed(stream, **arrays())
    return stream.getvalue()


def parquet() -> bytes:
    stream = BytesIO()
    rows = [{"image": encoded("PNG"), "label": number % 2} for number in range(20)]
    pd.DataFrame(rows).to_parquet(stream)
    return stream.getvalue()


def zipped() -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"{number % 2}/{number}.png", encoded("PNG"))
    return stream.getvalue()


def idx(images: bool) -> bytes:
    header = struct.pack(">4I", 0x803, 20, 8, 8) if images else struct.pack(">2I", 0x801, 20)
    return header + bytes(20 * 64 if images else [number % 2 for number in range(20)])


WHOLE = {
    "0/x.png": encoded("PNG"),
    "0/x.jpg": encoded("JPEG"),
    "0/x.tif": encoded("TIFF", compression="tiff_lzw"),
    "0/x.gif": encoded("GIF"),
    "x.npz": npz(),
    "x.parquet": parquet(),
    "x.zip": zipped(),
    "MNIST/raw/train-images-idx3-ubyte": idx(images=True),
    "MNIST/raw/train-labels-idx1-ubyte": idx(images=False),
}


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return bytes that are truncated, changed in some places, or arbitrary."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.binary(max_size=200))
    content = bytearray(whole[: draw(st.integers(0, len(whole)))] if draw(st.booleans()) else whole)
    for place, byte in draw(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=4)):
        if content:
            content[place % len(content)] = byte
    return bytes(content)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed")


@pytest.mark.parametrize("name", WHOLE)
@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(data=st.data())
def test_any_bytes_give_a_dataset_or_a_one_line_error(fuzzed: Path, name: str, data: st.DataObject) -> None:
    folder = fuzzed / name.replace("/", "-")
    beside = {"0/a.png", "1/b.png", "1/c.png"} if name.startswith("0/") else set()
    if name.startswith("MNIST"):
        raw = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
        for other in raw:
            (folder / "MNIST/raw").mkdir(parents=True, exist_ok=True)
            (folder / "MNIST/raw" / other).write_bytes(idx(images="images" in other))
    for other in beside:
        (folder / other).parent.mkdir(parents=True, exist_ok=True)
        (folder / other).write_bytes(WHOLE["0/x.png"])
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data.draw(damaged(WHOLE[name])))
    source = "mnist" if beside == set() and name.startswith("MNIST") else str(folder if beside else folder / name)
    try:
        dataset = load_dataset(Data(source=source), folder)
    except UserError as error:
        message = str(error)
    else:
        assert dataset.train.batch(torch.arange(1)).isfinite().all()
        message = "a dataset"
    assert len(message.splitlines()) == 1
