"""Mistakes in what the user typed or wrote: each ends in one clear line and the right exit code."""

import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from flows.experiments import shipped
from kd import main
from kd.main import COMMANDS
from tests.conftest import SMALL, Here

# Modules of these commands import MLflow, and some torch, at their top. Others report a mistake within a second.
IMPORT_THE_STORE = {*COMMANDS} - {"run", "init", "variants"}


def changed(*overrides: str) -> list[str]:
    return ["run", "small.yaml", *(word for override in overrides for word in ("--set", override))]


MISTAKES: list[tuple[list[str], int, str]] = [
    # Words of the command line.
    ([], 2, "Missing command"),
    (["frob"], 2, "No such command 'frob'"),
    (["predct", "x"], 2, "No such command 'predct'. Did you mean 'predict', 'reject'?"),
    (["run"], 2, f"which experiment? Allowed: {', '.join(shipped())}, or a file"),
    (["run", "digit"], 2, f"Did you mean 'digits'? Allowed: {', '.join(shipped())}"),
    (["run", "smal.yaml"], 2, "smal.yaml: is neither a file nor an experiment. Did you mean 'small.yaml'? Allowed: "),
    (["run", "."], 2, ".: is a folder, not an experiment file"),
    (["run", "digits", "mnist"], 2, "Got unexpected extra argument(s) (mnist)"),
    (["run", "digits", "--frehs"], 2, "No such option: --frehs"),
    (["run", "digits", "--set"], 2, "Option '--set' requires an argument"),
    (["run", "digits", "--set", "nothing"], 2, "--set nothing: expected key=value"),
    (["run", "digits", "--variants", "kd+hnt"], 2, "--variants: 'kd+hnt' is not a variant of digits. Did you mean"),
    (["run", "digits", "--data-dir", "nowhere"], 2, "nowhere"),
    (["init", "small.yaml"], 2, "small.yaml: exists already. Choose another file name"),
    (["init", "no/such/folder.yaml"], 2, "no/such/folder.yaml: the folder no/such does not exist"),
    (["variants", "dkk"], 2, "variant 'dkk' is not known. Did you mean 'dkd'? Allowed: hard-labels, "),
    (["list", "--limit", "0"], 2, "'--limit': Input should be greater than or equal to 1"),
    (["compare", "--csv", "--json"], 2, "--csv, --markdown, --json: expected at most one of these options"),
    (["show", "kd", "--spec", "--json"], 2, "--spec, --json: expected at most one of these options"),
    (["export", "x"], 2, "expected one format. Allowed: --pt2, --onnx, --int8"),
    (["export", "x", "--pt2", "--int8"], 2, "expected one format. Allowed: --pt2, --onnx, --int8"),
    (["promote", "--force"], 2, "--force and --reason TEXT: expected both, with a text that is not blank, or neither."),
    (
        ["promote", "--reason", "x"],
        2,
        "--force and --reason TEXT: expected both, with a text that is not blank, or neither.",
    ),
    (
        ["promote", "--force", "--reason", " "],
        2,
        "--force and --reason TEXT: expected both, with a text that is not blank, or neither.",
    ),
    (["rollback", "small-student", "--to", "0"], 2, "'--to': Input should be greater than or equal to 1"),
    (["predict", "small-student"], 2, "Missing argument 'PATH...'"),
    (["predict", "small-student", "no.png"], 2, "no.png"),
    (["ui", "--port", "99999"], 2, "'--port': Input should be less than or equal to 65535"),
    (["up", "--port", "5000"], 2, "--port 5000: the MLflow server has the same port (--mlflow-port). Choose another"),
    (["schedule"], 2, "expected one of: an experiment or a file, --list, --pause NAME, --resume NAME, --delete NAME"),
    (["schedule", "small.yaml", "--every", "0"], 2, "'--every': Input should be greater than or equal to 1"),
    (
        ["schedule", "small.yaml", "--cron", "0 3 * * *", "--timezone", "Mars"],
        2,
        "--timezone: expected a time zone, e.g. Europe/Berlin, got 'Mars'",
    ),
    (
        ["schedule", "small.yaml", "--cron", "0 25 * * *"],
        2,
        "day of the week 0-7), got '0 25 * * *'",
    ),
    # The experiment file as a whole. YAML errors have a line and a column.
    (["run", "wrong.yaml"], 2, "wrong.yaml:3: teachr: unknown field. Did you mean 'teacher'? Allowed: name, "),
    (["run", "empty.yaml"], 2, "empty.yaml: is empty. The fields of an experiment: name, "),
    (["run", "list.yaml"], 2, 'list.yaml: expected a mapping, got ["kd"]. The fields of an experiment: name, '),
    (["run", "open.yaml"], 2, "open.yaml:3: invalid YAML at column 8: expected ',' or '}', but got"),
    (["run", "tab.yaml"], 2, "tab.yaml:2: invalid YAML at column 1: found character '\\t', which is not allowed here"),
    (["run", "bound.yaml"], 2, "bound.yaml:2: invalid YAML at column 31: found character '>', which is not"),
    (
        ["run", "python.yaml"],
        2,
        "python.yaml:2: data: the tag !!python/object/apply:os.mkdir at column 7 is not a",
    ),
    (["run", "laughs.yaml"], 2, "laughs.yaml:2: column 8: an alias (*name) is not allowed; write o"),
    (["run", "deep.yaml"], 2, "deep.yaml:1: column 56: nested more than 50 levels deep"),
    (["run", "latin.yaml"], 2, "latin.yaml:1: not UTF-8 text at column 7"),
    (["run", "twice.yaml"], 2, "twice.yaml:2: name: already given at twice.yaml:1, and again here at column 1"),
    (["run", "/dev/zero"], 2, "/dev/zero: not an experiment file: it is larger than 100000 bytes"),
    # Its values: near misses, ranges, types.
    (changed("student.epoch=3"), 2, "--set student.epoch: unknown field. Did you mean 'epochs'? Allowed: epochs, "),
    (changed("student.epochs=many"), 2, "--set student.epochs: expected a whole number from 1 to 1000000, got 'many'"),
    (
        changed("student.epochs=1e9"),
        2,
        "--set student.epochs: expected a whole number from 1 to 1000000, got 1000000000.0",
    ),
    (changed("student.seeds=501"), 2, "--set student.seeds: expected a whole number from 1 to 500, got 501"),
    (changed("seed=-1"), 2, "--set seed: expected a whole number from 0 to 4294967295, got -1"),
    (changed("threads='2'"), 2, "--set threads: expected a whole number from 1 to 1024, or null, got '2'"),
    (changed("device=gpu"), 2, "--set device: unknown value 'gpu'. Did you mean 'cpu'? Allowed: auto, cpu, cuda, mps"),
    (changed("data=mnits"), 2, "--set data: data.source: unknown source 'mnits'. Did you mean 'mnist'? Allowed: "),
    (changed("data.validation=1.5"), 2, "expected a fraction above 0 and below 1, a folder's name, or null, got 1.5"),
    (changed("data.augment=[{jiter: 2}]"), 2, "unknown augmentation 'jiter'. Did you mean 'jitter'? Allowed: "),
    (changed("student.network.mlp=[0]"), 2, "student.network.mlp.0: expected a whole number from 1 to 100000, got 0"),
    (
        changed("student.network=resnet200"),
        2,
        "unknown network 'resnet200'. Did you mean 'resnet20'? Allo",
    ),
    (changed("student.optimizer={adma: {}}"), 2, "unknown optimizer 'adma'. Did you mean 'adam'? Allowed"),
    (changed("student.optimizer={sgd: {lr: 0}}"), 2, "student.optimizer.sgd.lr: expected a number above 0, got 0"),
    (changed("student.schedule={cosin: {}}"), 2, "unknown schedule 'cosin'. Did you mean 'cosine'?"),
    (changed("student.clip=1e400"), 2, "--set student.clip: expected a finite number, got Infinity"),
    (changed("variants=[hnt]"), 2, "variants.0: unknown preset 'hnt'. Did you mean 'hint'? Allowed: hard-labels, "),
    (changed("variants=[{name: x, terms: [hnt]}]"), 2, "unknown loss 'hnt'. Did you mean 'hint'? Allowed: hard_la"),
    (changed("variants=[{kd: {temprature: 2}}]"), 2, "kd has no hyperparameter 'temprature'. Did you mean 'temperatur"),
    (
        changed("variants=[{kd: {temperature: 0}}]"),
        2,
        "temperature: 0 is out of range. Allowed: above 0 and below 1e+0",
    ),
    (
        changed("variants=[{hint: {at: 3}}]"),
        2,
        "variants.0.hint.at: expected a place in the network, got 3. Allowed: first, middle, deepest, ",
    ),
    (
        changed("variants=[{name: x, terms: hard-labels, equal_steps: true}]"),
        2,
        "variants.0.equal_steps: true is allowed only with unlabelled images, because otherwise no variant takes",
    ),
    (
        changed("variants=[{name: x, terms: kd, equal_steps: true}]"),
        2,
        "variants.0.equal_steps: true is allowed only for a control, i.e. a variant whose only term is hard_labels",
    ),
    (changed("variants=[kd, kd]"), 2, "--set variants: variants.1: 'kd' appears twice. Each name may appear only once"),
    (changed("promote.require.accuracy=0.9"), 2, "expected a bound such as '>= 0.95', or null, got 0.9"),
    (changed("promote.report=[kdd]"), 2, "unknown variant 'kdd'. Did you mean 'kd'? Allowed: hard-labels, kd"),
    (changed("tune.trials=1"), 2, "--set tune.trials: expected a whole number from 2 to 1000, got 1"),
    (changed("tune.space={lr: 1}"), 2, "tune.space.lr: expected two positive numbers, the smaller one first, got 1"),
    (
        changed("tune.space={temprature: [1, 2]}"),
        2,
        "tune.space.temprature: no variant has a hyperparameter 'temprature' to tune. Did you",
    ),
    (
        changed("tune.space={temperature: [1, 1e9]}"),
        2,
        "tune.space.temperature: 1000000000.0 is out of range. Allowed: ",
    ),
    (
        changed("student.schedule={cosine: {warmup: 2}}", "tune.epochs=2"),
        2,
        "tune.epochs: expected more epochs than the 2",
    ),
    (
        changed("student.epochs=3", "tune.epochs=4"),
        2,
        "tune.epochs: expected at most 3, the epochs of the student, got 4",
    ),
    (
        changed("runner.kind=spark"),
        2,
        "--set runner.kind: unknown value 'spark'. Allowed: auto, thread, process, ray, dask",
    ),
    (
        changed("schedule.cron=61 * * * *"),
        2,
        "day of the week 0-7), got '61 * * * *'",
    ),
    (
        changed("data={source: digits, transfer: {unlabelled: rest}}"),
        2,
        "data.transfer.unlabelled: 'rest' means the training examples that data.labelled leaves out, but data.labelled",
    ),
    (
        changed("data={source: digits, transfer: {count: 5}}"),
        2,
        "expected one of the fields unlabelled, generator, noise and classes, got none of them",
    ),
    # Names that lead out of a folder or a line.
    (
        changed("name=../../x"),
        2,
        "--set name: expected a name, got '../../x'. Allowed: at most 92 letters",
    ),
    (
        changed("name=.."),
        2,
        "--set name: expected a name, got '..'. Allowed: at most 92 letters",
    ),
    (
        changed('name="a\\0b"'),
        2,
        "--set name: expected a name, got 'a\\x00b'. Allowed: at most 92 letters",
    ),
    (changed('name="a\\n"'), 2, "--set name: expected a name, got 'a\\n'. Allowed: at most 92 letters"),
    (changed(f"name={'x' * 200}"), 2, "expected text of at most 92 characters, got 'xxx"),
    (
        changed("promote.model=a/b"),
        2,
        "--set promote.model: expected a name, got 'a/b'. Allowed: at most 100 letters",
    ),
    (
        changed("variants=[{name: ../x, terms: kd}]"),
        2,
        "variants.0.name: expected a name, got '../x'. Allowed: at most 100 letters",
    ),
    (changed("student.network=../nets:Net"), 2, "expected package.module:Class or ./file.py:Class, got '../nets:Net'"),
    (
        changed("schedule={cron: 0 3 * * *, timezone: ../x}"),
        2,
        "expected a time zone such as Europe/Berlin, got '../x'",
    ),
    # Files and modules that do not exist.
    (changed("data=./nowhere"), 2, "data.source: ./nowhere: /"),
    (
        changed("data={source: digits, transfer: {unlabelled: gone}}"),
        2,
        " does not exist. Allowed: a folder or zip file of images, or the word rest",
    ),
    (changed("data=nowhere:load"), 2, "data.source: nowhere: this module does not exist"),
    (changed("data=./gone.py:load"), 2, "data.source: ./gone.py: this file does not exist"),
    (
        changed("student.network=nowhere.nets:Net"),
        2,
        "student.network.module: nowhere.nets: this module does not exist",
    ),
    (changed("teacher={checkpoint: missing.pt, network: {mlp: [8]}}"), 2, "teacher.checkpoint: missing.pt: /"),
    (changed("teacher.data=./nowhere"), 2, "teacher.data.source: ./nowhere: /"),
    # Fields of the teacher alone.
    (
        changed("teacher.data.size=16"),
        2,
        "--set teacher.data.size: 16 differs from that of the students' data, null. All",
    ),
    (changed("teacher.normalise=imagnet"), 2, "unknown normalisation 'imagnet'. Allowed: imagenet, {mean: [...], std"),
    (
        changed("teacher.size=[0, 8]"),
        2,
        "--set teacher.size: teacher.size.0: expected a whole number from 1 to 8192, got 0",
    ),
    (
        changed("teacher={registry: big, size: 32}"),
        2,
        "teacher.size: conflicts with registry: the registered model has a size of its own. Allowed: null",
    ),
    (
        changed("teacher={registry: big, data: {subset: 50}}"),
        2,
        "teacher.data: has no effect on a teacher that is trained already. Remove this field",
    ),
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


class Failure(NamedTuple):
    """The end of a command, the files in its folder, and the slow libraries that it has imported."""

    code: int
    out: str
    error: str
    files: set[str]
    imported: set[str]


def written(folder: Path, words: list[str]) -> Path:
    """Write the files that the words name, and return the folder."""
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    if words and words[-1] in WRONG:
        (folder / words[-1]).write_bytes(WRONG[words[-1]])
    return folder


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def kd_as_a_process(folder: Path, words: list[str], results: Connection) -> None:
    """Run `kd` in the folder, in a process of a fork server. Send exit code, stdout, stderr and the slow imports."""
    os.chdir(folder)
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "PREFECT_", "KD_", "XDG_"))]:
        del os.environ[name]
    os.environ["HOME"] = str(folder)
    sys.argv = ["kd", *words]
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as error:
        code = main.main()
    slow = {"torch", "mlflow", "prefect"} & sys.modules.keys()
    results.send((code, out.getvalue(), error.getvalue(), slow))


@pytest.fixture(scope="module")
def fork_server() -> ForkServerContext:
    """Return a server of processes that have imported what `kd run` imports before it starts anything."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__, "kd.commands.run"])
    return context


@pytest.fixture
def fail(
    fork_server: ForkServerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kd_here: Here
) -> Callable[[list[str]], Failure]:
    """Run `kd` in a new folder. Commands that import the store run in the process of the tests, which has done so."""

    def fail(words: list[str]) -> Failure:
        written(tmp_path, words)
        if words and words[0] in IMPORT_THE_STORE:
            monkeypatch.chdir(tmp_path)
            monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
            return Failure(*kd_here(*words), files_in(tmp_path), set())
        here, there = Pipe()
        process = fork_server.Process(target=kd_as_a_process, args=(tmp_path, words, there))
        process.start()
        code, out, error, imported = here.recv()
        process.join()
        return Failure(code, out, error, files_in(tmp_path), imported)

    return fail


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=[" ".join(words)[:60] for words, _, _ in MISTAKES])
def test_a_mistake_is_one_clear_line(fail: Callable[[list[str]], Failure], number: int) -> None:
    words, code, message = MISTAKES[number]
    failure = fail(words)
    assert not failure.imported
    assert failure.code == code, failure.error
    assert failure.out == ""
    assert message in failure.error
    lines = failure.error.splitlines()
    assert all(line.startswith("kd: error: ") for line in lines), failure.error
    assert len(lines) == MORE_LINES.get(words[-1] if words else "", 1), failure.error
    assert failure.files == {"small.yaml"} | ({words[-1]} & WRONG.keys() if words else set())


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["show", "hard-label"], 2, "id you mean 'hard-labels'?"),
        (["compare", "small", "nothing"], 2, "run 'nothing' is not in the tracking store"),
        (["promote", "nothing"], 2, "run 'nothing' is not in the tracking store"),
        (["rollback", "small-studnt"], 2, "Did you mean 'small-student'?"),
        (["rollback", "small-student"], 2, "model 'small-student' has no previous champion to go back to"),
        (
            ["predict", "small-student@best", "small.yaml"],
            2,
            "model 'small-student' has no alias 'best'; it has: champion",
        ),
        (["predict", "small-student", "small.yaml"], 1, "small.yaml"),
        (["schedule", "small.yaml", "--cron", "* * *"], 2, "got '* * *'"),
        (["schedule", "--delete", "nothing"], 2, "no schedule 'nothing'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_that_the_store_reveals_is_one_clear_line(
    here: Here, words: list[str], code: int, message: str
) -> None:
    actual_code, out, error = here(*words)
    assert (actual_code, out) == (code, ""), error
    line = error.splitlines()[-1]
    assert line.startswith("kd: error: ")
    assert message in line
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "words", [["list"], ["promote"], ["export", "small-student", "--pt2"], ["rollback", "small-student"]], ids=" ".join
)
def test_an_unusable_store_gives_exit_code_1(kd_here: Here, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nothing/mlflow.db")
    code, out, error = kd_here(*words)
    assert (code, out) == (1, "")
    assert error.startswith("kd: error: tracking store '/proc/nothing/mlflow.db' can't be used: ")
