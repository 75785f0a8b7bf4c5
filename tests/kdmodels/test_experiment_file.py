"""Every mistake in an experiment file is one line that says where it stands and what is allowed."""

import os
from pathlib import Path

import pytest

from kdmodels import architectures, catalogue, objectives
from kdmodels.errors import UserError
from kdmodels.experiment_file import read_experiment

SHORT = """\
name: mine
data: mnist
teacher: {network: {mlp: [128, 64]}, epochs: 5}
student: {network: {mlp: [32]}, epochs: 5}
variants:
  - kd
  - {kd: {temperature: [2, 8]}}
"""
NAME_RULE = "letters, digits, space . _ + = -, beginning with a letter or digit, at most 100"
ARCHITECTURES = ", ".join(architectures.ARCHITECTURES)
BLOCKS = ", ".join(architectures.BLOCKS)
PRESETS = ", ".join(objectives.PRESETS)
LOSSES = ", ".join(catalogue.LOSSES)
TAPPED = ", ".join(name for name, loss in catalogue.LOSSES.items() if loss.needs == "features")
KD_AXES = ("temperature, weight, warmup, cosine, hard_labels.weight, hard_labels.warmup, hard_labels.cosine, "
           "soft_targets.temperature, soft_targets.weight, soft_targets.warmup, soft_targets.cosine")  # fmt: skip
STUDENT = ("epochs, batch, optimizer, decay_norms, schedule, clip, ema, balance, precision, compile, select, patience, "
           "network, seeds")  # fmt: skip

MISTAKES = [  # what is replaced in SHORT, by what, and the line that it gives
    ("name: mine\n", "", "1: name: is missing: text, at most 92 characters"),
    ("name: mine", "name: a/b", f"1: name: 'a/b' is not a name (allowed: {NAME_RULE})"),
    ("name: mine", "name: .mine", f"1: name: '.mine' is not a name (allowed: {NAME_RULE})"),
    ("name: mine", "name: 5", "1: name: 5 is not text (allowed: at most 92 characters)"),
    ("name: mine", "nmae: mine", "1: nmae: is not a field; did you mean 'name'? allowed: name, seed, threads, device, "
     "data, teacher, student, knowledge, variants, promote, runner, schedule, allow_code"),
    ("name: mine", "name: mine\nseed: -1", "2: seed: -1 is out of range (allowed: 0 to 4294967295)"),
    ("name: mine", "name: mine\nseed: true", "2: seed: true is not a whole number (allowed: 0 to 4294967295)"),
    ("name: mine", "name: mine\nthreads: 0", "2: threads: 0 is out of range (allowed: 1 to 1024, or null)"),
    ("data: mnist", "data: mnits", "2: data.source: 'mnits' is not a source; did you mean 'mnist'? "
     "allowed: digits, mnist, fashion-mnist, kmnist, usps, cifar10, cifar100, svhn, stl10; or a path, as ./photos, "
     "photos.zip, arrays.npz or table.parquet; or module:function"),
    ("data: mnist", "data: photos", "2: data.source: 'photos' is not a source; allowed: digits, mnist, fashion-mnist, "
     "kmnist, usps, cifar10, cifar100, svhn, stl10; or a path, as ./photos, photos.zip, arrays.npz or table.parquet; "
     "or module:function"),
    ("data: mnist", "data:\n  source: mnist\n  validation: 1.5",
     "4: data.validation: 1.5 is out of range (allowed: above 0 and below 1, or a folder's name, or null)"),
    ("data: mnist", "data: {source: mnist, validation: photos/val}",
     "2: data.validation: 'photos/val': mnist has no folders (allowed: above 0 and below 1, or null)"),
    ("data: mnist", "data: {source: ./photos, validation: []}", "2: data.validation: [] is not a share or a folder "
     "(allowed: above 0 and below 1, or a folder's name, or null)"),
    ("data: mnist", "data: {source: ./photos, size: [64]}", "2: data.size: [64] is too short (allowed: at least 2 in "
     "it and at most 2 in it, or null)"),
    ("data: mnist", "data: {source: ./photos, size: [8, 0]}", "2: data.size.1: 0 is out of range (allowed: 1 to 8192)"),
    ("data: mnist", "data: {source: ./photos, skip: 1}", "2: data.skip: 1 is not true or false"),
    ("data: mnist", "data: {source: ./photos, transfer: more}", "2: data.transfer: 'more' is not a mapping; "
     "allowed: unlabelled"),
    ("data: mnist", "data: {source: mnist, folds: 1}", "2: data.folds: 1 is out of range (allowed: 2 to 20, or null)"),
    ("data: mnist", "data: {source: mnist, folds: 5, validation: 0.2}",
     "2: data.validation: 0.2: with folds each is the validation split in turn; allowed with folds: null"),
    ("data: mnist", "data: {source: mnist, augment: [{crop: 0}]}",
      "2: data.augment.0.crop: 0 is out of range (allowed: 1 to 512)"),
    ("data: mnist", "data: {source: mnist, augment: {crop: 4}}", '2: data.augment: {"crop": 4} is not a list'),
    ("data: mnist", "data: {source: mnist, transfer: {classes: [7]}}",
     "2: data.transfer.classes: [7] is not built yet; allowed: null\n"
     "my.yaml:2: data.transfer.unlabelled: is missing: text, not empty"),
    ("64]}, epochs: 5", "64]}", "3: teacher.epochs: is missing: a whole number, 1 to 1000000"),
    ("64]}, epochs: 5", "64]}, epochs: 0", "3: teacher.epochs: 0 is out of range (allowed: 1 to 1000000)"),
    ("teacher: {network: {mlp: [128, 64]}, epochs: 5}", "teacher: []",
     "3: teacher: is empty; allowed: a teacher, or a list of 2 or more"),
    ("teacher: {network: {mlp: [128, 64]}, epochs: 5}", "teacher: [{registry: a}, {network: {mlp: [8]}}]",
     "3: teacher.1.epochs: is missing: a whole number, 1 to 1000000"),
    ("network: {mlp: [128, 64]}, epochs: 5", "epochs: 5",
     "3: teacher.network: is missing: a mapping such as {mlp: [128, 64]}, or registry: MODEL"),
    ("network: {mlp: [128, 64]}, epochs: 5", "checkpoint: t.safetensors",
     "3: teacher.network: is missing: a mapping such as {mlp: [128, 64]}, or registry: MODEL"),
    ("teacher: {", "teacher: {checkpoint: t.safetensors, ",
     "3: teacher.epochs: says how to train, and this teacher is trained already; leave it out"),
    ("network: {mlp: [128, 64]}, epochs: 5", "registry: big, batch: 32",
     "3: teacher.batch: says how to train, and this teacher is trained already; leave it out"),
    ("network: {mlp: [128, 64]}, epochs: 5", "registry: big, network: {mlp: [8]}",
     "3: teacher.network: a teacher from the registry brings its own network; allowed: null"),
    ("teacher: {", "teacher: {checkpoint: t.safetensors, registry: big, ",
     "3: teacher.registry: checkpoint and registry exclude each other"),
    ("epochs: 5}\nvar", "epochs: five}\nvar",
     "4: student.epochs: 'five' is not a whole number (allowed: 1 to 1000000)"),
    ("epochs: 5}\nvar", "epochs: 1.5}\nvar", "4: student.epochs: 1.5 is not a whole number (allowed: 1 to 1000000)"),
    ("{mlp: [32]}, epochs: 5", "{mlp: [32]}", "4: student.epochs: is missing: a whole number, 1 to 1000000"),
    ("[32]}", "[]}", "4: student.network.mlp: [] is too short (allowed: at least 1 in it, or null)"),
    ("[32]}", "[32, 0]}", "4: student.network.mlp.1: 0 is out of range (allowed: 1 to 100000)"),
    ("{mlp: [32]}", "resnet18", "4: student.network.name: 'resnet18' is not in the catalogue; "
     f"did you mean 'resnet8x4'? allowed: {ARCHITECTURES}, {{torchvision: NAME}}, {{timm: NAME}}, "
     "package.module:Class"),
    ("{mlp: [32]}", "'my.networks:'", "4: student.network.module: 'my.networks:' is not a place "
     "(allowed: package.module:Class)"),
    ("{mlp: [32]}", "{mlp: [32], conv: [8]}", "4: student.network.conv: stands beside mlp; allowed: one of them"),
    ("{mlp: [32]}", "{}", "4: student.network: needs one of mlp, conv, name, torchvision, timm, module, compact"),
    ("{mlp: [32]}", "{conv: [8], dropout: 0.5}", "4: student.network.dropout: belongs to mlp; allowed with conv: 0.0"),
    ("{mlp: [32]}", "{name: vgg8, weights: DEFAULT}",
     "4: student.network.weights: belongs to torchvision and timm; allowed with name: null"),
    ("{mlp: [32]}", "{compact: {block: depthwise}}", "4: student.network.compact.budget: is missing: "
     "a whole number of parameters, or give width and depth"),
    ("{mlp: [32]}", "{compact: {block: depth-wise, budget: 60000}}",
     f"4: student.network.compact.block: 'depth-wise' is not a block; did you mean 'depthwise'? allowed: {BLOCKS}"),
    ("{mlp: [32]}", "{compact: {block: fire, width: 6, depth: 2}}", "4: student.network.compact.width: 6 is out of "
     "range (allowed: 4 or more and a multiple of 4, or null)"),
    ("{mlp: [32]}", "{compact: {block: fire, width: 8}}",
     "4: student.network.compact.depth: is missing: allowed with width: a whole number"),
    ("{mlp: [32]}", "{compact: {block: fire, budget: {parameters: 5, flops: 5}}}",
     "4: student.network.compact.budget: needs one of parameters, flops and latency_ms"),
    ("{mlp: [32]}", "{compact: {block: fire, budget: 0}}",
     "4: student.network.compact.budget.parameters: 0 is out of range (allowed: 1 or more, or null)"),
    ("[32]}", "[32], dropout: 1}", "4: student.network.dropout: 1 is out of range (allowed: 0 or more and below 1)"),
    ("[32]}", "[32]}, batch: 0", "4: student.batch: 0 is out of range (allowed: 1 to 1000000)"),
    ("[32]}", "[32]}, seeds: 0", "4: student.seeds: 0 is out of range (allowed: 1 to 500)"),
    ("[32]}", "[32]}, optimizer: adam", "4: student.optimizer: 'adam' is not one name with its arguments, "
     "as {adam: {lr: 0.001}}; allowed: adam, adamw, sgd"),
    ("[32]}", "[32]}, optimizer: {adma: {}}", "4: student.optimizer: 'adma' is not known, or not built yet; "
     "did you mean 'adam'? allowed: adam, adamw, sgd"),
    ("[32]}", "[32]}, optimizer: {sgd: {momentun: 0.9}}", "4: student.optimizer.sgd.momentun: is not a field; "
     "did you mean 'momentum'? allowed: lr, momentum, dampening, weight_decay, nesterov"),
    ("[32]}", "[32]}, optimizer: {adam: {lr: 0}}",
     "4: student.optimizer.adam.lr: 0 is out of range (allowed: above 0)"),
    ("[32]}", "[32]}, optimizer: {sgd: {nesterov: true}}",
     "4: student.optimizer.sgd.nesterov: nesterov needs a momentum above 0 and a dampening of 0"),
    ("[32]}", "[32]}, schedule: {cosine: {warmup: 5}}",
     "4: student.schedule.cosine.warmup: 5 is out of range (allowed: below the 5 epochs)"),
    ("[32]}", "[32]}, schedule: {step: {factor: 0.1}}",
     "4: student.schedule.step.at: is missing: a list, at least 1 in it"),
    ("[32]}", "[32]}, precision: float16",
     "4: student.precision: 'float16' is not known; did you mean 'bfloat16'? allowed: float32, bfloat16"),
    ("[32]}", "[32]}, patience: 3", "4: student.patience: 3 needs select: best-validation; allowed without it: null"),
    ("[32]}", "[32]}, schedule: {one_cycle: {rise: 1}}",
     "4: student.schedule.one_cycle.rise: 1 is out of range (allowed: above 0 and below 1)"),
    ("[32]}", "[32]}, schedule: {constant: {}}",
     "4: student.schedule.constant.warmup: is missing: a whole number, 1 or more"),
    ("[32]}", "[32]}, schedule: {step: {at: [2], warmup: 5}}",
     "4: student.schedule.step.warmup: 5 is out of range (allowed: below the 5 epochs)"),
    ("[32]}", "[32]}, label_smoothing: 0.1", f"4: student.label_smoothing: is not a field; allowed: {STUDENT}"),
    ("[32]}", "[32]}, select: best", "4: student.select: 'best' is not known; allowed: last, best-validation"),
    ("  - kd\n", "  - kdd\n", f"6: variants.0: 'kdd' is not a preset; did you mean 'kd'? allowed: {PRESETS}"),
    ("  - kd\n", "  - kd\n  - kd\n", "7: variants.1: 'kd' stands twice; allowed: each name once"),
    ("  - kd\n", "  - 5\n", "6: variants.0: 5 is not a mapping; allowed: name, terms, student"),
    ("[2, 8]", "[2, 0]", "7: variants.1.kd.temperature: 0 is out of range (allowed: above 0 and below 1e+06)"),
    ("[2, 8]", "[]", "7: variants.1.kd.temperature: [] is empty; allowed: one or more, each above 0 and below 1e+06"),
    ("{temperature: [2, 8]}", "{epsilon: 0.1}",
     f"7: variants.1.kd.epsilon: kd has no hyperparameter 'epsilon'; allowed: {KD_AXES}"),
    ("{temperature: [2, 8]}", "4", f"7: variants.1.kd: 4 is not a mapping of hyperparameters; allowed: {KD_AXES}"),
    ("{kd: {temperature: [2, 8]}}", "{label-smoothing: {epsilon: 1}}",
     "7: variants.1.label-smoothing.epsilon: 1 is out of range (allowed: 0 or more and below 1)"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: kdd}",
     f"7: variants.1.terms: 'kdd' is not a preset; did you mean 'kd'? allowed: {PRESETS}"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: [soft-targets]}",
     f"7: variants.1.terms.0: 'soft-targets' is not a loss; did you mean 'soft_targets'? allowed: {LOSSES}"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: [{hard_labels: 0}]}",
     "7: variants.1.terms.0.weight: 0 is out of range (allowed: above 0)"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: [{hard_labels: {at: last}}]}",
     f"7: variants.1.terms.0.at: hard_labels takes no features; allowed with: {TAPPED}"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: [{soft_targets: {temprature: 2}}]}",
     "7: variants.1.terms.0.temprature: soft_targets has no 'temprature'; did you mean 'temperature'? "
     "allowed: temperature, weight, warmup, cosine"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: [{hint: {att: last}}]}",
     "7: variants.1.terms.0.att: hint has no 'att'; did you mean 'at'? allowed: weight, warmup, cosine, at"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: [hard_labels, {hint: {at: 3}}]}",
     "7: variants.1.terms.1.at: 3 is no place; allowed: first, middle, deepest, last, a module's dotted name, "
     "{student: NAME, teacher: NAME}, a list of these"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: [{hint: {weight: []}}]}",
     "7: variants.1.terms.0.hint.weight: [] is empty; allowed: one or more values"),
    ("[2, 8]", "1.0e+200", "7: variants.1.kd.temperature: 1e+200 is out of range (allowed: above 0 and below 1e+06)"),
    ("temperature: [2, 8]", "temperature: 2, soft_targets.temperature: 3",
     "7: variants.1.kd: temperature and soft_targets.temperature say one number twice; allowed: one of them"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: [hard_labels, {hint: {at: [last, last]}}]}",
     '7: variants.1.terms.1.at: ["last", "last"] names a place twice; allowed: each once'),
    ("{kd: {temperature: [2, 8]}}", "{hint: {at: [middle, 3]}}", "7: variants.1.hint.at: 3 is no place; allowed: "
     "first, middle, deepest, last, a module's dotted name, {student: NAME, teacher: NAME}, a list of these"),
    ("{kd: {temperature: [2, 8]}}", "{kd: {at: last}}",
     f"7: variants.1.kd.at: kd has no hyperparameter 'at'; allowed: {KD_AXES}"),
    ("{kd: {temperature: [2, 8]}}", "{soft_targets: {temperature: 2}}", "7: variants.1: 'soft_targets' is a loss; "
     f"allowed: {{name: NAME, terms: [{{soft_targets: {{weight: 1}}}}]}}, or a preset: {PRESETS}"),
    ("{kd: {temperature: [2, 8]}}", "{hint: {at: a module/of mine}}",
     f"7: variants.1.name: 'hint-at=a module/of mine' is not a name (allowed: {NAME_RULE})"),
    ("epochs: 5}\nvar", "epochs: 5000000}\nvar", "4: student.epochs: 5000000 is out of range (allowed: 1 to 1000000)"),
    ("variants:", "schedule: {cron: 0 25 * * *}\nvariants:",
     "5: schedule.cron: '0 25 * * *' is not a cron expression (allowed: five fields, as '0 3 * * *')"),
    ("variants:", "schedule: {every: 99999999999}\nvariants:",
     "5: schedule.every: 99999999999 is out of range (allowed: 1 to 31622400, or null)"),
    ("name: mine", 'name: "mine\\n"', r"1: name: 'mine\n' is not a name (allowed: " f"{NAME_RULE})"),
    ("{kd: {temperature: [2, 8]}}", "{dm: {metric: manhattan}}",
     "7: variants.1.dm.metric: 'manhattan' is not a word it knows; allowed: euclidean, cosine"),
    ("{kd: {temperature: [2, 8]}}", "{dkd: {cosine: 1}}", "7: variants.1.dkd.cosine: 1 is not true or false"),
    ("{kd: {temperature: [2, 8]}}", "{crd: {negatives: 2.5}}",
     "7: variants.1.crd.negatives: 2.5 is not a whole number (allowed: a whole number, 1 or more)"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: [hard_labels, hard_labels]}",
     "7: variants.1.terms.1: hard_labels stands twice; allowed: each loss once"),
    ("{kd: {temperature: [2, 8]}}", "{name: hard-labels, terms: kd}",
     "7: variants.1.name: hard-labels is the control: hard_labels alone, the experiment's student; "
     "allowed: another name"),
    ("{kd: {temperature: [2, 8]}}", "{name: hard-labels, terms: hard-labels, student: {epochs: 3}}",
     "7: variants.1.name: hard-labels is the control: hard_labels alone, the experiment's student; "
     "allowed: another name"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: kd, student: {epochs: 0}}",
     "7: variants.1.student.epochs: 0 is out of range (allowed: 1 to 1000000)"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: kd, student: {seeds: 9}}",
     "7: variants.1.student.seeds: 9 differs from the experiment's; allowed: 3, for pairs of seeds"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: kd, student: small}",
     f"7: variants.1.student: 'small' is not a mapping; allowed: {STUDENT}"),
    ("variants:", "promote: {margin: -1}\nvariants:",
     "5: promote.margin: -1 is out of range (allowed: 0 or more and below 1)"),
    ("variants:", "promote: {report: [kdd]}\nvariants:", "5: promote.report.0: 'kdd' is not a variant; "
     "did you mean 'kd'? allowed: hard-labels, kd, kd-temperature=2, kd-temperature=8"),
    ("variants:", "promote: {require: {accuracy: 0.9}}\nvariants:",
     "5: promote.require.accuracy: 0.9 is not a bound (allowed: text such as '>= 0.95', or null)"),
    ("variants:", "promote: {require: {parameters: '>= 3'}}\nvariants:",
     "5: promote.require.parameters: '>= 3' is not a bound (allowed: text such as '<= 60000', or null)"),
    ("variants:", "promote: {require: {accuracy: '>= 95'}}\nvariants:",
     "5: promote.require.accuracy: '>= 95' is out of range (allowed: '>= 0' to '>= 1')"),
    ("variants:", "promote: {require: {latency_ms: 3}}\nvariants:",
     "5: promote.require.latency_ms: 3 is not a bound (allowed: text such as '<= 5', or null)"),
    ("variants:", "promote: {require: {class_accuracy: '<= 0.8'}}\nvariants:",
     "5: promote.require.class_accuracy: '<= 0.8' is not a bound (allowed: text such as '>= 0.8', or null)"),
    ("variants:", "promote: {require: {class_accuracy: '>= 80'}}\nvariants:",
     "5: promote.require.class_accuracy: '>= 80' is out of range (allowed: '>= 0' to '>= 1')"),
    ("variants:", "promote: {require: {ece: '>= 0.1'}}\nvariants:",
     "5: promote.require.ece: '>= 0.1' is not a bound (allowed: text such as '<= 0.05', or null)"),
    ("variants:", "promote: {require: {ece: '<= 5'}}\nvariants:",
     "5: promote.require.ece: '<= 5' is out of range (allowed: '<= 0' to '<= 1')"),
    ("variants:", "runner: {kind: dask}\nvariants:",
     "5: runner.kind: 'dask' is not built yet; allowed: thread, process"),
    ("variants:", "runner: {address: tcp://x}\nvariants:",
     "5: runner.address: 'tcp://x' is not built yet; allowed: null"),
    ("variants:", "schedule: {}\nvariants:", "5: schedule.cron: needs one of cron and every"),
    ("variants:", "schedule: {cron: daily}\nvariants:",
     "5: schedule.cron: 'daily' is not a cron expression (allowed: five fields, as '0 3 * * *')"),
    ("variants:", "schedule: {cron: 0 3 * * *, timezone: Berlin}\nvariants:",
     "5: schedule.timezone: 'Berlin' is not a time zone (allowed: such as Europe/Berlin)"),
    ("variants:", "knowledge: {views: all}\nvariants:",
     "5: knowledge.views: 'all' is not known; allowed: auto, or a whole number, 0 or more"),
    ("variants:", "notify: me\nvariants:", "5: notify: 'me' is not built yet; allowed: null"),
]  # fmt: skip


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("my.yaml")


def error_of(file: Path, text: str | bytes, *overrides: str) -> str:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        read_experiment(file, overrides)
    return str(caught.value)


@pytest.mark.parametrize(("old", "new", "line"), MISTAKES, ids=[line for _, _, line in MISTAKES])
def test_a_mistake_is_one_line(file: Path, old: str, new: str, line: str) -> None:
    assert SHORT.count(old) == 1
    assert error_of(file, SHORT.replace(old, new)) == f"my.yaml:{line}"


def test_every_mistake_has_its_line(file: Path) -> None:
    """Once an unknown field, or the first wrong variant, hid all others."""
    text = SHORT.replace("name: mine", "nmae: mine\nfolds: 3").replace("data: mnist", "data: {source: mnits, sise: 3}")
    text = text.replace("[32]}", "[32]}, batch: 0, optimizer: {adam: {lr: 0, ep: 1}}").replace("- kd\n", "- kdd\n")
    text = text.replace("temperature: [2, 8]", "temperature: 0")
    assert [line.partition(";")[0] for line in error_of(file, text).splitlines()] == [
        "my.yaml:1: nmae: is not a field",
        "my.yaml:2: folds: is not a field",
        "my.yaml:3: data.sise: is not a field",
        "my.yaml:3: data.source: 'mnits' is not a source",
        "my.yaml:5: student.batch: 0 is out of range (allowed: 1 to 1000000)",
        "my.yaml:5: student.optimizer.adam.ep: is not a field",
        "my.yaml:5: student.optimizer.adam.lr: 0 is out of range (allowed: above 0)",
        "my.yaml:7: variants.0: 'kdd' is not a preset",
        "my.yaml:8: variants.1.kd.temperature: 0 is out of range (allowed: above 0 and below 1e+06)",
    ]


def test_several_mistakes_stand_in_the_order_of_the_file(file: Path) -> None:
    text = SHORT.replace("data: mnist", "data: mnits").replace("[32]", "[-1]").replace("- kd", "- kk")
    lines = error_of(file, text, "seed=x").splitlines()
    assert [line.split(": ")[0] for line in lines] == ["my.yaml:2", "my.yaml:4", "my.yaml:6", "--set seed"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "my.yaml: is empty; "),
        ("# nothing\n", "my.yaml: is empty; "),
        ("- kd\n", 'my.yaml: holds ["kd"], not a mapping; '),
        ("kd", "my.yaml: holds 'kd', not a mapping; "),
    ],
)
def test_what_is_no_mapping(file: Path, content: str, line: str) -> None:
    fields = (
        "allowed: name, seed, threads, device, data, teacher, student, knowledge, variants, promote, runner, "
        "schedule, allow_code"
    )
    assert error_of(file, content) == line + fields


OVERRIDES = [
    ("student.epochs=five", "student.epochs: 'five' is not a whole number (allowed: 1 to 1000000)"),
    ("student=five", f"student: 'five' is not a mapping; allowed: {STUDENT}"),
    ("studnet.epochs=5", "studnet.epochs: studnet: is not a field; did you mean 'student'? allowed: name, seed, "
     "threads, device, data, teacher, student, knowledge, variants, promote, runner, schedule, allow_code"),
    ("student.epohcs=5", f"student.epohcs: is not a field; did you mean 'epochs'? allowed: {STUDENT}"),
    ("student.network={mlp: [0]}", "student.network: student.network.mlp.0: 0 is out of range (allowed: 1 to 100000)"),
    ("variants.2=kd", "variants.2: variants has no item '2'; allowed: 0, 1"),
    ("variants.x=kd", "variants.x: variants has no item 'x'; allowed: 0, 1"),
    ("variants.0.temperature=2", "variants.0.temperature: variants.0 is 'kd', which has no fields"),
    ("variants.1.kd.temperature=-2",
     "variants.1.kd.temperature: -2 is out of range (allowed: above 0 and below 1e+06)"),
    ("seed", "seed: allowed: key=value, such as student.epochs=5"),
    ("=1", "=1: allowed: key=value, such as student.epochs=5"),
    ("student..epochs=1", "student..epochs=1: allowed: key=value, such as student.epochs=5"),
    ("student.seeds=[", "student.seeds: is not YAML at column 2: expected the node content, but found '<stream end>'"),
    ("student={epochs: 1, epochs: 2}",
     "student: student.epochs: stands twice, here at column 13, before in --set student"),
    ("student.epochs=!!int five", "student.epochs: 'five' at column 1 is not readable as int"),
    ("name=m\x07ne", "name: the character U+0007 at column 2 is not allowed"),
]  # fmt: skip


@pytest.mark.parametrize(("override", "line"), OVERRIDES, ids=[override for override, _ in OVERRIDES])
def test_a_mistake_in_an_override(file: Path, override: str, line: str) -> None:
    assert error_of(file, SHORT, override) == f"--set {line}"


def test_overrides_win_over_the_file_and_make_what_is_missing(file: Path) -> None:
    file.write_text(SHORT)
    overrides = [
        "student.epochs=9",
        "data.validation=0.25",
        "variants.1.kd.temperature=[3, 1e1]",
        "variants.0=hint",
        "promote.require.accuracy='>=0.9'",
        "runner.kind=process",
        "schedule.every=60",
        "student.epochs=7",
    ]
    experiment = read_experiment(file, overrides)
    assert experiment.student.epochs == 7
    assert (experiment.data.source, experiment.data.validation) == ("mnist", 0.25)
    names = ["hard-labels", "hint", "kd-temperature=3", "kd-temperature=10"]
    assert [variant.name for variant in experiment.variants] == names
    assert experiment.promote.require.accuracy == ">= 0.9"
    assert experiment.runner.kind == "process"
    assert experiment.schedule is not None
    assert experiment.schedule.every == 60
    assert experiment.teacher.epochs == 5


def test_an_override_can_bring_another_teacher(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(SHORT)
    override = ["teacher={checkpoint: t.safetensors, network: {mlp: [8]}}"]
    assert read_experiment(file, override).teacher.checkpoint == "t.safetensors"  # perhaps below the data's folder
    monkeypatch.chdir(file.parent)
    Path("t.safetensors").touch()
    assert read_experiment(file, override).teacher.checkpoint == os.path.abspath("t.safetensors")
    members = read_experiment(file, [override[0].replace("={", "=[{registry: a}, {") + "]"]).teacher.members
    assert [member.checkpoint for member in members] == [None, os.path.abspath("t.safetensors")]
