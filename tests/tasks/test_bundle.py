"""Bundles: a comparison goes from one store into another, and nothing else gets in."""

import shutil
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from kdmodels.errors import UserError
from tasks import bundle, results, tracking
from tasks.bundle import import_bundle, write_bundle
from tasks.model_history import read_history
from tasks.queries import compare, spec
from tasks.report_contents import read_contents
from tasks.tracking.contents import model_uri
from tasks.tracking.served import load_model
from tasks.tracking.tags import Tag
from tests.conftest import Recorded

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def written(recorded_once: Recorded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The bundle of a comparison whose control was trained by an earlier comparison."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", recorded_once.uri)
        tracking.configure()
        yield write_bundle(recorded_once.again, tmp_path_factory.mktemp("bundle") / "run.zip")


@pytest.fixture
def elsewhere(new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure an empty store."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "elsewhere"))
    tracking.configure()


def read(file: Path) -> Files:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(file: Path, files: Files, *, sums: bool = True) -> Path:
    """Write a zip file. With `sums`, the checksums match the files."""
    if sums:
        lines = [f"{sha256(text).hexdigest()}  {name}\n" for name, text in files.items() if name != bundle.SUMS]
        files = files | {bundle.SUMS: "".join(lines).encode()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return file


def test_a_bundle_gives_the_same_results_in_another_store(
    recorded: Recorded, written: Path, new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, correctness = compare([recorded.again])
    by_variant = {row.variant: row for row in rows}
    images = np.random.default_rng(0).random((20, 1, 8, 8), dtype=np.float32)
    logits = {row.variant: load_model(str(model_uri(str(row.run_id))))(images) for row in rows}
    text = spec(recorded.again)
    versions = len(tracking.versions("small-student"))

    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "elsewhere"))
    comparison = import_bundle(written)
    assert (comparison.kind, comparison.experiment, comparison.status) == ("comparison", "small", "FINISHED")
    again, right = compare([comparison.run_id])
    assert {row.variant for row in again} == by_variant.keys()
    for row in again:
        assert row == by_variant[row.variant].model_copy(update={"run_id": row.run_id})
        assert row.run_id is not None
        assert row.run_id != by_variant[row.variant].run_id
        before = correctness[str(by_variant[row.variant].run_id)]
        np.testing.assert_array_equal(right[row.run_id].outcomes, before.outcomes)
        np.testing.assert_array_equal(load_model(str(model_uri(row.run_id)))(images), logits[row.variant])
    assert read_contents(comparison).verdict is not None
    assert spec(comparison.run_id).splitlines()[2:] == text.splitlines()[2:]
    runs = tracking.every_run()
    assert {run.parent for run in runs} == {None, comparison.run_id}
    assert all(run.tags[Tag.IMPORTED_FROM] != run.run_id for run in runs)
    teacher = tracking.get(comparison.tags[Tag.TEACHER_RUN])
    assert (teacher.kind, tracking.has_artifact(teacher.run_id, results.KNOWLEDGE)) == ("teacher", False)

    with pytest.raises(UserError, match=rf"already in this store, as small \({comparison.run_id}\)"):
        import_bundle(written)
    assert len(tracking.every_run()) == len(runs)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", recorded.uri)
    with pytest.raises(UserError, match="already in this store"):
        import_bundle(written)
    assert len(read_history("small-student").versions) == versions


def test_stored_checkpoints_are_left_out(recorded: Recorded, tmp_path: Path) -> None:
    (tmp_path / "newest").mkdir()
    (tmp_path / "newest" / "stack.safetensors").write_bytes(b"weights")
    tracking.log_folder(recorded.again, tmp_path / "newest", "checkpoints/newest")
    assert tracking.has_artifact(recorded.again, "checkpoints")
    files = read(write_bundle(recorded.again, tmp_path / "run.zip"))
    assert not [name for name in files if "checkpoints" in name]


def test_a_bundle_can_be_read_without_kdflow(written: Path) -> None:
    files = read(written)
    assert {"bundle.json", "SHA256SUMS", "report.html", "experiment.yaml", "model.onnx"} <= files.keys()
    assert b"<html" in files["report.html"]
    assert b"name: small" in files["experiment.yaml"]
    sums = dict(line.split("  ")[::-1] for line in files["SHA256SUMS"].decode().splitlines())  # as sha256sum writes
    assert sums == {name: sha256(text).hexdigest() for name, text in files.items() if name != "SHA256SUMS"}
    assert not [name for name in files if "knowledge" in name or "trained_on" in name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../outside.json", r"has no file '\.\./outside\.json'"),
        ("/tmp/outside.json", "has no file '/tmp/outside.json'"),
        (f"runs/{'0' * 32}/artifacts/../../../outside.json", "has no file"),
        (f"runs/{'0' * 32}/artifacts/a\\b.json", "has no file"),
        (f"runs/{'0' * 32}/artifacts/page.html", "has no file"),
        (f"runs/{'0' * 32}/artifacts/weights.pt", "has no file"),
        (f"runs/{'0' * 32}/artifacts/.hidden.json", "has no file"),
        (f"runs/{'0' * 32}/artifacts/stray.json", "does not describe a comparison and the runs in the bundle"),
        ("bundle.json", "bundle.json: : Invalid JSON"),
    ],
)
def test_a_hostile_file_is_refused(written: Path, elsewhere: None, tmp_path: Path, name: str, message: str) -> None:
    file = pack(tmp_path / "hostile.zip", read(written) | {name: b"1,"})
    with pytest.raises(UserError, match=message):
        import_bundle(file)
    assert tracking.every_run() == []
    assert not list(tmp_path.rglob("outside.json"))


def test_a_damaged_or_large_bundle_is_refused(
    written: Path, elsewhere: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = read(written)
    model = next(name for name in files if name.endswith("model.onnx"))
    changed = pack(tmp_path / "changed.zip", files | {model: files[model] + b"x"}, sums=False)
    missing = pack(tmp_path / "missing.zip", {name: text for name, text in files.items() if name != model}, sums=False)
    cut = tmp_path / "cut.zip"
    cut.write_bytes(written.read_bytes()[:-100])
    flipped = tmp_path / "flipped.zip"
    flipped.write_bytes(bytes(byte ^ (at == 200) for at, byte in enumerate(written.read_bytes())))
    other = pack(tmp_path / "other.zip", {})
    for file, message in [
        (changed, "the checksum of 'model.onnx' does not match"),
        (missing, "the checksum of 'model.onnx' does not match"),
        (cut, "is not a readable zip file"),
        (flipped, "flipped.zip: "),
        (other, "is not a bundle of kd bundle"),
        (tmp_path / "absent.zip", "absent.zip: can't be read: No such file"),
    ]:
        with pytest.raises(UserError, match=message):
            import_bundle(file)
    with monkeypatch.context() as patch:
        patch.setattr(bundle, "LARGEST", 1000)
        with pytest.raises(UserError, match=r"files and [0-9]+ bytes\. Allowed: 200000 files and 1000 bytes"):
            import_bundle(written)
    assert tracking.every_run() == []


def test_a_link_in_a_bundle_is_stored_as_a_file(written: Path, elsewhere: None, tmp_path: Path) -> None:
    """A zip file marks a link by its mode. The content, which is the target, then fails its check."""
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    file = tmp_path / "link.zip"
    shutil.copyfile(written, file)
    (run_id, *_) = sorted(name.split("/")[1] for name in read(written) if name.startswith("runs/"))
    link = zipfile.ZipInfo(f"runs/{run_id}/artifacts/link.json")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(link, str(secret))
    with pytest.raises(UserError, match=r"the checksum of 'runs/.*/link\.json' does not match"):
        import_bundle(file)


def test_an_interrupted_import_leaves_nothing(written: Path, elsewhere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*words: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bundle, "log_model", interrupt)
        with pytest.raises(KeyboardInterrupt):
            import_bundle(written)
    assert tracking.every_run() == []
    assert import_bundle(written).status == "FINISHED"
