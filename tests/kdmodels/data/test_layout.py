"""Splits and classes derived from paths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdmodels.data.layout import read_layout
from kdmodels.errors import UserError


def folders(paths: list[str]) -> set[str]:
    return {path.rsplit("/", depth)[0] for path in paths for depth in range(1, path.count("/") + 1)}


def test_class_folders_alone_give_one_split() -> None:
    paths = ["cat/1.png", "dog/a/2.png", "dog/3.png"]
    layout = read_layout(paths, folders(paths))
    assert layout.paths == {"train": ["cat/1.png", "dog/3.png", "dog/a/2.png"]}
    assert layout.labels == {"train": ["cat", "dog", "dog"]}
    assert layout.notes == []


@pytest.mark.parametrize("around", ["", "cifar10/"])
@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "valid", "eval")])
def test_split_folders_are_recognised_also_one_level_down(around: str, names: tuple[str, str, str]) -> None:
    paths = [f"{around}{split}/{kind}/{n}.png" for split in names for kind in ("cat", "dog") for n in (1, 2)]
    layout = read_layout(paths, folders(paths))
    assert layout.labels == {split: ["cat", "cat", "dog", "dog"] for split in ("train", "validation", "test")}
    assert layout.paths["test"] == [path for path in paths if f"{around}{names[2]}/" in path]


def test_numbered_files_in_split_folders_have_their_number_as_class() -> None:
    paths = ["food/training/0_1.jpg", "food/training/10_22.jpg", "food/validation/0_7.jpg", "food/evaluation/10_1.jpg"]
    layout = read_layout(paths, folders(paths))
    assert layout.labels == {"train": ["0", "10"], "validation": ["0"], "test": ["10"]}


def test_classes_may_have_the_names_of_splits() -> None:
    paths = ["train/a.jpg", "car/b.jpg", "bus/c.jpg"]
    assert read_layout(paths, folders(paths)).labels == {"train": ["bus", "car", "train"]}


def test_images_without_a_split_or_a_class_are_left_out_with_a_note() -> None:
    paths = ["train/a/1.png", "train/b/1.png", "test/1.png", "unlabelled/1.png", "unlabelled/2.png", "cover.png"]
    layout = read_layout(paths, folders(paths))
    assert layout.labels == {"train": ["a", "b"]}
    assert layout.notes == [
        "left out, because they are not in a split's folder: cover.png",
        "test/: 1 images left out, because its images have no class",
        "unlabelled/: 2 images left out, because the folder's name is not a split",
    ]


def test_the_validation_folder_may_have_any_name() -> None:
    paths = [f"{split}/{kind}/1.png" for split in ("train", "val", "holdout") for kind in ("a", "b")]
    layout = read_layout(paths, folders(paths), "holdout")
    assert layout.paths["validation"] == ["holdout/a/1.png", "holdout/b/1.png"]
    assert layout.notes == ["val/: 2 images left out, because the folder's name is not a split"]
    with pytest.raises(UserError, match=r"'hold' is not a folder of images\. Did you mean 'holdout'\?"):
        read_layout(paths, folders(paths), "hold")
    with pytest.raises(UserError, match="has no train folder beside it"):
        read_layout(["a/1.png", "b/1.png"], {"a", "b"}, "b")


def test_unicode_forms_of_a_name_are_one_class() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    paths = [f"train/{composed}/1.png", f"test/{decomposed}/1.png"]
    labels = read_layout(paths, folders(paths)).labels
    assert labels == {"train": [composed], "test": [composed]}


@pytest.mark.parametrize(
    ("paths", "empty", "message"),
    [
        ([], [], "there is no image. Allowed: a folder per class"),
        (["1.png", "2.png"], [], "1.png has no class. Allowed: a folder per class"),
        (["cat/1.png"], [], "all images are in one folder, cat, so there is only one class"),
        (["cat/1.png", "dog/1.png", "3.png"], [], "the top folder: has images beside class folders: 3.png"),
        (["train/cat/1.png", "train/2.png", "test/cat/1.png"], [], "train: has images beside class folders: 2.png"),
        (["cat/1.png", "dog/1.png"], ["bird"], "folders without an image: bird. Allowed: at least one"),
        (["train/a/1.png", "train/b/1.png"], ["train/c"], "folders without an image: train/c"),
        (["train/a/1.png", "train/b/1.png"], ["test"], "folders without an image: test"),
        (["train/a/1.png", "val/a/1.png", "valid/a/1.png"], [], "val, valid: are folders of the same split"),
    ],
)
def test_ambiguous_folders_are_reported_in_one_line(paths: list[str], empty: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        read_layout(paths, folders(paths) | set(empty))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


NAMES = st.lists(st.sampled_from(["train", "test", "val", "a", "b", "1_2.png", "x.png"]), min_size=1, max_size=4)


@given(st.lists(NAMES.map("/".join), unique=True, max_size=8))
def test_any_tree_is_sorted_or_refused(paths: list[str]) -> None:
    """Each image is in at most one split, and has a class."""
    try:
        layout = read_layout(paths, folders(paths))
    except UserError:
        return
    images = [path for paths in layout.paths.values() for path in paths]
    assert len(images) == len(set(images))
    assert set(images) <= set(paths)
    assert "train" in layout.paths
    assert {split: len(paths) for split, paths in layout.paths.items()} == {
        split: len(labels) for split, labels in layout.labels.items()
    }
    assert all(label for labels in layout.labels.values() for label in labels)
