"""Compare published and calibrated weights of every preset: python -m benchmarks.calibration [--summary] PAIR...

The results of each pair are written to benchmarks/results/calibration-PAIR.json and printed as a table. Results that
the file already contains are not measured again. With --summary, nothing is measured, and only the tables are printed.

For each preset with a teacher term, students are trained with the published weights and with calibrated weights at five
ratios. Students are trained by `fit` on stored knowledge, with 5 seeds each. The file holds the validation and the test
accuracy of each seed. Nothing is chosen on the test split: the best of the five ratios is the ratio with the highest
mean validation accuracy.
"""

import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import fmean

import torch

from benchmarks.common import write
from kdmodels.data import Dataset, load_dataset
from kdmodels.evaluation.predictions import correct
from kdmodels.experiment import Data, Network, Recipe, Term
from kdmodels.experiment.catalogue import LOSSES
from kdmodels.experiment.presets import CONTROL, PRESETS
from kdmodels.experiment.terms import Calibrated
from kdmodels.knowledge import Knowledge, distil_knowledge
from kdmodels.networks import build, load_state
from kdmodels.randomness import TEACHER_SEEDS
from kdmodels.training import fit

RESULTS = Path(__file__).parent / "results"
SEEDS = 5
RATIOS = (0.1, 0.3, 1.0, 3.0, 10.0)
MLP_PLACES = {"middle", "last"}  # the only places of an MLP at which this benchmark stores the teacher's features


@dataclass(frozen=True)
class Pair:
    """A teacher and a student for a dataset, with their recipes."""

    data: Data
    teacher: Network
    teacher_recipe: Recipe
    student: Network
    recipe: Recipe


def _recipe(epochs: int, rate: float, batch: int = 64, *, cosine: bool = True) -> Recipe:
    return Recipe(
        epochs=epochs, batch=batch, optimizer={"adam": {"lr": rate}}, schedule={"cosine": {}} if cosine else None
    )


CONVS = Network(conv=[16, 32, 64]), Network(conv=[4, 8, 16])
DIGITS = Data(source="digits", validation=0.2)
PAIRS = {
    "digits-mlp": Pair(
        DIGITS, Network(mlp=[256, 128]), _recipe(20, 1e-3), Network(mlp=[8]), _recipe(25, 1e-2, cosine=False)
    ),
    "digits-conv": Pair(DIGITS, CONVS[0], _recipe(20, 1e-3), CONVS[1], _recipe(15, 3e-3)),
    "mnist-mlp": Pair(
        Data(source="mnist", subset=10_000),
        Network(mlp=[128, 64]),
        _recipe(10, 1e-3),
        Network(mlp=[32]),
        _recipe(15, 2e-3),
    ),
    "cifar10-conv": Pair(
        Data(source="cifar10", subset=5_000),
        Network(conv=[32, 64, 128]),
        _recipe(12, 2e-3),
        Network(conv=[8, 16, 32]),
        _recipe(6, 3e-3),
    ),
}


@cache
def _prepared(name: str) -> tuple[Dataset, tuple[Knowledge, Knowledge]]:
    torch.set_num_threads(1)
    pair = PAIRS[name]
    dataset = load_dataset(pair.data)
    teacher = build(pair.teacher, **dataset.signature)
    (replica,) = fit(
        teacher,
        [Term(loss="hard_labels")],
        pair.teacher_recipe,
        dataset.train,
        dataset.validation,
        seeds=[TEACHER_SEEDS],
    )
    load_state(teacher, replica.state)
    places = _places([term for preset in PRESETS.values() for term in preset.terms])
    if pair.teacher.mlp:
        places &= MLP_PLACES
    of_train, of_validation = (
        distil_knowledge(teacher.eval(), split, sorted(places)) for split in (dataset.train, dataset.validation)
    )
    return dataset, (of_train, of_validation)


def _places(terms: Sequence[Term]) -> set[str]:
    """Return the places at which the terms compare the student's features with the teacher's."""
    return {there for term in terms for _, there in term.pairs}


def _with_ratio(terms: Sequence[Term], ratio: float) -> list[Term]:
    return [
        term if LOSSES[term.loss].needs == "labels" else term.model_copy(update={"weight": Calibrated(auto=ratio)})
        for term in terms
    ]


def _objectives() -> dict[tuple[str, str], list[Term]]:
    """Return the objectives to compare, by preset and weighting."""
    objectives: dict[tuple[str, str], list[Term]] = {}
    for name, preset in PRESETS.items():
        if all(LOSSES[term.loss].needs == "labels" for term in preset.terms):
            objectives[name, "labels"] = list(preset.terms)
            continue
        objectives[name, "published"] = list(preset.published)
        for ratio in RATIOS:
            objectives[name, f"auto {ratio:g}"] = _with_ratio(preset.terms, ratio)
    return objectives


def _accuracies(pair: str, terms: Sequence[Term]) -> dict[str, list[float]] | str:
    """Return the validation and the test accuracy of each seed. If an MLP lacks a place of a term, return why."""
    if PAIRS[pair].teacher.mlp and (missing := _places(terms) - MLP_PLACES):
        return f"an MLP has no features at {', '.join(sorted(missing))}"
    dataset, knowledge = _prepared(pair)
    student = build(PAIRS[pair].student, **dataset.signature)
    replicas = fit(
        student,
        terms,
        PAIRS[pair].recipe,
        dataset.train,
        dataset.validation,
        seeds=range(SEEDS),
        knowledge=knowledge,
    )
    accuracies: dict[str, list[float]] = {"validation": [], "test": []}
    for replica in replicas:
        trained = deepcopy(student)
        load_state(trained, replica.state)
        accuracies["validation"].append(round(replica.figures["val/accuracy"], 5))
        accuracies["test"].append(round(correct(trained.eval(), dataset.read_test()).double().mean().item(), 5))
    return accuracies


def measure(pair: str) -> None:
    """Train every objective, one per CPU core at a time, and write each result as soon as it is known.

    An interrupted measurement continues with the objectives that have no result yet.
    """
    path = RESULTS / f"calibration-{pair}.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    measured = {(row["preset"], row["weights"]) for row in rows}
    objectives = {name: terms for name, terms in _objectives().items() if name not in measured}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(partial(_accuracies, pair), objectives.values())
        for (name, weights), result in zip(objectives, results, strict=True):
            rows.append({"preset": name, "weights": weights, "accuracies": result})
            write(path.stem, {"command": f"python -m benchmarks.calibration {pair}", "rows": rows})


def summary(pair: str) -> str:
    """Return a table of each preset's gain in mean test accuracy over hard labels, in percentage points.

    The column `best of 5 ratios` holds the gain at the ratio with the highest mean validation accuracy. Presets that
    failed or have missing results are left out.
    """
    rows = json.loads((RESULTS / f"calibration-{pair}.json").read_text())["rows"]
    found = {(row["preset"], row["weights"]): row["accuracies"] for row in rows}
    control = found[CONTROL, "labels"]["test"]
    lines = [
        f"{pair}, hard labels {100 * fmean(control):.2f} %",
        "| preset | published | auto 0.3 | auto 1 | best of 5 ratios |",
        "|---|---|---|---|---|",
    ]
    for preset in dict.fromkeys(name for name, _ in found):
        options = {weights: accuracies for (name, weights), accuracies in found.items() if name == preset}
        is_complete = len(options) == len(RATIOS) + 1
        if not is_complete or any(isinstance(accuracies, str) for accuracies in options.values()):
            continue
        gains = {weights: 100 * (fmean(each["test"]) - fmean(control)) for weights, each in options.items()}
        ratios = [weights for weights in options if weights != "published"]
        best = max(ratios, key=lambda weights: fmean(options[weights]["validation"]))
        cells = [f"{gains[weights]:+.1f}" for weights in ("published", "auto 0.3", "auto 1")]
        lines.append(f"| {preset} | {' | '.join(cells)} | {gains[best]:+.1f} ({best.removeprefix('auto ')}) |")
    return "\n".join(lines)


def main(words: Sequence[str]) -> None:
    """Measure the named pairs, and print their tables. With --summary, only print the tables."""
    pairs = [word for word in words if word != "--summary"]
    for pair in pairs:
        if "--summary" not in words:
            measure(pair)
        print(summary(pair))


if __name__ == "__main__":
    main(sys.argv[1:])
