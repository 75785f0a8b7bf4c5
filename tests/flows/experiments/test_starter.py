"""The short file of `kd init --data`: what it contains for data and networks of each kind."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.experiments.starter import write_starter
from kdmodels.errors import UserError
from kdmodels.experiment.file import read_experiment


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photos of two classes and with weights, which is the current folder."""
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(3):
            image = Image.fromarray(np.full((20, 120, 3), index, np.uint8))
            image.save(tmp_path / "photos" / name / f"{index}.png")
    for name in ("resnet18.pt", "my-resnet56-best.pth", "vgg16_bn-6c64b313.pth", "wide_resnet50_2.pt", "best.pt"):
        (tmp_path / name).write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_for_photos_a_checkpoint_and_a_class_is_short(project: Path) -> None:
    write_starter(Path("mine.yaml"), "photos", "resnet18.pt", "nets:Small")
    text = (project / "mine.yaml").read_text()
    assert text.startswith("# 6 images in 2 classes.\n")
    assert len(text.splitlines()) <= 15
    experiment = read_experiment(project / "mine.yaml")
    assert experiment.name == "mine"
    assert (experiment.data.source, experiment.data.size) == (str(project / "photos"), [64, 64])
    assert experiment.teacher.checkpoint == str(project / "resnet18.pt")
    assert experiment.teacher.network is not None
    assert experiment.teacher.network.torchvision == "resnet18"
    assert experiment.student.network.module == "nets:Small"
    assert [variant.name for variant in experiment.variants] == ["hard-labels", "kd", "logit-regression"]


def test_paths_are_relative_to_the_file(project: Path) -> None:
    (project / "experiments").mkdir()
    write_starter(Path("experiments/mine.yaml"), "./photos", "resnet18.pt", None)
    text = (project / "experiments" / "mine.yaml").read_text()
    assert "source: ./../photos" in text
    assert "checkpoint: ./../resnet18.pt" in text
    assert str(project) not in text


@pytest.mark.parametrize(
    ("word", "field", "network"),
    [
        ("my-resnet56-best.pth", "name", "resnet56"),
        ("vgg16_bn-6c64b313.pth", "torchvision", "vgg16_bn"),
        ("wide_resnet50_2.pt", "torchvision", "wide_resnet50_2"),
        ("mobilenet_v3_small", "torchvision", "mobilenet_v3_small"),
        ("wrn_16_2", "name", "wrn_16_2"),
        ("nets:Big", "module", "nets:Big"),
    ],
)
def test_the_network_of_a_teacher_is_in_its_name(project: Path, word: str, field: str, network: str) -> None:
    write_starter(Path("mine.yaml"), "digits", word, None)
    teacher = read_experiment(project / "mine.yaml").teacher
    assert getattr(teacher.network, field) == network
    assert (teacher.checkpoint is None) == (teacher.epochs > 0)


@pytest.mark.parametrize(
    ("source", "teacher", "student", "message"),
    [
        ("digit", None, None, r"--data digit: does not exist\. Did you mean 'digits'\?"),
        ("photos", "absent.pt", None, "--teacher absent.pt: this file does not exist"),
        ("photos", "best.pt", None, "--teacher best.pt: the name of the file does not say which network it holds"),
        ("photos", None, "resnet57", r"--student resnet57: is not a network\. Did you mean 'resnet56'\?"),
        ("photos/cat", None, None, "--data photos/cat: "),
    ],
)
def test_a_mistake_writes_nothing(
    project: Path, source: str, teacher: str | None, student: str | None, message: str
) -> None:
    (project / "photos" / "cat" / "0.png").rename(project / "photos" / "cat" / "one.png")
    with pytest.raises(UserError, match=message):
        write_starter(Path("mine.yaml"), source, teacher, student)
    assert not (project / "mine.yaml").exists()
