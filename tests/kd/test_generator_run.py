"""`kd run` with the file of a generator: the plan, the measures, the verdict, and options that do not apply."""

import json
from pathlib import Path

import pytest
import yaml

from tests.conftest import Here
from tests.kd.conftest import Kd

MADE = {
    "name": "made",
    "threads": 1,
    "data": {"source": "digits", "validation": 0.2},
    "judge": {"network": {"mlp": [16]}, "epochs": 1},
    "generator": {"vae": {"hidden": [16], "latent": 2}, "epochs": 2},
}


@pytest.fixture(scope="module")
def file(folder: Path) -> str:
    (folder / "made.yaml").write_text(yaml.safe_dump(MADE))
    return "made.yaml"


def test_the_plan_is_shown_and_then_carried_out(kd: Kd, file: str) -> None:
    planned = kd("run", file, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert [line.split()[:2] for line in planned.stdout.splitlines()[1:3]] == [
        ["teacher", "train"],
        ["generator", "train"],
    ]
    done = kd("run", file)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("made: vae, 2 epochs; starting\n")
    assert "Fréchet distance to the validation images, lower is better" in done.stdout
    assert "generator: training, 2 epochs" in done.stderr
    assert done.stdout.startswith("verdict   made is not promoted: mode collapse: ")
    again = json.loads(kd("run", file, "--json").stdout)
    assert (again["judge"]["reused"], again["generator"]["reused"]) == (True, True)
    assert again["generator"]["metrics"]["epoch"] == 2
    assert set(again["seconds"]) == {"total", "data", "judge", "generator", "promote"}
    watched = kd("watch", again["parent_run_id"])
    assert watched.returncode == 0, watched.stderr
    assert again["verdict"]["reason"] in watched.stdout


def test_a_refused_generator_has_its_own_exit_code(kd: Kd, file: str) -> None:
    """One number in a code, behind one hidden unit, can't hold ten digits, so the images collapse."""
    tiny = ("--set", "generator.vae.latent=1", "--set", "generator.vae.hidden=[1]", "--set", "name=tiny")
    done = kd("run", file, *tiny, "--require-promotion", "--quiet")
    assert done.returncode == 4, done.stdout
    assert "tiny is not promoted: mode collapse: " in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "made.yaml", "--variants", "kd"], "--variants: made.yaml trains a generator, which has no variants"),
        (["schedule", "made.yaml"], "a schedule needs one of --cron '0 3 * * *' and --every SECONDS"),
        (["run", "made.yaml", "--set", "judge.network.mlp=[0]"], "judge.network.mlp"),
        (["run", "made.yaml", "--set", "judge.checkpoint=none.pt"], "judge.epochs: has no effect on"),
        (
            ["run", "made.yaml", "--set", "judge={network: {mlp: [16]}, checkpoint: none.pt}"],
            "judge.checkpoint: none.pt: ",
        ),
        (["teacher", "made.yaml"], "made.yaml: trains a generator. Allowed: an experiment"),
        (["run", "made.yaml", "--set", "generator.vae.latent=0"], "generator.vae.latent"),
    ],
)
def test_what_does_not_apply_is_refused_in_one_line(
    kd_here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("made.yaml").write_text(yaml.safe_dump(MADE))
    code, _, error = kd_here(*words)
    assert code == 2
    assert message in error
    assert "Traceback" not in error
    assert len(error.splitlines()) == 1
