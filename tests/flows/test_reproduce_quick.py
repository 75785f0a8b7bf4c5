"""`kd reproduce NAME --quick` of all reproductions with experiments, on MNIST and on a small imitation of CIFAR-10."""

import os
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flows.reproduce import ReproduceOptions, reproduce
from kdmodels.papers import REPRODUCTIONS
from kdmodels.papers.claims import Agreement
from tasks import tracking
from tasks.tracking.tags import Tag
from tasks.training_runs import recorded_network

pytestmark = [
    pytest.mark.usefixtures("module_store"),
    pytest.mark.fault,  # takes 10 s for each reproduction
    pytest.mark.skipif(not os.environ.get("KD_DATA"), reason="KD_DATA names no folder with MNIST/raw"),
]
LEFT_OUT = {
    "hinton-mnist": set(),
    "hinton-temperatures": {"alike at 300", "too cold at 30", "too hot at 30"},
    "ba-caruana-mnist": set(),
    "soft-feature-combined": {f"MNIST: {name}" for name in ("soft", "features", "combined", "combined with labels")},
    "mnist-transfer": set(),
    "cifar-tutorial": {"(teacher)", "hard-labels", "kd gain", "cosine gain", "regressor gain"},
    "hw13-cifar10": {"medium", "strong", "boss-fitnet", "boss-rkd", "boss-dm"},
}
"""The claims that need more students than a quick run trains."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the real MNIST, and a cifar10.zip of the same layout with 60 small images of each class."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "MNIST").symlink_to(Path(os.environ["KD_DATA"]) / "MNIST")
    generator = np.random.default_rng(0)
    with zipfile.ZipFile(folder / "cifar10.zip", "w") as archive:
        for split, count in (("train", 50), ("test", 10)):
            for label in range(10):
                for number in range(count):
                    pixels = generator.integers(0, 100, (32, 32, 3), dtype=np.uint8) + np.uint8(15 * label)
                    content = BytesIO()
                    Image.fromarray(pixels).save(content, "JPEG")
                    archive.writestr(f"cifar10/{split}/class{label}/{number:04}.jpg", content.getvalue())
    return folder


@pytest.mark.parametrize("name", [name for name, each in REPRODUCTIONS.items() if each.experiments])
def test_a_quick_run_measures_claims_and_decides_none(name: str, folder: Path) -> None:
    result = reproduce(name, ReproduceOptions(quick=True, data_dir=str(folder)))
    missing = {outcome.claim.name for outcome in result.outcomes if outcome.agreement == Agreement.NOT_RUN}
    assert missing == LEFT_OUT[name]
    measured = [outcome for outcome in result.outcomes if outcome.values]
    assert {outcome.agreement for outcome in measured} <= {Agreement.UNDECIDED}
    assert all(len(outcome.values) == 1 for outcome in measured)
    assert bool(result.tables) == (name != "hinton-mnist")  # whose claims say it all
    assert len(result.runs) == len(REPRODUCTIONS[name].experiments)


def test_transfer_sets_have_the_same_teacher_and_their_generators_are_no_champions(folder: Path) -> None:
    """The runs of the test before are reused."""
    reproduce("mnist-transfer", ReproduceOptions(quick=True, data_dir=str(folder)))
    teachers = [run for run in tracking.runs(kind="teacher", limit=1000) if run.experiment.startswith("mnist-transfer")]
    assert len(teachers) == 2  # one has data of its own, which are the same images
    one, other = (recorded_network(run.run_id, ())[0].state_dict() for run in teachers)
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    for part in REPRODUCTIONS["mnist-transfer"].experiments:
        if part.generator:
            assert tracking.champion(part.generator.file) is None
            (version,) = tracking.versions(part.generator.file)
            assert version.tags[Tag.REPRODUCTION] == "mnist-transfer"
