"""Every mistake in an experiment file gives one line with its place and what is allowed."""

import json
import os
from pathlib import Path

import pytest

from kdmodels.errors import UserError
from kdmodels.experiment import architectures, catalogue
from kdmodels.experiment import presets as objectives
from kdmodels.experiment.experiment import CRON_IN_WORDS, Experiment
from kdmodels.experiment.file import read_experiment, with_place

SHORT = """\
name: mine
data: mnist
teacher: {network: {mlp: [128, 64]}, epochs: 5}
student: {network: {mlp: [32]}, epochs: 5}
variants:
  - kd
  - {kd: {temperature: [2, 8]}}
"""
NAME_RULE = "letters, digits, spaces and signs (. _ + = -), where the first is a letter or a digit"
ARCHITECTURES = ", ".join(architectures.ARCHITECTURES)
BLOCKS = ", ".join(architectures.BLOCKS)
PRESETS = ", ".join(objectives.PRESETS)
LOSSES = ", ".join([*catalogue.LOSSES, "module:name"])
FIELDS = ", ".join(Experiment.model_fields)
TAPPED = ", ".join(name for name, loss in catalogue.LOSSES.items() if loss.needs == "features")
KD_AXES = ("temperature, weight, warmup, cosine, hard_labels.weight, hard_labels.warmup, hard_labels.cosine, "
           "soft_targets.temperature, soft_targets.weight, soft_targets.warmup, soft_targets.cosine, "
           "published")  # fmt: skip
STUDENT = ("epochs, batch, init, optimizer, decay_norms, schedule, clip, max_norm, ema, balance, precision, compile, "
           "select, patience, network, seeds, augment")  # fmt: skip

MISTAKES = [  # replaced text in SHORT, its replacement, and the line of the error
    ("name: mine\n", "", "1: name: missing. Expected text of at most 92 characters"),
    ("name: mine", "name: a/b", f"1: name: expected a name, got 'a/b'. Allowed: at most 92 {NAME_RULE}"),
    ("name: mine", "name: .mine", f"1: name: expected a name, got '.mine'. Allowed: at most 92 {NAME_RULE}"),
    ("name: mine", "name: 5", "1: name: expected text of at most 92 characters, got 5"),
    ("name: mine", "nmae: mine",
     f"1: nmae: unknown field. Did you mean 'name'? Allowed: {FIELDS}"),
    ("name: mine", "name: mine\nseed: -1", "2: seed: expected a whole number from 0 to 4294967295, got -1"),
    ("name: mine", "name: mine\nseed: true", "2: seed: expected a whole number from 0 to 4294967295, got true"),
    ("name: mine", "name: mine\nthreads: 0", "2: threads: expected a whole number from 1 to 1024, or null, got 0"),
    ("data: mnist", "data: mnits",
     "2: data.source: unknown source 'mnits'. Did you mean 'mnist'? Allowed: digits, mnist, fashion-mnist, kmnist, "
     "usps, cifar10, cifar100, svhn, stl10, or a path such as ./photos, photos.zip, arrays.npz or table.parquet, or "
     "module:function"),
    ("data: mnist", "data: photos",
     "2: data.source: unknown source 'photos'. Allowed: digits, mnist, fashion-mnist, kmnist, usps, cifar10, "
     "cifar100, svhn, stl10, or a path such as ./photos, photos.zip, arrays.npz or table.parquet, or "
     "module:function"),
    ("data: mnist", "data:\n  source: mnist\n  validation: 1.5",
     "4: data.validation: expected a fraction above 0 and below 1, a folder's name, or null, got 1.5"),
    ("data: mnist", "data: {source: mnist, validation: photos/val}",
     "2: data.validation: mnist has no folder 'photos/val'. Allowed: a fraction above 0 and below 1, or null"),
    ("data: mnist", "data: {source: ./photos, validation: []}",
     "2: data.validation: expected a fraction above 0 and below 1, a folder's name, or null, got []"),
    ("data: mnist", "data: {source: ./photos, size: [64]}",
     "2: data.size: expected a list of 2 items, or null, got [64]"),
    ("data: mnist", "data: {source: ./photos, size: [8, 0]}",
     "2: data.size.1: expected a whole number from 1 to 8192, got 0"),
    ("data: mnist", "data: {source: ./photos, skip: 1}", "2: data.skip: expected true or false, got 1"),
    ("data: mnist", "data: {source: ./photos, transfer: more}",
     "2: data.transfer: expected a mapping, got 'more'. Allowed: unlabelled, generator, noise, count, alone, classes"),
    ("data: mnist", "data: {source: mnist, folds: 1}",
     "2: data.folds: expected a whole number from 2 to 20, or null, got 1"),
    ("data: mnist", "data: {source: mnist, folds: 5, validation: 0.2}",
     "2: data.validation: 0.2 conflicts with folds, each of which is the validation split in turn. Allowed with "
     "folds: null"),
    ("data: mnist", "data: {source: mnist, augment: [{crop: 0}]}",
     "2: data.augment.0.crop: expected a whole number from 1 to 512, got 0"),
    ("data: mnist", "data: {source: mnist, augment: {crop: 4}}", "2: data.augment: expected a list, got {\"crop\": 4}"),
    ("data: mnist", "data: {source: mnist, transfer: {jitter: 2}}",
     "2: data.transfer.jitter: unknown field. Allowed: unlabelled, generator, noise, count, alone, classes\nmy.yaml:2: "
     "data.transfer: expected one of the fields unlabelled, generator, noise and classes, got none of them"),
    ("data: mnist", "data: {source: mnist, transfer: {}}",
     "2: data.transfer: expected one of the fields unlabelled, generator, noise and classes, got none of them"),
    ("data: mnist", "data: {source: mnist, transfer: {unlabelled: rest}}",
     "2: data.transfer.unlabelled: 'rest' means the training examples that data.labelled leaves out, but data.labelled "
     "is null. Allowed: a path, or 'rest' with data.labelled"),
    ("data: mnist", "data: {source: mnist, transfer: {classes: [7], count: 5}}",
     "2: data.transfer.count: 5 limits the additional images. Allowed without unlabelled, generator and noise: null"),
    ("data: mnist", "data: {source: mnist, transfer: {generator: vae, noise: uniform, count: 5}}",
     "2: data.transfer: expected at most one of unlabelled, generator and noise, got generator and noise"),
    ("data: mnist", "data: {source: mnist, transfer: {generator: vae}}",
     "2: data.transfer.count: missing. With generator, expected a whole number of at least 1"),
    ("data: mnist", "data: {source: mnist, transfer: {noise: uniform, count: 5, classes: [7]}}",
     "2: data.transfer.classes: the images of noise have no classes. Allowed with noise: null"),
    ("data: mnist", "data: {source: mnist, transfer: {classes: [7], alone: true}}",
     "2: data.transfer.alone: true applies to the images of generator or noise. Allowed without them: false"),
    ("data: mnist", "data: {source: ./photos, transfer: {unlabelled: ./more, classes: [cat]}}",
     "2: data.transfer.classes: the images of './more' have no classes. Allowed with this path: null"),
    ("data: mnist", "data: {source: mnist, transfer: {classes: [7, 8, \"7\"]}}",
     "2: data.transfer.classes.2: '7' appears twice. Each class may appear only once"),
    ("data: mnist", "data: {source: mnist, transfer: {classes: []}}",
     "2: data.transfer.classes: expected a list that is not empty, or null, got []"),
    ("data: mnist", "data: {source: mnist, transfer: {classes: [7.5]}}",
     "2: data.transfer.classes.0: expected text that is not empty, got 7.5"),
    ("data: mnist", "data: {source: mnist, labelled: 0}",
     "2: data.labelled: expected a whole number of at least 1, or null, got 0"),
    ("data: mnist", "data: {source: mnist, validate_every: 0}",
     "2: data.validate_every: expected a whole number of at least 1, got 0"),
    ("64]}, epochs: 5", "64]}", "3: teacher.epochs: missing. Expected a whole number from 1 to 1000000"),
    ("64]}, epochs: 5", "64]}, epochs: 0", "3: teacher.epochs: expected a whole number from 1 to 1000000, got 0"),
    ("teacher: {network: {mlp: [128, 64]}, epochs: 5}", "teacher: []",
     "3: teacher: expected a teacher, or a list of at least 2 teachers, got []"),
    ("teacher: {network: {mlp: [128, 64]}, epochs: 5}", "teacher: [{registry: a}, {network: {mlp: [8]}}]",
     "3: teacher.1.epochs: missing. Expected a whole number from 1 to 1000000"),
    ("network: {mlp: [128, 64]}, epochs: 5", "epochs: 5",
     "3: teacher.network: missing. Expected a mapping such as {mlp: [128, 64]}, or registry: MODEL"),
    ("network: {mlp: [128, 64]}, epochs: 5", "checkpoint: t.safetensors",
     "3: teacher.network: missing. Expected a mapping such as {mlp: [128, 64]}, or registry: MODEL"),
    ("teacher: {", "teacher: {checkpoint: t.safetensors, ",
     "3: teacher.epochs: has no effect on a teacher that is trained already. Remove this field"),
    ("network: {mlp: [128, 64]}, epochs: 5", "registry: big, batch: 32",
     "3: teacher.batch: has no effect on a teacher that is trained already. Remove this field"),
    ("network: {mlp: [128, 64]}, epochs: 5", "registry: big, network: {mlp: [8]}",
     "3: teacher.network: conflicts with registry, which provides the network. Allowed: null"),
    ("teacher: {", "teacher: {checkpoint: t.safetensors, registry: big, ",
     "3: teacher.registry: 'big' conflicts with checkpoint. Allowed: one of them"),
    ("teacher: {", "teacher: {key: model, ", "3: teacher.key: has no effect without checkpoint. Remove this field"),
    ("teacher: {", "teacher: {prefix: model., ",
     "3: teacher.prefix: has no effect without checkpoint. Remove this field"),
    ("epochs: 5}\nvar", "epochs: five}\nvar",
     "4: student.epochs: expected a whole number from 1 to 1000000, got 'five'"),
    ("epochs: 5}\nvar", "epochs: 1.5}\nvar", "4: student.epochs: expected a whole number from 1 to 1000000, got 1.5"),
    ("{mlp: [32]}, epochs: 5", "{mlp: [32]}", "4: student.epochs: missing. Expected a whole number from 1 to 1000000"),
    ("[32]}", "[]}", "4: student.network.mlp: expected a list that is not empty, or null, got []"),
    ("[32]}", "[32, 0]}", "4: student.network.mlp.1: expected a whole number from 1 to 100000, got 0"),
    ("{mlp: [32]}", "resnet18",
     f"4: student.network.name: unknown network 'resnet18'. Did you mean 'resnet8'? Allowed: {ARCHITECTURES}, "
     f"{{torchvision: NAME}}, {{timm: NAME}}, package.module:Class"),
    ("{mlp: [32]}", "'my.networks:'",
     "4: student.network.module: expected package.module:Class or ./file.py:Class, got 'my.networks:'"),
    ("{mlp: [32]}", "{mlp: [32], conv: [8]}", "4: student.network.conv: conflicts with mlp. Allowed: one of them"),
    ("{mlp: [32]}", "{}",
     "4: student.network: expected one of mlp, conv, name, torchvision, timm, module, compact, got none of them"),
    ("{mlp: [32]}", "{conv: [8], dropout: 0.5}",
     "4: student.network.dropout: applies only to mlp. Allowed with conv: 0.0"),
    ("{mlp: [32]}", "{name: vgg8, weights: DEFAULT}",
     "4: student.network.weights: applies only to torchvision and timm. Allowed with name: null"),
    ("{mlp: [32]}", "{compact: {block: depthwise}}",
     "4: student.network.compact.budget: missing. Expected parameters, flops or latency_ms, or both width and depth"),
    ("{mlp: [32]}", "{compact: {block: depth-wise, budget: 60000}}",
     f"4: student.network.compact.block: unknown block 'depth-wise'. Did you mean 'depthwise'? Allowed: {BLOCKS}"),
    ("{mlp: [32]}", "{compact: {block: fire, width: 6, depth: 2}}",
     "4: student.network.compact.width: expected a whole number of at least 4 and a multiple of 4, or null, got 6"),
    ("{mlp: [32]}", "{compact: {block: fire, width: 8}}",
     "4: student.network.compact.depth: missing. Expected a whole number, since width is set"),
    ("{mlp: [32]}", "{compact: {block: fire, budget: {parameters: 5, flops: 5}}}",
     "4: student.network.compact.budget: expected one of parameters, flops, latency_ms, got {\"parameters\": 5, "
     "\"flops\": 5}"),
    ("{mlp: [32]}", "{compact: {block: fire, budget: 0}}",
     "4: student.network.compact.budget.parameters: expected a whole number of at least 1, or null, got 0"),
    ("[32]}", "[32], dropout: 1}", "4: student.network.dropout: expected a number of at least 0 and below 1, got 1"),
    ("[32]}", "[32]}, batch: 0", "4: student.batch: expected a whole number from 1 to 1000000, got 0"),
    ("[32]}", "[32]}, seeds: 0", "4: student.seeds: expected a whole number from 1 to 500, got 0"),
    ("[32]}", "[32]}, optimizer: adam",
     "4: student.optimizer: expected one name with arguments, such as {adam: {lr: 0.001}}, got 'adam'. Allowed: "
     "adam, adamw, sgd"),
    ("[32]}", "[32]}, optimizer: {adma: {}}",
     "4: student.optimizer: unknown optimizer 'adma'. Did you mean 'adam'? Allowed: adam, adamw, sgd"),
    ("[32]}", "[32]}, optimizer: {sgd: {momentun: 0.9}}",
     "4: student.optimizer.sgd.momentun: unknown field. Did you mean 'momentum'? Allowed: lr, momentum, dampening, "
     "weight_decay, nesterov"),
    ("[32]}", "[32]}, optimizer: {adam: {lr: 0}}",
     "4: student.optimizer.adam.lr: expected a number above 0, got 0"),
    ("[32]}", "[32]}, optimizer: {sgd: {nesterov: true}}",
     "4: student.optimizer.sgd.nesterov: true needs a momentum above 0 and a dampening of 0"),
    ("[32]}", "[32]}, schedule: {cosine: {warmup: 5}}",
     "4: student.schedule.cosine.warmup: expected fewer warm-up epochs than the 5 epochs of training, got 5"),
    ("[32]}", "[32]}, schedule: {step: {factor: 0.1}}",
     "4: student.schedule.step.at: missing. Expected a list that is not empty"),
    ("[32]}", "[32]}, precision: float16",
     "4: student.precision: unknown value 'float16'. Did you mean 'bfloat16'? Allowed: float32, bfloat16"),
    ("[32]}", "[32]}, patience: 3", "4: student.patience: 3 needs select: best-validation. Allowed without it: null"),
    ("[32]}", "[32]}, schedule: {one_cycle: {rise: 1}}",
     "4: student.schedule.one_cycle.rise: expected a number above 0 and below 1, got 1"),
    ("[32]}", "[32]}, schedule: {constant: {}}",
     "4: student.schedule.constant.warmup: missing. Expected a whole number of at least 1"),
    ("[32]}", "[32]}, schedule: {step: {at: [2], warmup: 5}}",
     "4: student.schedule.step.warmup: expected fewer warm-up epochs than the 5 epochs of training, got 5"),
    ("[32]}", "[32]}, label_smoothing: 0.1", f"4: student.label_smoothing: unknown field. Allowed: {STUDENT}"),
    ("[32]}", "[32]}, select: best", "4: student.select: unknown value 'best'. Allowed: last, best-validation"),
    ("  - kd\n", "  - kdd\n", f"6: variants.0: unknown preset 'kdd'. Did you mean 'kd'? Allowed: {PRESETS}"),
    ("  - kd\n", "  - kd\n  - kd\n", "7: variants.1: 'kd' appears twice. Each name may appear only once"),
    ("  - kd\n", "  - 5\n", "6: variants.0: expected a mapping, got 5. Allowed: name, terms, student, equal_steps, "
     "grid"),
    ("[2, 8]", "[2, 0]", "7: variants.1.kd.temperature: 0 is out of range. Allowed: above 0 and below 1e+06"),
    ("[2, 8]", "[]",
     "7: variants.1.kd.temperature: expected at least one value, got []. Allowed: above 0 and below 1e+06"),
    ("{temperature: [2, 8]}", "{epsilon: 0.1}",
     f"7: variants.1.kd.epsilon: kd has no hyperparameter 'epsilon'. Allowed: {KD_AXES}"),
    ("{temperature: [2, 8]}", "4",
     f"7: variants.1.kd: expected a mapping of hyperparameters, got 4. Allowed: {KD_AXES}"),
    ("{kd: {temperature: [2, 8]}}", "{label-smoothing: {epsilon: 1}}",
     "7: variants.1.label-smoothing.epsilon: 1 is out of range. Allowed: 0 or more and below 1"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: kdd}",
     f"7: variants.1.terms: unknown preset 'kdd'. Did you mean 'kd'? Allowed: {PRESETS}"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: [soft-targets]}",
     f"7: variants.1.terms.0: unknown loss 'soft-targets'. Did you mean 'soft_targets'? Allowed: {LOSSES}"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: [{hard_labels: 0}]}",
     "7: variants.1.terms.0.weight: expected a number above 0, auto, or {auto: RATIO}, got 0"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: [{hard_labels: {at: last}}]}",
     f"7: variants.1.terms.0.at: hard_labels takes no features. Allowed with the losses: {TAPPED}"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: [{soft_targets: {temprature: 2}}]}",
     "7: variants.1.terms.0.temprature: soft_targets has no hyperparameter 'temprature'. Did you mean "
     "'temperature'? Allowed: temperature, weight, warmup, cosine"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: [{hint: {att: last}}]}",
     "7: variants.1.terms.0.att: hint has no hyperparameter 'att'. Did you mean 'at'? Allowed: activation, "
     "weight, warmup, cosine, at"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: [hard_labels, {hint: {at: 3}}]}",
     "7: variants.1.terms.1.at: expected a place in the network, got 3. Allowed: first, middle, deepest, last, "
     "a module's dotted name, {student: NAME, teacher: NAME}, or a list of these"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: [{hint: {weight: []}}]}",
     "7: variants.1.terms.0.hint.weight: expected at least one value, got []"),
    ("[2, 8]", "1.0e+200", "7: variants.1.kd.temperature: 1e+200 is out of range. Allowed: above 0 and below 1e+06"),
    ("temperature: [2, 8]", "temperature: 2, soft_targets.temperature: 3",
     "7: variants.1.kd: temperature and soft_targets.temperature set the same number. Allowed: one of them"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: [hard_labels, {hint: {at: [last, last]}}]}",
     "7: variants.1.terms.1.at: [\"last\", \"last\"] names a place twice. Allowed: each place once"),
    ("{kd: {temperature: [2, 8]}}", "{hint: {at: [middle, 3]}}",
     "7: variants.1.hint.at: expected a place in the network, got 3. Allowed: first, middle, deepest, last, "
     "a module's dotted name, {student: NAME, teacher: NAME}, or a list of these"),
    ("{kd: {temperature: [2, 8]}}", "{kd: {at: last}}",
     f"7: variants.1.kd.at: kd has no hyperparameter 'at'. Allowed: {KD_AXES}"),
    ("{kd: {temperature: [2, 8]}}", "{soft_targets: {temperature: 2}}", "7: variants.1: 'soft_targets' is a loss. "
     f"Allowed: {{name: NAME, terms: [{{soft_targets: {{weight: 1}}}}]}}, or a preset: {PRESETS}"),
    ("{kd: {temperature: [2, 8]}}", "{hint: {at: a module/of mine}}",
     f"7: variants.1.name: expected a name, got 'hint-at=a module/of mine'. Allowed: at most 100 {NAME_RULE}"),
    ("epochs: 5}\nvar", "epochs: 5000000}\nvar",
     "4: student.epochs: expected a whole number from 1 to 1000000, got 5000000"),
    ("variants:", "schedule: {cron: 0 25 * * *}\nvariants:",
     f"5: schedule.cron: expected {CRON_IN_WORDS}, got '0 25 * * *'"),
    ("variants:", "schedule: {every: 99999999999}\nvariants:",
     "5: schedule.every: expected a whole number from 1 to 31622400, or null, got 99999999999"),
    ("name: mine", 'name: "mine\\n"', f"1: name: expected a name, got 'mine\\n'. Allowed: at most 92 {NAME_RULE}"),
    ("{kd: {temperature: [2, 8]}}", "{dm: {metric: manhattan}}",
     "7: variants.1.dm.metric: 'manhattan' is not a known value. Allowed: euclidean, cosine"),
    ("{kd: {temperature: [2, 8]}}", "{dkd: {cosine: 1}}", "7: variants.1.dkd.cosine: expected true or false, got 1"),
    ("{kd: {temperature: [2, 8]}}", "{crd: {negatives: 2.5}}",
     "7: variants.1.crd.negatives: 2.5 is not a whole number. Allowed: a whole number, 1 or more"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: [hard_labels, hard_labels]}",
     "7: variants.1.terms.1: hard_labels appears twice. Each loss may appear only once"),
    ("{kd: {temperature: [2, 8]}}", "{name: hard-labels, terms: kd}",
     "7: variants.1.name: hard-labels is the name of the control, which trains the experiment's student by "
     "hard_labels alone. Allowed: another name"),
    ("{kd: {temperature: [2, 8]}}", "{name: hard-labels, terms: hard-labels, student: {epochs: 3}}",
     "7: variants.1.name: hard-labels is the name of the control, which trains the experiment's student by "
     "hard_labels alone. Allowed: another name"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: kd, student: {epochs: 0}}",
     "7: variants.1.student.epochs: expected a whole number from 1 to 1000000, got 0"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: kd, student: {seeds: 9}}",
     "7: variants.1.student.seeds: 9 differs from the experiment's seeds, which are compared in pairs. Allowed: 3"),
    ("{kd: {temperature: [2, 8]}}", "{name: x, terms: kd, student: small}",
     f"7: variants.1.student: expected a mapping, got 'small'. Allowed: {STUDENT}"),
    ("variants:", "promote: {margin: -1}\nvariants:",
     "5: promote.margin: expected a number of at least 0 and below 1, got -1"),
    ("variants:", "promote: {report: [kdd]}\nvariants:",
     "5: promote.report.0: unknown variant 'kdd'. Did you mean 'kd'? Allowed: hard-labels, kd, kd-temperature=2, "
     "kd-temperature=8"),
    ("variants:", "promote: {require: {accuracy: 0.9}}\nvariants:",
     "5: promote.require.accuracy: expected a bound such as '>= 0.95', or null, got 0.9"),
    ("variants:", "promote: {require: {parameters: '>= 3'}}\nvariants:",
     "5: promote.require.parameters: expected a bound such as '<= 60000', or null, got '>= 3'"),
    ("variants:", "promote: {require: {accuracy: '>= 95'}}\nvariants:",
     "5: promote.require.accuracy: expected a bound from '>= 0' to '>= 1', got '>= 95'"),
    ("variants:", "promote: {require: {latency_ms: 3}}\nvariants:",
     "5: promote.require.latency_ms: expected a bound such as '<= 5', or null, got 3"),
    ("variants:", "promote: {require: {class_accuracy: '<= 0.8'}}\nvariants:",
     "5: promote.require.class_accuracy: expected a bound such as '>= 0.8', or null, got '<= 0.8'"),
    ("variants:", "promote: {require: {class_accuracy: '>= 80'}}\nvariants:",
     "5: promote.require.class_accuracy: expected a bound from '>= 0' to '>= 1', got '>= 80'"),
    ("variants:", "promote: {require: {ece: '>= 0.1'}}\nvariants:",
     "5: promote.require.ece: expected a bound such as '<= 0.05', or null, got '>= 0.1'"),
    ("variants:", "promote: {require: {ece: '<= 5'}}\nvariants:",
     "5: promote.require.ece: expected a bound from '<= 0' to '<= 1', got '<= 5'"),
    ("variants:", "runner: {kind: spark}\nvariants:",
     "5: runner.kind: unknown value 'spark'. Allowed: auto, thread, process, ray, dask"),
    ("variants:", "runner: {address: tcp://x}\nvariants:",
     "5: runner.address: 'tcp://x' applies only to kind: ray or dask, got kind: auto"),
    ("variants:", "runner: {kind: dask, gpus_per_student: 0.5}\nvariants:",
     "5: runner.gpus_per_student: 0.5 applies only to kind: ray, got kind: dask"),
    ("variants:", "runner: {kind: ray, gpus_per_student: 2}\nvariants:",
     "5: runner.gpus_per_student: expected a number above 0 and of at most 1, or null, got 2"),
    ("variants:", "runner: {host: x}\nvariants:",
     "5: runner.host: unknown field. Allowed: kind, workers, address, gpus_per_student"),
    ("variants:", "schedule: {}\nvariants:", "5: schedule.cron: expected one of schedule.cron and schedule.every"),
    ("variants:", "schedule: {cron: daily}\nvariants:",
     f"5: schedule.cron: expected {CRON_IN_WORDS}, got 'daily'"),
    ("variants:", "schedule: {cron: 0 3 * * *, timezone: Berlin}\nvariants:",
     "5: schedule.timezone: expected a time zone such as Europe/Berlin, got 'Berlin'"),
    ("variants:", "knowledge: {views: all}\nvariants:",
     "5: knowledge.views: expected auto or a whole number of at least 0, got 'all'"),
    ("variants:", "mail: me\nvariants:",
     f"5: mail: unknown field. Allowed: {FIELDS}"),
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
def test_each_mistake_gives_one_line(file: Path, old: str, new: str, line: str) -> None:
    assert SHORT.count(old) == 1
    assert error_of(file, SHORT.replace(old, new)) == f"my.yaml:{line}"


def test_all_mistakes_are_reported_at_once(file: Path) -> None:
    """An unknown field, or the first wrong variant, once hid all other mistakes."""
    text = SHORT.replace("name: mine", "nmae: mine\nfolds: 3").replace("data: mnist", "data: {source: mnits, sise: 3}")
    text = text.replace("[32]}", "[32]}, batch: 0, optimizer: {adam: {lr: 0, ep: 1}}").replace("- kd\n", "- kdd\n")
    text = text.replace("temperature: [2, 8]", "temperature: 0")
    assert [line.partition(". ")[0] for line in error_of(file, text).splitlines()] == [
        "my.yaml:1: nmae: unknown field",
        "my.yaml:2: folds: unknown field",
        "my.yaml:3: data.sise: unknown field",
        "my.yaml:3: data.source: unknown source 'mnits'",
        "my.yaml:5: student.batch: expected a whole number from 1 to 1000000, got 0",
        "my.yaml:5: student.optimizer.adam.ep: unknown field",
        "my.yaml:5: student.optimizer.adam.lr: expected a number above 0, got 0",
        "my.yaml:7: variants.0: unknown preset 'kdd'",
        "my.yaml:8: variants.1.kd.temperature: 0 is out of range",
    ]


def test_mistakes_are_sorted_by_line(file: Path) -> None:
    text = SHORT.replace("data: mnist", "data: mnits").replace("[32]", "[-1]").replace("- kd", "- kk")
    lines = error_of(file, text, "seed=x").splitlines()
    assert [line.split(": ")[0] for line in lines] == ["my.yaml:2", "my.yaml:4", "my.yaml:6", "--set seed"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "my.yaml: is empty. "),
        ("# nothing\n", "my.yaml: is empty. "),
        ("- kd\n", 'my.yaml: expected a mapping, got ["kd"]. '),
        ("kd", "my.yaml: expected a mapping, got 'kd'. "),
    ],
)
def test_a_file_that_is_not_a_mapping_is_refused(file: Path, content: str, line: str) -> None:
    assert error_of(file, content) == f"{line}The fields of an experiment: {FIELDS}"


OVERRIDES = [
    ("student.epochs=five", "student.epochs: expected a whole number from 1 to 1000000, got 'five'"),
    ("student=five", f"student: expected a mapping, got 'five'. Allowed: {STUDENT}"),
    ("studnet.epochs=5",
     f"studnet.epochs: studnet: unknown field. Did you mean 'student'? Allowed: {FIELDS}"),
    ("student.epohcs=5", f"student.epohcs: unknown field. Did you mean 'epochs'? Allowed: {STUDENT}"),
    ("student.network={mlp: [0]}",
     "student.network: student.network.mlp.0: expected a whole number from 1 to 100000, got 0"),
    ("variants.2=kd", "variants.2: variants has no item '2'. Allowed: 0, 1"),
    ("variants.x=kd", "variants.x: variants has no item 'x'. Allowed: 0, 1"),
    ("variants.0.temperature=2", "variants.0.temperature: variants.0 is 'kd', which has no fields"),
    ("variants.1.kd.temperature=-2",
     "variants.1.kd.temperature: -2 is out of range. Allowed: above 0 and below 1e+06"),
    ("seed", "seed: expected key=value, such as student.epochs=5"),
    ("=1", "=1: expected key=value, such as student.epochs=5"),
    ("student..epochs=1", "student..epochs=1: expected key=value, such as student.epochs=5"),
    ("student.seeds=[", "student.seeds: invalid YAML at column 2: expected the node content, but found '<stream end>'"),
    ("student={epochs: 1, epochs: 2}",
     "student: student.epochs: already given at --set student, and again here at column 13"),
    ("student.epochs=!!int five", "student.epochs: 'five' at column 1 is not readable as int"),
    ("name=m\x07ne", "name: the character U+0007 at column 2 is not allowed"),
]  # fmt: skip


@pytest.mark.parametrize(("override", "line"), OVERRIDES, ids=[override for override, _ in OVERRIDES])
def test_a_mistake_in_an_override(file: Path, override: str, line: str) -> None:
    assert error_of(file, SHORT, override) == f"--set {line}"


def test_overrides_take_precedence_and_create_missing_fields(file: Path) -> None:
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


@pytest.mark.parametrize("name", ["café", "Größe 2", "опыт", "実験", "été.1"])
def test_a_name_may_have_letters_of_other_languages(file: Path, name: str) -> None:
    file.write_text(SHORT)
    assert read_experiment(file, [f"name={name}"]).name == name


@pytest.mark.parametrize("name", ["café×2", "a\u0301", "\u202eabc", "a/é", "é "])
def test_a_name_has_no_other_signs(file: Path, name: str) -> None:
    file.write_text(SHORT)
    with pytest.raises(UserError, match="letters, digits, spaces and signs"):
        read_experiment(file, [f"name={name!r}"])


def test_a_path_is_relative_to_the_file_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for folder in (project, elsewhere):
        (folder / "photos").mkdir(parents=True)
    (elsewhere / "teacher.pt").write_text("weights")
    file = project / "mine.yaml"
    shape = {"network": {"mlp": [8]}, "epochs": 1}
    teacher = {"network": {"mlp": [8]}, "checkpoint": "./teacher.pt"}
    file.write_text(
        json.dumps(
            {
                "name": "mine",
                "data": {"source": "./photos", "transfer": {"unlabelled": "./absent"}},
                "teacher": teacher,
                "student": shape,
                "variants": ["hard-labels"],
            }
        )
    )
    monkeypatch.chdir(elsewhere)
    experiment = read_experiment(file)
    assert experiment.data.source == str(project / "photos")
    assert experiment.teacher.checkpoint == str(elsewhere / "teacher.pt")
    assert experiment.data.transfer is not None
    assert experiment.data.transfer.unlabelled == "./absent"


def test_a_relative_source_of_a_teachers_data_becomes_absolute(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(SHORT)
    monkeypatch.chdir(file.parent)
    Path("more.npz").touch()
    for override in ("teacher.data=./more.npz", "teacher.data={source: ./more.npz}", "teacher.data.source=./more.npz"):
        data = read_experiment(file, [override]).teacher.data
        assert data is not None
        assert data.source == os.path.abspath("more.npz")


@pytest.mark.parametrize(("message", "place"), [
    ("data.subset: 9 is out of range", "2: data.subset: 9 is out of range"),
    ("teacher: the outputs are infinite", "4: teacher: the outputs are infinite"),
    ("teacher.data.subset: 9 is out of range", "6: teacher.data.subset: 9 is out of range"),
    ("teacher.network.module: nets: this module does not exist",
     "5: teacher.network.module: nets: this module does not exist"),
    ("variants.1.kd: no such layer", "10: variants.1.kd: no such layer"),
])  # fmt: skip
def test_a_mistake_that_the_data_reveal_gets_the_line_of_its_field(file: Path, message: str, place: str) -> None:
    nested = "\nteacher:\n  network: {mlp: [128, 64]}\n  data: {subset: 9}\n"
    text = SHORT.replace("\nteacher: {network: {mlp: [128, 64]}, epochs: 5}\n", "\n" + nested)
    file.write_text(text)
    assert with_place(message, file) == f"{file}:{place}"


def test_a_mistake_that_the_data_reveal_names_the_override(file: Path) -> None:
    file.write_text(SHORT)
    message = with_place("data.subset: 9 is out of range", file, ["data.subset=9"])
    assert message == "--set data.subset: 9 is out of range"


@pytest.mark.parametrize("message", ["no student finished", "hint: it diverged", "data"])
def test_a_message_without_a_field_stays_unchanged(file: Path, message: str) -> None:
    file.write_text(SHORT)
    assert with_place(message, file) == message


def test_a_message_stays_unchanged_if_the_file_no_longer_exists(file: Path) -> None:
    assert with_place("data.subset: 9 is out of range", file) == "data.subset: 9 is out of range"
