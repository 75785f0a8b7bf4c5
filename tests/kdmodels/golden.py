"""One small case of everything that kdflow computes, and how their figures are recorded anew.

`python -m tests.kdmodels.golden` writes `golden_results.json`. It refuses where a figure moved and no version that the
case depends on was raised in `kdmodels/versions.py`.
"""

import json
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from math import isclose
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from kdmodels.data import Split, load_dataset
from kdmodels.data.augment import Augmentation
from kdmodels.evaluation.calibration import expected_calibration_error
from kdmodels.evaluation.predictions import by_class, confidences, macro
from kdmodels.experiment import Network, Recipe, Term
from kdmodels.experiment.architectures import ARCHITECTURES, BLOCKS
from kdmodels.experiment.augmentation import Operation
from kdmodels.experiment.catalogue import LOSSES
from kdmodels.experiment.data import Data
from kdmodels.experiment.generator import Generator
from kdmodels.experiment.terms import Calibrated
from kdmodels.experiment.tune import axes
from kdmodels.generators.build import GeneratorDescription, build_trainer, examples
from kdmodels.generators.gan import ImageGenerator
from kdmodels.generators.samples import sample
from kdmodels.generators.training import Schedule, train_generator
from kdmodels.generators.vae import Vae
from kdmodels.knowledge import LiveTeacher, distil_knowledge
from kdmodels.networks import Ensemble, build, initialise, within_budget
from kdmodels.randomness import generator_for
from kdmodels.training import Replica, fit
from kdmodels.training.tuning import propose, seed_of_search
from kdmodels.versions import VERSIONS, versions

FILE = Path(__file__).with_name("golden_results.json")
RELATIVE = 2e-4  # by which another CPU's figures may differ; near 0 by a 200th of that
DEEP = 2e-3  # the same of networks of many layers
HALF = 3e-2  # the same of bfloat16, which CPUs round in ways of their own

Figure = float | str
Figures = dict[str, Figure]


@dataclass(frozen=True)
class Case:
    """Figures, and the rows of `VERSIONS` that they depend on."""

    rows: frozenset[str]
    compute: Callable[[], Figures]
    relative: float = RELATIVE


SHAPE: dict[str, Any] = {"input_shape": (3, 8, 8), "classes": 4, "mean": [0.4, 0.5, 0.6], "std": [0.25, 0.3, 0.2]}
MLP, CONV = Network(mlp=[6, 5]), Network(conv=[4, 6, 8])
SGD = {"sgd": {"lr": 0.02, "momentum": 0.9}}
LABELS = Term(loss="hard_labels")
WEIGHTS = {
    "dist": 0.02,
    "probabilistic_transfer": 1e3,
    "similarity_preserving": 30.0,
    "overhaul": 0.01,
}  # of a gradient that matters
FEW = {"contrastive_representation": {"negatives": 20.0, "width": 8.0}, "adversarial": {"width": 8.0},
       "correlation_congruence": {"width": 8.0}}  # fmt: skip
KD = [LABELS, Term(loss="soft_targets")]
AUTO = [
    Term(loss="soft_targets", weight=Calibrated(auto=2.0)),
    Term(loss="cosine_features", weight=Calibrated(auto=1.0)),
]


def split(count: int, purpose: str, unlabelled: int = 0) -> Split:
    generator = generator_for(5, purpose)
    labels = torch.randint(4, (count,), generator=generator)
    images = torch.rand(count, 3, 8, 8, generator=generator) * 0.4 + labels.view(-1, 1, 1, 1) * 0.15
    labels[:unlabelled] = -1
    return Split(images, labels)


TRAIN, VALIDATION = split(50, "train"), split(21, "validation")


@cache
def teacher(number: int = 0) -> nn.Module:
    network = build(Network(conv=[5, 7, 10]), **SHAPE)
    initialise(network, generator_for(number, "golden teacher"))
    return network.eval()


def pattern(tensor: Tensor) -> float:
    """A sum in which every value has a weight of its own, divided by their number."""
    values = tensor.detach().double().flatten()
    return float((values * torch.arange(1, len(values) + 1).double().sin()).sum() / len(values) ** 0.5)


def figures_of(replicas: Sequence[Replica]) -> Figures:
    """The losses of the last epoch, and what became of the weights; accuracies move in steps, and are left out."""
    figures: Figures = {}
    for replica in replicas:
        name = f"seed {replica.seed}"
        figures |= {f"{name} {key}": value for key, value in replica.history[-1].items() if "accuracy" not in key}
        state = {**replica.state, **{f"own.{key}": value for key, value in replica.own.items()}}
        weights = torch.cat([state[key].double().flatten() for key in sorted(state)])
        figures |= {f"{name} norm": float(weights.norm()), f"{name} weights": pattern(weights)}
        figures |= {f"{name} epoch": float(replica.epoch), f"{name} epochs": float(len(replica.history))}
    return figures


def trained(
    terms: Sequence[Term] = (LABELS,),
    network: Network = MLP,
    *,
    train: Split = TRAIN,
    augment: Sequence[Operation] = (),
    views: int = 1,
    live: bool = False,
    members: int = 1,
    relative: float = RELATIVE,
    **recipe: Any,
) -> Case:
    """A training of two seeds and two epochs."""
    settings = Recipe.model_validate({"epochs": 2, "batch": 16, "optimizer": SGD} | recipe)

    def compute() -> Figures:
        augmentation = Augmentation(augment, 3, 0 if live else views)
        places = sorted({of_teacher for term in terms for _, of_teacher in term.pairs})
        says = Ensemble([teacher(number) for number in range(members)]) if members > 1 else teacher()
        knowledge: Any = None
        if live:
            knowledge = (LiveTeacher(says, places), LiveTeacher(says, places))
        elif any(LOSSES[term.loss].needs != "labels" for term in terms):
            shown = [augmentation.view(train, epoch) for epoch in range(1, views + 1)]
            knowledge = ([distil_knowledge(says, view, places) for view in shown],
                         distil_knowledge(says, VALIDATION, places))  # fmt: skip
        student = build(network, **SHAPE)
        return figures_of(fit(student, terms, settings, train, VALIDATION, seeds=[0, 1], knowledge=knowledge,
                        augmentation=augmentation))  # fmt: skip

    rows = versions(network, recipe=settings, terms=terms, augment=augment).keys() - {"data"}
    return Case(frozenset(rows), compute, relative)


def loss(name: str, **hyperparameters: float | str) -> Case:
    given = FEW.get(name, {}) | hyperparameters
    term = Term.model_validate({"loss": name, "weight": WEIGHTS.get(name, 1.0), "hyperparameters": given})
    return trained([term] if LOSSES[name].needs == "labels" else [LABELS, term], CONV)


def said() -> Figures:
    """What a teacher and an ensemble say, in their stored form."""
    one = distil_knowledge(teacher(), TRAIN, ["first", "last"])
    two = distil_knowledge(Ensemble([teacher(), teacher(1)]), TRAIN)
    values = {"logits": one.logits, **one.features, "ensemble": two.logits}
    types: Figures = {f"{name} type": str(tensor.dtype) for name, tensor in values.items()}
    return types | {name: pattern(tensor) for name, tensor in values.items()}


def drawn(network: Network, size: int = 8) -> Figures:
    """The number of parameters, and the logits and one step's gradient, of initial weights."""
    built = build(network, **SHAPE | {"input_shape": (3, size, size)})
    initialise(built, generator_for(2, "golden network"))
    images = torch.rand(4, 3, size, size, generator=generator_for(2, "golden images"))
    evaluated = pattern(built.eval()(images))
    logits = built.train()(images)
    logits.square().sum().backward()
    gradients = torch.cat([parameter.grad.flatten() for parameter in built.parameters() if parameter.grad is not None])
    counted = float(sum(parameter.numel() for parameter in built.parameters()))
    return {"parameters": counted, "eval": evaluated, "train": pattern(logits), "gradient": float(gradients.norm())}


def shown(operation: dict[str, Any]) -> Figures:
    """Two views, and what is mixed into them."""
    augmentation = Augmentation(Data(source="digits", augment=[operation]).augment, 3)
    figures: Figures = {}
    for epoch in (1, 2):
        view, rows = augmentation.view(TRAIN, epoch), torch.arange(len(TRAIN))
        figures[f"view {epoch}"] = pattern(view.batch(rows))
        figures |= {f"{name} {epoch}": pattern(tensor) for name, tensor in view.mixed(rows).items()}
    return figures


def compact(block: str) -> Network:
    return Network.model_validate({"compact": {"block": block, "width": 8, "depth": 5}})


def within(**budget: float) -> Figures:
    network = Network.model_validate({"compact": {"block": "depthwise", "budget": budget}})
    sized = within_budget(network, input_shape=(3, 16, 16), classes=4).compact
    assert sized is not None
    return {"width": float(sized.width or 0), "depth": float(sized.depth or 0)}


def read(make: Callable[[Path], Path | str], **fields: Any) -> Figures:
    """The digests of a source, which cover pixels, labels and splits; and its normalisation."""
    with TemporaryDirectory() as folder:
        source = make(Path(folder))
        data = load_dataset(Data(source=str(source), **fields), fold=1 if "folds" in fields else 0)
        shape = ", ".join(map(str, (len(data.train), len(data.validation), data.test_examples, *data.input_shape)))
        return {"digest": data.digest, "training": data.training_digest, **data.split_digests, "shape": shape,
                "mean": data.mean[0], "std": data.std[0], "pixels": pattern(data.train.images)}  # fmt: skip


def pixels(count: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    return (
        torch.randint(256, (count, height, width, channels), generator=generator_for(4, "pixels"))
        .numpy()
        .astype(np.uint8)
    )


def arrays(folder: Path) -> Path:
    np.savez(folder / "a.npz", images=pixels(60, 6, 6), labels=np.arange(60) % 3)
    return folder / "a.npz"


def photos(folder: Path, splits: Sequence[str] = ("",)) -> Path:
    """PNGs of three classes, of two sizes and of grey and colour."""
    for number, image in enumerate(pixels(48, 9, 7)):
        place = folder / "photos" / splits[number // 3 % len(splits)] / "abc"[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        whole = Image.fromarray(image if number % 4 else image[1:8])
        (whole.convert("L") if number % 5 == 0 else whole).save(place / f"{number}.png")
    return folder / "photos"


def table(folder: Path) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    root = photos(folder)
    files = sorted(root.rglob("*.png"))
    columns = {"image": [file.read_bytes() for file in files], "label": [file.parent.name for file in files]}
    parquet.write_table(pa.table(columns), folder / "t.parquet")
    return folder / "t.parquet"


def measured() -> Figures:
    """Figures by class and calibration."""
    logits = torch.randn(40, 4, generator=generator_for(6, "logits"))
    labels, predicted = (np.arange(40) % 4), logits.argmax(dim=1).numpy()
    promised = confidences(logits)
    rows = by_class(predicted, labels, list("abcd"))
    return {**macro(rows), "confidence": float(promised.sum()), "precision": float(rows[0].precision),
            "ece": expected_calibration_error(promised, predicted == labels)}  # fmt: skip


def proposed() -> Figures:
    """The trials of a search, and their seed."""
    trials = propose(axes(KD, Recipe(epochs=1), {}), 5, seed=3)
    numbers = {f"{number} {name}": value for number, trial in enumerate(trials) for name, value in trial.items()}
    return {**numbers, "seed": str(seed_of_search(3))}


def generated(**network: Any) -> Figures:
    """Two epochs of a generator, conditional if possible, and samples of it."""
    conditional = "data_free" not in network
    settings = Generator.model_validate({"conditional": conditional, "epochs": 2, "batch": 16, **network})
    description = GeneratorDescription(generator=settings, input_shape=(3, 8, 8), classes=list("abcd"))
    trainer = build_trainer(description, teacher(), seed=1)
    replica = train_generator(trainer, Schedule(2, 16), *examples(settings, TRAIN, VALIDATION), seed=1)
    made = trainer.modules["generator"]
    assert isinstance(made, Vae | ImageGenerator)
    images = sample(made, torch.arange(4), generator_for(1, "golden samples"))
    metrics = {name: value for name, value in replica.history[-1].items() if "accuracy" not in name}
    return {**metrics, "samples": pattern(images)}


def only(row: str, compute: Callable[[], Figures], relative: float = RELATIVE) -> Case:
    return Case(frozenset({row}), compute, relative)


def architecture(network: Network, size: int = 8) -> Case:
    """A case of a network alone; rounding errors grow with its depth."""
    return only(f"network.{network.kind}", partial(drawn, network, size), DEEP)


def operations(*raw: dict[str, Any]) -> tuple[Operation, ...]:
    return Data(source="digits", augment=list(raw)).augment


RANDOM = {"randaugment": {"operations": 3, "magnitude": 12}}
AUGMENT: dict[str, dict[str, Any]] = {
    "jitter": {"jitter": 2}, "crop": {"crop": 2}, "flip": {"flip": True}, "randaugment": RANDOM,
    "mixup": {"mixup": 0.4}, "cutmix": {"cutmix": 1.0},
}  # fmt: skip
DECAYED = {"sgd": {"lr": 0.02, "weight_decay": 0.5}}
ADAM = {"lr": 0.005, "betas": [0.8, 0.95], "eps": 1e-3, "weight_decay": 0.1, "amsgrad": True}
CASES: dict[str, Case] = {
    **{f"loss.{name}": loss(name) for name in LOSSES},
    "loss.distance_metric/cosine": loss("distance_metric", metric="cosine"),
    "loss.label_smoothing/mixed": trained(
        [Term(loss="label_smoothing", hyperparameters={"epsilon": 0.2})], augment=operations({"mixup": 0.4})
    ),
    "optimizer.adam": trained(optimizer={"adam": ADAM}),
    "optimizer.adam/defaults": trained(optimizer={"adam": {"lr": 0.002}}),
    "optimizer.adamw": trained(optimizer={"adamw": ADAM}),
    "optimizer.sgd": trained(optimizer={"sgd": {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}}),
    "optimizer.sgd/dampened": trained(optimizer={"sgd": {"lr": 0.02, "momentum": 0.9, "dampening": 0.5}}),
    "schedule.cosine": trained(schedule={"cosine": {"warmup": 1}}),
    "schedule.step": trained(schedule={"step": {"at": [1], "factor": 0.3}}),
    "schedule.constant": trained(schedule={"constant": {"warmup": 1}}),
    "schedule.one_cycle": trained(schedule={"one_cycle": {}}),
    **{f"augment.{name}": only(f"augment.{name}", partial(shown, raw)) for name, raw in AUGMENT.items()},
    **{
        f"augment.{name}/trained": trained(KD, network=CONV, augment=operations(raw), live=True)
        for name, raw in AUGMENT.items()
    },
    "knowledge": only("knowledge", said),
    "knowledge/views": trained(KD, augment=operations({"jitter": 1}), views=2),
    "knowledge/live": trained([*KD, Term(loss="hint", at="last")], live=True),
    "knowledge/ensemble": trained(KD, members=2),
    "calibration": trained([LABELS, *AUTO]),
    "calibration/convolutions": trained([*AUTO, Term(loss="hint", weight=Calibrated(auto=0.5))], network=CONV, batch=7),
    "training": trained(),
    "training/convolutions": trained(network=CONV, batch=7),
    "training/dropout": trained(network=Network(mlp=[8], dropout=0.3)),
    "training/clip": trained(clip=0.1),
    "training/max-norm": trained(max_norm=0.5),
    "training/ema": trained(ema=0.9),
    "training/balance-weights": trained(balance="weights"),
    "training/balance-sampling": trained(balance="sampling"),
    "training/bfloat16": trained(precision="bfloat16", relative=HALF),
    "training/best-validation": trained(select="best-validation", patience=1, epochs=4, optimizer={"sgd": {"lr": 0.3}}),
    "training/decay": trained(network=CONV, optimizer=DECAYED),
    "training/decay-norms": trained(network=CONV, optimizer=DECAYED, decay_norms=True),
    "training/weights": trained([Term(loss="hard_labels", weight=0.3, warmup=0.3, cosine=True),
                                 Term(loss="soft_targets", weight=0.7)]),
    "training/unlabelled": trained(KD, train=split(50, "some labels", unlabelled=20)),
    "training/last-of-one": trained(network=CONV, train=split(49, "one more"), batch=16),
    "training/probe": trained([Term(loss="similarity_preserving", at="middle")], CONV),
    "training/measured": only("training", measured),
    "generator.vae": only("generator.vae", partial(generated, vae={"hidden": [9], "latent": 3})),
    "generator.gan": only(
        "generator.gan", partial(generated, gan={"hidden": [9], "latent": 3, "discriminator": [8], "dropout": 0.2})
    ),
    "generator.data_free": only(
        "generator.data_free", partial(generated, data_free={"channels": 4, "latent": 3, "steps": 4})
    ),
    "tuning": only("tuning", proposed),
    "network.mlp": architecture(Network(mlp=[9, 7])),
    "network.conv": architecture(CONV),
    **{f"network.name/{name}": architecture(Network(name=name), 16) for name in ARCHITECTURES},
    **{f"network.compact/{block}": architecture(compact(block), 16) for block in BLOCKS},
    "network.compact/parameters": only("network.compact", partial(within, parameters=9_000)),
    "network.compact/flops": only("network.compact", partial(within, flops=900_000)),
    "network.torchvision": architecture(Network(torchvision="resnet18"), 32),
    "network.timm": architecture(Network(timm="resnet10t"), 32),
    "network.module": architecture(Network(module="tests.support.networks:Attention")),
    "network.module/trained": trained(KD, Network(module="tests.support.networks:Attention")),
    "data": only("data", partial(read, lambda folder: "digits")),
    "data/share": only("data", partial(read, lambda folder: "digits", validation=0.3, subset=300)),
    "data/folds": only("data", partial(read, arrays, folds=3)),
    "data/arrays": only("data", partial(read, arrays, size=9)),
    "data/photos": only("data", partial(read, photos)),
    "data/photos-resized": only("data", partial(read, photos, size=[5, 12], normalise="imagenet")),
    "data/photos-split": only("data", partial(read, partial(photos, splits=("train", "val", "test")))),
    "data/table": only("data", partial(read, table)),
}  # fmt: skip


def moved(recorded: Mapping[str, Any], figures: Mapping[str, Figures]) -> dict[str, str]:
    """The cases whose figures are not those recorded, with the first figure that differs, in words."""
    return {
        name: problem
        for name, now in figures.items()
        if (problem := _difference(recorded.get(name, {}).get("figures", {}), now, CASES[name].relative))
    }


def _difference(before: Figures, now: Figures, relative: float) -> str:
    for name in sorted(before.keys() | now.keys()):
        one, other = before.get(name), now.get(name)
        if isinstance(one, float) and isinstance(other, float):
            if isclose(one, other, rel_tol=relative, abs_tol=relative / 200):
                continue
        elif one == other:
            continue
        return f"{name} was {one}, is {other}"
    return ""


def rows_to_raise(names: Collection[str]) -> set[str]:
    """The rows on which all of these cases depend and no other case; if there is none, the rows they are named for."""
    common = frozenset.intersection(*(CASES[name].rows for name in names))
    others = frozenset[str]().union(*(case.rows for name, case in CASES.items() if name not in names))
    named = {name.partition("/")[0] for name in names}
    return set(common - others) or set(common & named) or named


def computed() -> dict[str, Figures]:
    return {name: case.compute() for name, case in CASES.items()}


def record() -> int:
    """Write the file, unless a figure moved for which no version was raised."""
    recorded = json.loads(FILE.read_text()) if FILE.exists() else {}
    figures = computed()
    before = {name: kept["versions"] for name, kept in recorded.items()}
    silent = {
        name: problem
        for name, problem in moved(recorded, figures).items()
        if name in before and not any(VERSIONS[row] > before[name].get(row, 0) for row in CASES[name].rows)
    }
    for name, problem in silent.items():
        print(f"{name}: {problem}", file=sys.stderr)
    if silent:
        rows = ", ".join(sorted(rows_to_raise(silent)))
        print(f"not recorded: raise {rows} in kdmodels/versions.py first", file=sys.stderr)
        return 1
    kept = moved(recorded, figures).keys()  # what did not move stays as it was recorded
    whole = {
        name: {
            "versions": {row: VERSIONS[row] for row in sorted(CASES[name].rows)},
            "figures": now if name in kept else recorded[name]["figures"],
        }
        for name, now in sorted(figures.items())
    }
    FILE.write_text(json.dumps(whole, indent=1) + "\n")
    print(f"recorded {len(kept)} of {len(whole)} cases anew in {FILE.name}")
    return 0


if __name__ == "__main__":
    with TemporaryDirectory() as cache_folder:
        os.environ["XDG_CACHE_HOME"] = cache_folder  # what is decoded here is of no use to anybody
        sys.exit(record())
