"""The `kd` command without any store: mistakes, help, completion, the catalogue; each in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from flows.experiments import shipped
from kdmodels.report.losses import LEGEND, loss_rows

KD = Path(sys.executable).with_name("kd")
HEAVY = ("torch", "mlflow", "prefect", "pandas", "sklearn", "pydantic")
SMALL = """
name: small
data: digits
teacher: {network: {mlp: [32]}, epochs: 3}
student: {network: {mlp: [8]}, epochs: 2}
variants: [hard-labels, kd]
"""
Kd = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


@pytest.fixture
def kd(folder: Path) -> Kd:
    def kd(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [KD, *words], cwd=folder, env=os.environ | more, capture_output=True, text=True, timeout=60, check=False
        )

    return kd


def changed(*overrides: str) -> list[str]:
    return ["run", "small.yaml", *(word for override in overrides for word in ("--set", override))]


MISTAKES: list[tuple[list[str], int, str]] = [
    # Words of the command line.
    ([], 2, "Missing command"),
    (["frob"], 2, "No such command 'frob'"),
    (["predct", "x"], 2, "No such command 'predct'. Did you mean 'predict'?"),
    (["run"], 2, f"which experiment? allowed: {', '.join(shipped())}, or a file"),
    (["run", "digit"], 2, f"did you mean 'digits'? allowed: {', '.join(shipped())}"),
    (["run", "smal.yaml"], 2, "smal.yaml: is neither a file nor an experiment; did you mean 'small.yaml'? allowed: "),
    (["run", "."], 2, ".: is a folder, not an experiment file"),
    (["run", "digits", "mnist"], 2, "Got unexpected extra argument(s) (mnist)"),
    (["run", "digits", "--frehs"], 2, "No such option: --frehs"),
    (["run", "digits", "--set"], 2, "Option '--set' requires an argument"),
    (["run", "digits", "--set", "nothing"], 2, "--set nothing: allowed: key=value"),
    (["run", "digits", "--variants", "kd+hnt"], 2, "--variants: 'kd+hnt' is not a variant of digits; did you mean"),
    (["run", "digits", "--data-dir", "nowhere"], 2, "nowhere"),
    (["init", "small.yaml"], 2, "small.yaml: exists already; allowed: a new file"),
    (["init", "no/such/folder.yaml"], 2, "no/such/folder.yaml: No such file or directory"),
    (["variants", "dkk"], 2, "variant 'dkk' is not known; did you mean 'dkd'? allowed: hard-labels, "),
    (["list", "--limit", "0"], 2, "'--limit': Input should be greater than or equal to 1"),
    (["compare", "--csv", "--json"], 2, "--csv, --markdown and --json: allowed is one of them"),
    (["show", "kd", "--spec", "--json"], 2, "--spec, --json: allowed is one of them"),
    (["export", "x"], 2, "which format? allowed is one of: --pt2, --onnx, --int8"),
    (["export", "x", "--pt2", "--int8"], 2, "which format? allowed is one of: --pt2, --onnx, --int8"),
    (["promote", "--force"], 2, "--force and --reason TEXT: allowed is both or none; the text is kept with the versio"),
    (["promote", "--reason", "x"], 2, "--force and --reason TEXT: allowed is both or none; the text is kept with"),
    (["promote", "--force", "--reason", " "], 2, "--force and --reason TEXT: allowed is both or none; the text is"),
    (["rollback", "small-student", "--to", "0"], 2, "'--to': Input should be greater than or equal to 1"),
    (["predict", "small-student"], 2, "Missing argument 'PATH...'"),
    (["predict", "small-student", "no.png"], 2, "no.png"),
    (["ui", "--port", "99999"], 2, "'--port': Input should be less than or equal to 65535"),
    (["up", "--port", "5000"], 2, "--port 5000 and --mlflow-port 5000 are the same: choose two"),
    (["schedule"], 2, "allowed is one of: an experiment or a file, --list, --delete NAME"),
    (["schedule", "small.yaml", "--every", "0"], 2, "'--every': Input should be greater than or equal to 1"),
    (
        ["schedule", "small.yaml", "--cron", "0 3 * * *", "--timezone", "Mars"],
        2,
        "--timezone 'Mars' is not one (allowed",
    ),
    (["schedule", "small.yaml", "--cron", "0 25 * * *"], 2, "--cron '0 25 * * *' is not one (allowed: five fields, "),
    # The experiment file as a whole: what is no YAML has a line and a column.
    (["run", "wrong.yaml"], 2, "wrong.yaml:3: teachr: is not a field; did you mean 'teacher'? allowed: name, "),
    (["run", "empty.yaml"], 2, "empty.yaml: is empty; allowed: name, "),
    (["run", "list.yaml"], 2, 'list.yaml: holds ["kd"], not a mapping; allowed: name, '),
    (["run", "open.yaml"], 2, "open.yaml:3: is not YAML at column 8: expected ',' or '}', but got"),
    (["run", "tab.yaml"], 2, "tab.yaml:2: is not YAML at column 1: found character '\\t' that cannot start any token"),
    (["run", "bound.yaml"], 2, "bound.yaml:2: is not YAML at column 31: found character '>' that cannot start"),
    (
        ["run", "python.yaml"],
        2,
        "python.yaml:2: data: the tag !!python/object/apply:os.mkdir at column 7 is not r",
    ),
    (["run", "laughs.yaml"], 2, "laughs.yaml:2: is not YAML at column 8: an alias (*name) is not read: write the"),
    (["run", "deep.yaml"], 2, "deep.yaml:1: is not YAML at column 56: is nested more than 50 deep"),
    (["run", "latin.yaml"], 2, "latin.yaml:1: is not UTF-8 text at column 7"),
    (["run", "twice.yaml"], 2, "twice.yaml:2: name: stands twice, here at column 1, before in twice.yaml:1"),
    (["run", "/dev/zero"], 2, "/dev/zero: is larger than 100000 bytes: not an experiment file"),
    # Its values: near misses, ranges, types.
    (changed("student.epoch=3"), 2, "--set student.epoch: is not a field; did you mean 'epochs'? allowed: epochs, "),
    (changed("student.epochs=many"), 2, "--set student.epochs: 'many' is not a whole number (allowed: 1 to 1000000)"),
    (changed("student.epochs=1e9"), 2, "--set student.epochs: 1000000000.0 is not a whole number (allowed: 1 to 10000"),
    (changed("student.seeds=501"), 2, "--set student.seeds: 501 is out of range (allowed: 1 to 500)"),
    (changed("seed=-1"), 2, "--set seed: -1 is out of range (allowed: 0 to 4294967295)"),
    (changed("threads='2'"), 2, "--set threads: '2' is not a whole number (allowed: 1 to 1024, or null)"),
    (changed("device=gpu"), 2, "--set device: 'gpu' is not known; did you mean 'cpu'? allowed: auto, cpu, cuda, mps"),
    (changed("data=mnits"), 2, "--set data: data.source: 'mnits' is not a source; did you mean 'mnist'? allowed: "),
    (changed("data.validation=1.5"), 2, "1.5 is out of range (allowed: above 0 and below 1, or a folder's name, or"),
    (changed("data.augment=[{jiter: 2}]"), 2, "'jiter' is not an augmentation; did you mean 'jitter'? allowed: "),
    (changed("student.network.mlp=[0]"), 2, "student.network.mlp.0: 0 is out of range (allowed: 1 to 100000)"),
    (
        changed("student.network=resnet200"),
        2,
        "'resnet200' is not in the catalogue; did you mean 'resnet20'? allo",
    ),
    (changed("student.optimizer={adma: {}}"), 2, "'adma' is not known, or not built yet; did you mean 'adam'? allowed"),
    (changed("student.optimizer={sgd: {lr: 0}}"), 2, "student.optimizer.sgd.lr: 0 is out of range (allowed: above 0)"),
    (changed("student.schedule={cosin: {}}"), 2, "'cosin' is not known, or not built yet; did you mean 'cosine'?"),
    (changed("student.clip=1e400"), 2, "--set student.clip: Infinity is not a finite number"),
    (changed("variants=[hnt]"), 2, "variants.0: 'hnt' is not a preset; did you mean 'hint'? allowed: hard-labels, "),
    (changed("variants=[{name: x, terms: [hnt]}]"), 2, "'hnt' is not a loss; did you mean 'hint'? allowed: hard_la"),
    (changed("variants=[{kd: {temprature: 2}}]"), 2, "kd has no hyperparameter 'temprature'; did you mean 'temperatur"),
    (
        changed("variants=[{kd: {temperature: 0}}]"),
        2,
        "temperature: 0 is out of range (allowed: above 0 and below 1e+0",
    ),
    (changed("variants=[{hint: {at: 3}}]"), 2, "variants.0.hint.at: 3 is no place; allowed: first, middle, deepest, "),
    (changed("variants=[kd, kd]"), 2, "--set variants: variants.1: 'kd' stands twice; allowed: each name once"),
    (changed("promote.require.accuracy=0.9"), 2, "0.9 is not a bound (allowed: text such as '>= 0.95', or null)"),
    (changed("promote.report=[kdd]"), 2, "'kdd' is not a variant; did you mean 'kd'? allowed: hard-labels, kd"),
    (changed("runner.kind=dask"), 2, "--set runner.kind: 'dask' is not built yet; allowed: thread, process"),
    (changed("schedule.cron=61 * * * *"), 2, "'61 * * * *' is not a cron expression (allowed: five fields, as '0 3 *"),
    # Names that would leave their folder, or their line.
    (changed("name=../../x"), 2, "--set name: '../../x' is not a name (allowed: letters, digits, space . _ + = -, "),
    (changed("name=.."), 2, "--set name: '..' is not a name (allowed: letters, digits, space . _ + = -, beginning wit"),
    (changed('name="a\\0b"'), 2, "--set name: 'a\\x00b' is not a name (allowed: letters, digits, space . _ + = -,"),
    (changed('name="a\\n"'), 2, "--set name: 'a\\n' is not a name (allowed: letters, digits, space . _ + = -,"),
    (changed(f"name={'x' * 200}"), 2, "xxx... is too long (allowed: at most 92 characters)"),
    (changed("promote.model=a/b"), 2, "--set promote.model: 'a/b' is not a name (allowed: letters, digits, space . _"),
    (changed("variants=[{name: ../x, terms: kd}]"), 2, "variants.0.name: '../x' is not a name (allowed: letters, "),
    (changed("student.network=../nets:Net"), 2, "'../nets:Net' is not a place (allowed: package.module:Class)"),
    (changed("schedule={cron: 0 3 * * *, timezone: ../x}"), 2, "'../x' is not a time zone (allowed: such as Europe/B"),
    # What it names and is not there.
    (changed("data=./nowhere"), 2, "data.source: ./nowhere: there is no "),
    (changed("data={source: digits, transfer: {unlabelled: gone}}"), 2, "data.transfer.unlabelled: gone: there is no "),
    (changed("data=nowhere:load"), 2, "data.source: nowhere: there is no such module"),
    (changed("data=./gone.py:load"), 2, "data.source: ./gone.py: there is no such file"),
    (changed("student.network=nowhere.nets:Net"), 2, "network.module: nowhere.nets: there is no such module"),
    (changed("teacher={checkpoint: gone.pt, network: {mlp: [8]}}"), 2, "teacher.checkpoint: gone.pt: there is no "),
]
MORE_LINES = {"wrong.yaml": 3}  # a file's mistakes are a line each
WRONG = {
    "wrong.yaml": b"name: wrong\ndata: digits\nteachr: {}\n",
    "empty.yaml": b"",
    "list.yaml": b"- kd\n",
    "open.yaml": b"name: x\ndata: {source\nteacher: {}\n",
    "tab.yaml": b"name: x\n\tdata: digits\n",
    "bound.yaml": b"name: x\npromote: {require: {accuracy: >= 0.9}}\n",
    "python.yaml": b"name: x\ndata: !!python/object/apply:os.mkdir [ran]\n",
    "laughs.yaml": b"a: &a [lol, lol]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n",
    "deep.yaml": b"data: " + b"[" * 5000,
    "latin.yaml": b"name: \xe4",
    "twice.yaml": b"name: x\nname: y\n",
}


# `kd`, which writes down what it imported of the libraries that take seconds.
TOLD = """
import sys
from pathlib import Path
from flows import cli
place = Path(sys.argv.pop(1))
code = cli.main()
place.write_text(" ".join(sorted({"torch", "mlflow", "prefect"} & sys.modules.keys())))
sys.exit(code)
"""


class Failure(NamedTuple):
    done: "subprocess.CompletedProcess[str]"
    files: list[str]
    slow: list[str]


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> list[Failure]:
    """What each mistake ended with, which files were there then and what it had imported; two commands at a time."""

    prefect = tmp_path_factory.mktemp("prefect")  # importing it makes its folder
    imported = tmp_path_factory.mktemp("imported")

    def fail(words: list[str]) -> Failure:
        folder = tmp_path_factory.mktemp("mistake")
        (folder / "small.yaml").write_text(SMALL)
        (folder / words[-1]).write_bytes(WRONG[words[-1]]) if words and words[-1] in WRONG else None
        own = ("MLFLOW_", "PREFECT_", "KD_", "XDG_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        done = subprocess.run(
            [sys.executable, "-c", TOLD, str(imported / folder.name), *words],
            cwd=folder,
            env=kept | {"HOME": str(folder), "PREFECT_HOME": str(prefect)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        slow = (imported / folder.name).read_text().split()
        return Failure(done, sorted(str(path.relative_to(folder)) for path in folder.rglob("*")), slow)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(fail, [words for words, _, _ in MISTAKES]))


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=[" ".join(words)[:60] for words, _, _ in MISTAKES])
def test_a_mistake_is_one_clear_line(failures: list[Failure], number: int) -> None:
    (words, code, told), (failed, there, slow) = MISTAKES[number], failures[number]
    assert slow == []  # so it took less than a second
    assert failed.returncode == code, failed.stderr
    assert failed.stdout == ""
    lines = failed.stderr.splitlines()
    assert told in failed.stderr
    assert all(line.startswith("kd: error: ") for line in lines), failed.stderr
    assert len(lines) == MORE_LINES.get(words[-1] if words else "", 1), failed.stderr
    assert set(there) == {"small.yaml", *([words[-1]] if words and words[-1] in WRONG else [])}


def test_debug_shows_where_a_mistake_was_found(kd: Kd) -> None:
    for failed in (kd("--debug", "run", "digit"), kd("run", "digit", KD_DEBUG="1")):
        assert failed.returncode == 2
        assert "Traceback" in failed.stderr
        assert failed.stderr.splitlines()[-1].startswith("kd: error: digit: ")


def test_help_and_a_bad_experiment_import_nothing_heavy() -> None:
    script = (
        "import sys; from flows import cli; sys.argv = ['kd', *{words}]\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    for words, heavy in ((["--help"], HEAVY), (["run", "--help"], HEAVY[:-1]), (["run", "digit"], HEAVY[:-1])):
        command = [sys.executable, "-c", script.format(words=words, heavy=heavy)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert done.stderr.splitlines()[-1] == "[]", words


def complete(folder: Path, line: str) -> list[str]:
    words = line.split(" ")
    asked = {"_KD_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run([KD], cwd=folder, env=os.environ | asked, capture_output=True, text=True, timeout=60)
    return done.stdout.split()


def test_the_shell_completes_experiments_and_variants(folder: Path) -> None:
    assert complete(folder, "kd run m") == ["mnist", "mnist-losses"]
    assert complete(folder, "kd run small.yaml --variants k") == ["kd"]
    assert complete(folder, "kd run small.yaml --variants kd,h") == ["kd,hard-labels"]
    assert complete(folder, "kd run nothing --variants k") == []


def test_a_reader_that_has_enough_is_no_error(folder: Path) -> None:
    with subprocess.Popen(
        [KD, "variants", "--json"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        assert process.stderr.read() == b""


def test_init_writes_a_file_that_can_be_run(kd: Kd, folder: Path) -> None:
    assert kd("init", "mine.yaml").returncode == 0
    assert "variants:" in (folder / "mine.yaml").read_text()
    assert kd("run", "mine.yaml", "--variants", "nothing").stderr.startswith("kd: error: --variants: 'nothing'")
    assert not list(folder.glob(".partial-*"))


def test_init_writes_through_no_link(kd: Kd, folder: Path) -> None:
    """A link to nothing too: what it names is not made."""
    (folder / "victim").write_text("precious")
    for name, target in (("to-a-file.yaml", "victim"), ("to-nothing.yaml", "nothing")):
        (folder / name).symlink_to(folder / target)
        done = kd("init", name)
        assert (done.returncode, done.stderr) == (2, f"kd: error: {name}: exists already; allowed: a new file\n")
        assert (folder / name).is_symlink()
    assert (folder / "victim").read_text() == "precious"
    assert not (folder / "nothing").exists()


def test_variants_lists_the_catalogue(kd: Kd) -> None:
    named: dict[str, Any] = {row["name"]: row for row in json.loads(kd("variants", "--json").stdout)["variants"]}
    assert named["kd"]["terms"] == ["0.1 hard_labels", "0.9 soft_targets, temperature 4"]
    assert named["kd"]["paper"].startswith("Hinton")
    table = kd("variants").stdout
    assert all(name in table for name in named)
    assert all(row[key] in table for row in loss_rows() for key in row)
    assert "\n".join(LEGEND) in table
    one = kd("variants", "kd").stdout
    assert "T² KL(softmax(z_t / T) ‖ softmax(z_s / T))" in one
    assert "mean over classes" not in one
    assert "did you mean 'dkd'?" in kd("variants", "dk").stderr
