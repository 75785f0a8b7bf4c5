"""Which code an experiment may name, and that asking runs none of it."""

from os import system
from pathlib import Path

import pytest
import torch

from kdmodels.data.arrays import call
from kdmodels.errors import UsageError
from kdmodels.experiment import Experiment, Runner
from kdmodels.experiment.network import Network
from kdmodels.experiment.user_code import ALLOWED, named_code, require_all_allowed, require_allowed
from kdmodels.losses.term_loss import LossSetting
from kdmodels.losses.user_loss import builder_of
from kdmodels.networks.user_module import user_module
from tests.conftest import SMALL

EXPERIMENT = Experiment.model_validate(
    {
        "name": "own",
        "data": "own.data:load",
        "teacher": [{"network": "big.nets:Net", "epochs": 1, "data": "own.more:load"}, {"registry": "other"}],
        "student": {"network": "small:Net", "epochs": 1, "optimizer": {"fast.optim:Lion": {"lr": 0.1}}}
        | {"augment": [{"dark.room:darken": {}}]},
        "metrics": [{"mine.metrics:cost": "lower"}],
        "variants": [
            "kd",
            {"name": "wide", "terms": "kd", "student": {"network": "wide:Net"}},
            {"name": "lossy", "terms": ["tests.support.losses:soft"]},
        ],
    }
)


def test_all_code_of_an_experiment_is_found() -> None:
    wide, control = "variants.wide.student.network.module", "variants.hard-labels-of-wide.student.network.module"
    assert sorted(named_code(EXPERIMENT)) == sorted(
        [
            ("data.source", "own.data"),
            ("teacher.data.source", "own.more"),
            ("teacher.network.module", "big.nets"),
            ("student.network.module", "small"),
            ("student.optimizer", "fast.optim"),
            (wide.replace("network.module", "optimizer"), "fast.optim"),
            (control.replace("network.module", "optimizer"), "fast.optim"),
            ("student.augment", "dark.room"),
            ("metrics", "mine.metrics"),
            (wide, "wide"),
            (control, "wide"),
            ("variants.lossy.terms", "tests.support.losses"),
        ]
    )


def test_every_name_must_be_allowed() -> None:
    require_all_allowed(EXPERIMENT)  # a command's own experiment is not asked about
    require_all_allowed(EXPERIMENT, "own,big.nets,small,fast,dark,mine,wide,tests.support.losses")
    for words, refused in [
        ("", "own.data"),
        ("own,big.net,small,wide", "big.nets"),
        ("own,big,smal,wide", "small"),
        ("own,big,small", "fast.optim"),
        ("own,big,small,fast", "wide"),
        ("own,big.nets,small,fast,wide,tests", "dark.room"),
        ("own,big.nets,small,fast,wide,tests,dark", "mine.metrics"),
        ("own,big.nets,small,fast,wide", "tests.support.losses"),
    ]:
        with pytest.raises(UsageError, match=f"the code of {refused} is not allowed in this schedule") as error:
            require_all_allowed(EXPERIMENT, words)
        assert "\n" not in str(error.value)
    more = EXPERIMENT.model_copy(update={"allow_code": ["os_of_mine"]})  # as anybody could say in Prefect's form
    with pytest.raises(UsageError, match=r"^allow_code: the code of os_of_mine is not allowed in this schedule"):
        require_all_allowed(more, "own,big.nets,small,fast,dark,mine,wide,tests")
    require_all_allowed(more, "own,big.nets,small,fast,dark,mine,wide,tests,os_of_mine")


def test_a_cluster_must_be_allowed_because_it_can_run_code() -> None:
    """Users of Prefect's UI can change the address of a scheduled run."""
    runner = Runner(kind="dask", address="tcp://a:8786")
    experiment = Experiment.model_validate(SMALL).model_copy(update={"runner": runner})
    require_all_allowed(experiment)
    require_all_allowed(experiment, "nets,tcp://a:8786")
    for words in ("", "nets", "tcp://a:87", "tcp://a"):
        with pytest.raises(UsageError) as error:
            require_all_allowed(experiment, words)
        assert str(error.value) == (
            f"runner.address: the cluster tcp://a:8786 is not allowed in this schedule. Allowed: {words or 'none'}. "
            "To allow it: kd schedule FILE --allow-code tcp://a:8786, or KD_WORKER_CODE of the worker of a team"
        )


def test_a_file_is_the_same_by_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for word in ("own.py", "./own.py", "sub/../own.py", str(tmp_path / "own.py")):
        require_allowed("data.source", word, str(tmp_path / "own.py"))
    with pytest.raises(UsageError, match=r"Allowed: .*own\.py"):
        require_allowed("data.source", "other/own.py", str(tmp_path / "own.py"))


def test_code_is_checked_when_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stored network names its class too, which no experiment did."""
    text = f"import os\nos.mkdir({str(tmp_path / 'canary')!r})\ndef loss(student_logits, labels): ...\n"
    (tmp_path / "evil_code.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ALLOWED, "nets")
    for run in (
        lambda: user_module(Network(module="evil_code:Net"), (1, 8, 8), 2),
        lambda: builder_of("evil_code:loss", ["student_logits", "labels"])(LossSetting({}, [], [], 2, torch.ones(1))),
        lambda: call("evil_code:load"),
        lambda: call("./evil_code.py:load"),
    ):
        with pytest.raises(UsageError, match=r"is not allowed in this schedule\. Allowed: nets\. "):
            run()
    assert not (tmp_path / "canary").exists()


def test_python_itself_is_never_a_network(tmp_path: Path) -> None:
    """`os:mkdir` with its arguments, as a stored description could say."""
    with pytest.raises(UsageError, match=r"network\.module: os is a module of Python itself. Allowed: "):
        user_module(Network(module="os:mkdir", arguments={"path": str(tmp_path / "canary")}), (1, 8, 8), 2)
    with pytest.raises(UsageError, match=r"data\.source: os\.path is a module of Python itself"):
        call("os.path:join")
    assert not (tmp_path / "canary").exists()


def test_imports_of_an_allowed_module_are_not_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else `nets:nn.functional.torch.os.system` would be as good as a shell."""
    (tmp_path / "shown_nets.py").write_text(
        "from os import system\nfrom torch import nn\n\ndef data():\n    return {}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("nn.functional.torch.os.system", "nn"):
        with pytest.raises(UsageError, match=r"is a module\. Allowed: a class or function of shown_nets"):
            user_module(Network.model_validate({"module": f"shown_nets:{name}"}), input_shape=(1, 4, 4), classes=2)
    monkeypatch.setenv(ALLOWED, "shown_nets")
    with pytest.raises(UsageError, match="is a module of Python itself"):
        call("shown_nets:system")
    with pytest.raises(UsageError, match=r"torch\.nn is a module"):
        user_module(Network.model_validate({"module": "shown_nets:nn.Linear"}), input_shape=(1, 4, 4), classes=2)


def test_only_a_network_class_or_a_function_of_the_module_itself_is_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a module imports, or has for another purpose, was called with the arguments of a stored description."""
    (tmp_path / "useful_nets.py").write_text(
        "from os import system\nfrom functools import partial\nfrom torch.nn import Linear\n\n"
        "class Plain:\n    pass\n\nmade = partial(Linear, 16)\n\ndef net():\n    return Linear(4, 2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name, line in [
        ("system", f"is defined in {system.__module__}. Allowed: a torch.nn.Module class, or a function that useful_"),
        ("made", "is defined in functools. "),
        ("Plain", "is not a torch.nn.Module"),
    ]:
        network = Network(module=f"useful_nets:{name}", arguments={"command": f"touch {tmp_path / 'canary'}"})
        with pytest.raises(UsageError, match=f"useful_nets:{name} {line}"):
            user_module(network, (1, 4, 4), 2)
    assert not (tmp_path / "canary").exists()
    for word in ("useful_nets:net", "tests.support.networks:Attention"):
        user_module(Network(module=word), (1, 8, 8), 2)
    user_module(Network(module="useful_nets:Linear", arguments={"in_features": 4, "out_features": 2}), (1, 8, 8), 2)
