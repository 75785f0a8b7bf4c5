"""Images of a registered generator: classes, seeds, and models that make no images."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdmodels.errors import UserError
from tasks import tracking
from tasks.generator_results import record_model
from tasks.predict import predict
from tasks.sample import columns_of, sample, write_png
from tests.kdmodels.generators.test_build import describe


@pytest.fixture(scope="module", autouse=True)
def registered(new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Register a generator with classes, one without, and a model that is no generator."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("sample")))
        tracking.configure()
        for name, conditional in (("asked", True), ("free", False), ("other", False)):
            run_id = tracking.start(name, "generator", "generator")
            description = describe("gan", conditional=conditional)
            record_model(run_id, description, description.build().eval())
            tags = {} if name == "other" else {"kd.kind": "generator"}
            tracking.set_champion(tracking.register(name, run_id, tags=tags, description=""))
        yield


def test_images_depend_on_class_and_seed() -> None:
    images, served = sample("asked@champion", 4)
    assert images.shape == (4, 1, 4, 4)
    assert served.classes == ["a", "b"]
    only_b, _ = sample("models:/asked/1", 4, name="b")
    np.testing.assert_allclose(only_b[1::2], images[1::2], atol=1e-6)  # without a class, a and b take turns
    assert not np.allclose(only_b[::2], images[::2])
    assert not np.allclose(sample("asked", 4, seed=1)[0], images)


def test_a_column_shows_one_class_if_classes_take_turns() -> None:
    _, asked = sample("asked", 1)
    _, free = sample("free", 1)
    assert [columns_of(64, asked, None), columns_of(64, asked, "a"), columns_of(64, free, None)] == [2, 8, 8]
    assert columns_of(1, free, None) == 1


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        ("asked", "c", "--class c: asked does not know this class. Allowed: a, b"),
        ("free", "a", "--class a: free makes images without a given class. Allowed: a generator that was trained"),
        ("other", None, "model 'other' is not a generator. Allowed: a generator, e.g. of kd run vae-mnist"),
        ("aksed", None, "Did you mean 'asked'?"),
        ("asked/7", None, "has no version 7"),
    ],
)
def test_a_wrong_model_or_class_is_refused_in_one_line(model: str, name: str | None, message: str) -> None:
    with pytest.raises(UserError) as raised:
        sample(model, 4, name=name)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_generator_does_not_classify(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "image.png")
    with pytest.raises(UserError, match=r"^model 'asked' is a generator, which makes images \(kd sample\)\. Allowed: "):
        predict("asked", [tmp_path / "image.png"])


def test_a_picture_that_can_not_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"grid\.png: can't be written: No such file or directory$"):
        write_png(b"", tmp_path / "absent" / "grid.png")


WITHOUT_TORCH = """
import sys
from kd import main as cli

code = cli.main()
assert "torch" not in sys.modules
sys.exit(code)
"""


def test_the_command_writes_a_grid_without_torch(tmp_path: Path) -> None:
    file = tmp_path / "grid.png"
    words = ["sample", "asked", "-n", "6", "--class", "b", "--seed", "3", "-o", str(file)]
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr == f"wrote 6 images to {file}\n"
    assert Image.open(file).size == (2 * (2 * 5 + 1), 2 * (3 * 5 + 1))
