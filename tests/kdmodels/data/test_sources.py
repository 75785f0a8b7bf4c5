"""Image folders and zips as datasets: splits, checks, and the cache of decoded images."""

import contextlib
import io
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kdmodels.data import Dataset, load_dataset
from kdmodels.data.files import LISTED
from kdmodels.errors import UserError
from kdmodels.experiment import Data

Photos = Callable[..., Path]


def load(path: Path, **more: object) -> Dataset:
    return load_dataset(Data.model_validate({"source": str(path), **more}))


def sizes(data: Dataset) -> list[int]:
    return [len(data.train), len(data.validation), data.test_examples]


def test_class_folders_are_split_with_stratification(photos: Photos) -> None:
    root = photos("cat", "dog", count=50)
    data = load(root)
    assert sizes(data) == [72, 8, 20]
    assert data.classes == ["cat", "dog"]
    assert data.input_shape == (3, 8, 8)
    assert [torch.bincount(part.labels).tolist() for part in (data.train, data.validation, data.read_test())] == [
        [36, 36],
        [4, 4],
        [10, 10],
    ]
    paths = sorted(root.glob("*/*.png"))
    for name, part in (("train", data.train), ("validation", data.validation)):
        for row, image, label in zip(data.indices[name], part.images, part.labels, strict=True):
            assert (
                image.mul(255).round().permute(1, 2, 0).numpy().tolist() == np.asarray(Image.open(paths[row])).tolist()
            )
            assert data.classes[label] == paths[row].parent.name
    pixels = data.train.images.double()
    assert data.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), rel=1e-6)
    assert data.std == pytest.approx(pixels.std(dim=(0, 2, 3)).tolist(), rel=1e-6)
    assert data.notes == []


def test_split_folders_become_the_splits(photos: Photos) -> None:
    root = photos("train/a", "train/b", "test/a", "test/b", count=10)
    photos("val/a", "val/b", count=3)
    assert sizes(load(root)) == [20, 6, 20]
    data = load(root, validation=0.2)
    assert sizes(data) == [16, 4, 20]
    assert data.notes == [
        "the source's own validation split (6 examples) is left out, because data.validation is 0.2: validation "
        "examples are held out of the training split. To use the source's own, set data.validation: null"
    ]
    (root / "val").rename(root / "later")
    assert sizes(load(root)) == [18, 2, 20]
    assert sizes(load(root, validation="later")) == [20, 6, 20]
    assert sizes(load(root, subset=6, validation="later")) == [6, 6, 20]


def test_a_zip_and_its_folder_give_the_same_dataset(photos: Photos, tmp_path: Path) -> None:
    root = photos("9", "10")
    (root / "readme.txt").write_text("about")
    (root / "Thumbs.db").write_text("hidden")
    archive = Path(shutil.make_archive(str(tmp_path / "all"), "zip", tmp_path, "photos"))
    folder, zipped = load(root), load(archive)
    assert folder.digest == zipped.digest
    assert folder.classes == ["9", "10"]
    assert folder.notes == ["1 files are not images and are left out: readme.txt"]
    assert zipped.notes == ["1 files are not images and are left out: photos/readme.txt"]


def test_grey_images_have_one_channel_unless_one_is_coloured(photos: Photos) -> None:
    root = photos("a", "b", channels=1)
    assert load(root).input_shape == (1, 8, 8)
    Image.new("RGB", (8, 8), "red").save(root / "a" / "red.png")
    data = load(root)
    assert data.input_shape == (3, 8, 8)
    assert data.notes == ["modes converted to RGB: 20 L, 1 RGB"]


def test_images_get_the_most_common_training_size_or_the_configured_size(photos: Photos) -> None:
    root = photos("train/a", "train/b", size=(6, 4))
    photos("test/a", "test/b", size=(8, 8), count=30)
    data = load(root)
    assert data.input_shape == (3, 6, 4)
    assert data.notes == ["60 of 80 images resized to 6x4"]
    assert load(root, size=5).input_shape == (3, 5, 5)
    assert load(root, size=[3, 7]).input_shape == (3, 3, 7)


def test_images_are_decoded_once_until_a_file_changes(photos: Photos, cache: Path) -> None:
    root = photos("a", "b")
    progress: list[tuple[int, int]] = []

    def digest() -> str:
        return load_dataset(Data(source=str(root)), None, lambda done, total: progress.append((done, total))).digest

    first = digest()
    assert progress[-1] == (40, 40)
    progress.clear()
    assert digest() == first
    assert progress == []
    Image.new("RGB", (8, 8), "red").save(root / "a" / "00.png")
    assert digest() != first
    assert progress[-1] == (40, 40)
    assert len(list(cache.glob("kdflow/decoded/*/*/pixels.npy"))) == 1  # earlier versions are deleted


def test_pixels_stay_on_disk(photos: Photos) -> None:
    """All splits are rows of one memory-mapped file."""
    data = load(photos("a", "b"))
    assert data.train.pixels.data_ptr() == data.validation.pixels.data_ptr() == data.read_test().pixels.data_ptr()
    assert data.train.pixels.dtype == torch.uint8
    assert data.train.batch(torch.tensor([[3, 1], [0, 2]])).shape == (2, 2, 3, 8, 8)


def test_unreadable_images_are_listed_or_skipped_on_request(photos: Photos) -> None:
    root = photos("a", "b", count=40)
    for number in range(LISTED + 5):
        path = root / "a" / f"{number:02}.png"
        path.write_bytes(path.read_bytes()[:-60] if number else b"nothing")
    with pytest.raises(UserError) as error:
        load(root)
    assert f"{root}: 25 images can't be read: a/00.png (is not an image in a known format), a/01.png (" in str(
        error.value
    )
    assert "a/19.png" in str(error.value)
    assert "a/20.png" not in str(error.value)
    assert str(error.value).endswith("and 5 more. Allowed: readable images, or data.skip: true")
    assert "\n" not in str(error.value)
    data = load(root, skip=True)
    assert sum(sizes(data)) == 55
    assert len(data.skipped) == 25
    assert data.notes == ["25 unreadable images are left out"]
    counts = sum(torch.bincount(part.labels) for part in (data.train, data.validation, data.read_test()))
    assert counts.tolist() == [15, 40]  # labels still match their images


def test_a_class_without_a_readable_image_is_an_error_even_when_skipping(photos: Photos) -> None:
    root = photos("a", "b", count=3)
    for path in (root / "a").iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="no image of a can be read"):
        load(root, skip=True)
    for path in (root / "b").iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"none of 6 images can be read; the first is a/00\.png: "):
        load(root, skip=True)


def test_an_image_in_train_and_test_is_noted_or_refused(photos: Photos) -> None:
    root = photos("train/a", "train/b", "test/a", "test/b", "val/a", "val/b")
    with Image.open(root / "train" / "a" / "00.png") as image:  # the same pixels in a different file
        image.save(root / "test" / "a" / "copy.bmp")
        image.save(root / "train" / "b" / "copy.tiff")
        image.save(root / "val" / "a" / "copy.bmp")
    assert load(root).notes == [
        "1 of 21 images of test are also in train, with identical pixels",
        "1 of 21 images of validation are also in train, with identical pixels",
        "1 of 21 images of test are also in validation, with identical pixels",
        "1 images occur more than once in train, with different labels",
    ]
    with pytest.raises(UserError, match=r"data\.strict: 1 of 21 images of test are also in train"):
        load(root, strict=True)


def test_classes_missing_from_train_are_named(photos: Photos) -> None:
    root = photos("train/a", "train/b", "train/c", "test/a", "test/b", "val/a", "val/b", "val/c")
    assert load(root).notes == ["the test split has no example of c"]
    photos("test/d", "test/e")
    with pytest.raises(
        UserError, match=r"the test split has classes that the train split lacks: d, e\. Allowed: a, b, c"
    ):
        load(root)


def test_a_class_with_one_example_cannot_be_split(photos: Photos) -> None:
    photos("a", "b")
    root = photos("c", count=1)
    with pytest.raises(
        UserError,
        match=r"data\.source: expected at least 2 examples of each class to split, got 1 of c\. Allowed: 2 or",
    ):
        load(root)


def test_unlabelled_images_get_the_size_and_channels_of_the_source(photos: Photos, tmp_path: Path) -> None:
    root = photos("a", "b")
    more = tmp_path / "more"
    more.mkdir()
    Image.new("L", (20, 16), 200).save(more / "1.jpg")
    shutil.copy(root / "a" / "00.png", more / "0.png")
    data = load(root, transfer={"unlabelled": str(more)})
    assert data.transfer is not None
    assert data.transfer.labels.tolist() == [-1, -1]
    assert data.transfer.images.shape == (2, 3, 8, 8)
    assert data.transfer.images[1].mul(255).round().unique().tolist() == [200]
    assert "transfer: 1 of 2 images resized to 8x8" in data.notes
    plain = load(root)
    assert (plain.transfer, plain.train.labels.tolist()) == (None, data.train.labels.tolist())
    assert plain.digest != data.digest
    with pytest.raises(UserError, match=r"^data\.transfer\.unlabelled: .*: contains no image"):
        load(root, transfer={"unlabelled": str(tmp_path / "cache")})


def test_a_path_is_looked_up_here_and_in_the_data_folder(
    photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = load(photos("a", "b")).digest
    assert load_dataset(Data(source="./photos"), tmp_path).digest == digest
    monkeypatch.chdir(tmp_path)
    assert load_dataset(Data(source="./photos")).digest == digest
    with pytest.raises(UserError) as error:
        load_dataset(Data(source="./phots"), tmp_path / "cache")
    assert f"{tmp_path}/phots and {tmp_path}/cache/phots do not exist. Allowed: a path" in str(error.value)


def test_an_unknown_kind_of_file_and_an_empty_folder_are_reported(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"^data\.source: .*photo\.png: is not a known kind of file\. Allowed: a folder, "
    ):
        load(tmp_path / "photo.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"^data\.source: .*empty: there is no image\. Allowed: a folder per class"):
        load(tmp_path / "empty")


def test_names_in_any_script_and_suffixes_in_any_case_are_read(photos: Photos) -> None:
    root = photos("猫", "köter")
    for path in list(root.glob("*/*.png")):
        path.rename(path.with_name(f"bild ü\n{path.stem}.PNG"))
    os.mkdir(os.fsencode(root) + b"/\xff")
    for path in (root / "猫").iterdir():
        (Path(os.fsdecode(os.fsencode(root) + b"/\xff")) / path.name).write_bytes(path.read_bytes())
    data = load(root)
    assert data.classes == ["köter", "猫", "\ufffd"]


def test_a_full_disk_is_reported_before_writing(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    root = photos("a", "b")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.raises(
        UserError, match=r"the images at 8x8 need 0\.0 GB, but only 0\.0 GB are free at .*smaller data\.size"
    ):
        load(root)


@pytest.mark.skipif(
    not (Path(os.environ.get("KD_DATA", "")) / "cifar10.zip").is_file(), reason="KD_DATA names no folder of cifar10.zip"
)
def test_cifar10_as_jpeg_files(tmp_path: Path) -> None:
    whole = Path(os.environ["KD_DATA"]) / "cifar10.zip"
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(tmp_path / "part.zip", "w") as part:
        for name in archive.namelist():
            if name.endswith(("00.jpg", "01.jpg")):
                part.writestr(name, archive.read(name))
    data = load(tmp_path / "part.zip")
    assert sizes(data) == [900, 100, 200]
    assert (len(data.classes), data.classes[0], data.input_shape) == (10, "airplane", (3, 32, 32))
    # The published means of the whole training set are 0.491, 0.482, 0.447.
    assert data.mean == pytest.approx([0.491, 0.482, 0.447], abs=0.02)


def _encoded(color: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (4, 4), color).save(stream, "png")
    return stream.getvalue()


PARTS = st.sampled_from(["train", "test", "a", "b", "..", "", "ü", "x\n"]) | st.text(max_size=3)
NAMES = st.tuples(st.lists(PARTS, min_size=1, max_size=3), st.sampled_from([".png", ".JPG", "", ".txt", "/"]))
CONTENTS = (
    st.binary(max_size=8) | st.integers(0, 255).map(_encoded) | st.integers(0, 9).map(lambda n: _encoded(n)[:-60])
)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@settings(max_examples=60)
@given(st.lists(st.tuples(NAMES, CONTENTS), max_size=8), st.booleans())
def test_any_zip_gives_a_dataset_or_a_one_line_error(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[tuple[list[str], str], bytes]], skip: bool
) -> None:
    root = tmp_path_factory.mktemp("any")
    with zipfile.ZipFile(root / "x.zip", "w") as archive:
        for number in range(8):  # some valid images
            archive.writestr(f"train/{'ab'[number % 2]}/{number}.png", _encoded(number))
        for (parts, suffix), content in files:
            with contextlib.suppress(UnicodeEncodeError, IndexError):  # a surrogate, or an empty name
                archive.writestr("/".join(parts) + suffix, content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root))
        data, message = None, ""
        try:
            data = load(root / "x.zip", skip=skip, validation=0.5)
        except UserError as error:
            message = str(error)
    assert message.isprintable()
    assert message or (data is not None and data.input_shape[1:] == (4, 4) and {"a", "b"} <= set(data.classes))
