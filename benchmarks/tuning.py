"""Measure the time and the false positives of tuning: python -m benchmarks.tuning [cost] [equal]

The part `cost` trains the 8 variants of benchmarks/mnist.yaml on MNIST with 5 seeds, first untuned, and then tuned with
12 trials each. The trials of a variant are trained as one computation, and then, to compare the times, one after the
other.

The part `equal` repeats a comparison of 8 variants that are all equal to the control, and counts false positives. A
comparison is a false positive if its leaderboard has more than one group. Each variant has its own search, although in
kdflow equal variants would share a search. Each repetition has other training images and other seeds.

Each part writes its result to benchmarks/results/tuning.json, and keeps the result of the other part.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.common import student_result, write
from kdmodels.data import Dataset, load_dataset
from kdmodels.evaluation.correctness import Correctness
from kdmodels.evaluation.ranking import ranked
from kdmodels.evaluation.significance import groups
from kdmodels.evaluation.statistics import wilson_interval
from kdmodels.experiment import Data, Network, Recipe, Term, Variant
from kdmodels.experiment.file import read_experiment
from kdmodels.experiment.presets import CONTROL, PRESETS
from kdmodels.experiment.tune import LR, Values, axes, tuned_terms
from kdmodels.knowledge import Knowledge, distil_knowledge
from kdmodels.networks import build
from kdmodels.randomness import generator_for
from kdmodels.training import Replica, fit
from kdmodels.training.tuning import best, propose, results, seed_of_search, setting_of_trial

TRIALS, SEEDS, VARIANTS = 12, 5, 8
SECONDS = ("untuned s", "search s", "students s", "search one by one s")
TEACHER, STUDENT = Network(mlp=[128, 64]), Network(mlp=[32])
Both = tuple[Knowledge, Knowledge] | None


def search(dataset: Dataset, terms: list[Term], recipe: Recipe, knowledge: Both, seed: int) -> Values:
    """Train `TRIALS` trials, and return the values of the trial that is most accurate on the inner split."""
    proposals = propose(axes(terms, recipe, {}), TRIALS, seed)
    return best(results(proposals, train_trials(dataset, terms, recipe, knowledge, seed, proposals))).values


def train_trials(
    dataset: Dataset, terms: list[Term], recipe: Recipe, knowledge: Both, seed: int, proposals: Sequence[Values]
) -> list[Replica]:
    """Train the trials with the proposed values as one computation."""
    kept, held = dataset.inner_rows
    return fit(
        build(STUDENT, **dataset.signature),
        terms,
        recipe,
        dataset.train,
        dataset.train.take(held),
        seeds=[seed_of_search(seed)] * len(proposals),
        knowledge=(knowledge[0], knowledge[0].take(held)) if knowledge else None,
        settings=[setting_of_trial(values, terms) for values in proposals],
        examples=kept,
    )


def students(
    dataset: Dataset, terms: list[Term], recipe: Recipe, knowledge: Both, values: Values, first_seed: int = 0
) -> list[Replica]:
    """Train `SEEDS` students with the chosen values."""
    return fit(
        build(STUDENT, **dataset.signature),
        tuned_terms(terms, values),
        recipe.with_lr(values.get(LR, recipe.lr)),
        dataset.train,
        dataset.validation,
        seeds=range(first_seed, first_seed + SEEDS),
        knowledge=knowledge,
    )


def cost(examples: int) -> dict[str, Any]:
    """Return the seconds and accuracies of each variant, untuned and tuned."""
    experiment = read_experiment(Path(__file__).with_name("mnist.yaml"))
    dataset = load_dataset(Data(source="mnist", subset=examples))
    teacher = build(TEACHER, **dataset.signature)
    (trained,) = fit(
        teacher, PRESETS[CONTROL].terms, experiment.teacher, dataset.train, dataset.validation, seeds=[2**33]
    )
    teacher.load_state_dict(trained.state)
    rows = [_row(dataset, variant, experiment.student, teacher) for variant in experiment.variants]
    totals = {name: round(sum(row[name] for row in rows), 2) for name in SECONDS}
    return {"examples": len(dataset.train), "trials": TRIALS, "seeds": SEEDS, "variants": rows, "total": totals} | {
        "tuned / untuned": round((totals["search s"] + totals["students s"]) / totals["untuned s"], 2),
        "search one by one / search": round(totals["search one by one s"] / totals["search s"], 2),
    }


def _row(dataset: Dataset, variant: Variant, recipe: Recipe, teacher: nn.Module) -> dict[str, Any]:
    terms, places = list(variant.terms), variant.teacher_places
    known = tuple(distil_knowledge(teacher, split, places) for split in (dataset.train, dataset.validation))
    knowledge = (known[0], known[1])
    began = time.perf_counter()
    untuned = students(dataset, terms, recipe, knowledge, {})
    before_search = time.perf_counter()
    values = search(dataset, terms, recipe, knowledge, seed=0)
    after_search = time.perf_counter()
    tuned = students(dataset, terms, recipe, knowledge, values)
    ended = time.perf_counter()
    for proposal in propose(axes(terms, recipe, {}), TRIALS, 0):
        train_trials(dataset, terms, recipe, knowledge, 0, [proposal])
    after_single_trials = time.perf_counter()
    return {
        "variant": variant.name,
        "untuned s": round(before_search - began, 2),
        "search s": round(after_search - before_search, 2),
        "students s": round(ended - after_search, 2),
        "search one by one s": round(after_single_trials - ended, 2),
        "untuned %": _percent(untuned),
        "tuned %": _percent(tuned),
        "chosen": {name: float(f"{value:.3g}") for name, value in values.items()},
    }


def _percent(replicas: list[Replica]) -> float:
    return round(100 * float(np.mean([replica.figures["val/accuracy"] for replica in replicas])), 2)


def equal(repeats: int, examples: int, epochs: int) -> dict[str, Any]:
    """Return the share of comparisons in which some of 8 controls, each with its own search, differ significantly."""
    recipe, terms = Recipe(epochs=epochs), list(PRESETS[CONTROL].terms)
    apart: list[bool] = []
    whole = load_dataset(Data(source="mnist"))
    for repeat in range(repeats):
        dataset = _drawn(whole, examples, repeat)
        rows, right = [], {}
        for number in range(VARIANTS):
            values = search(dataset, terms, recipe, None, seed=repeat * VARIANTS + number)
            replicas = students(dataset, terms, recipe, None, values, first_seed=repeat * SEEDS)
            outcomes = np.stack([replica.is_correct.numpy() for replica in replicas])
            rows.append(student_result(f"v{number}", outcomes))
            right[f"v{number}"] = Correctness("validation", outcomes)
        apart.append(max(groups(ranked(rows), right).values()) > 1)
    low, high = wilson_interval(sum(apart), len(apart))
    rules = {"variants": VARIANTS, "trials": TRIALS, "seeds": SEEDS, "examples": examples, "epochs": epochs}
    interval = [round(low, 4), round(high, 4)]
    return {**rules, "repeats": repeats, "different": sum(apart) / repeats, "95% interval": interval}


def _drawn(dataset: Dataset, examples: int, repeat: int) -> Dataset:
    """Return the dataset with some of its training images, drawn at random."""
    rows = torch.randperm(len(dataset.train), generator=generator_for(repeat, "examples"))[:examples].sort().values
    return replace(dataset, train=dataset.train.take(rows), prints={"train": dataset.prints["train"][rows.numpy()]})


def main() -> None:
    """Run the chosen parts, print and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=["cost", "equal"])
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=100)
    options = parser.parse_args()
    path = Path(__file__).parent / "results" / "tuning.json"
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    parts: dict[str, Any] = {part: earlier[part] for part in ("cost", "equal") if part in earlier}
    if "cost" in options.parts:
        parts["cost"] = cost(options.examples)
        write("tuning", parts)
    if "equal" in options.parts:
        parts["equal"] = equal(options.repeats, min(options.examples, 1_000), epochs=5)
        write("tuning", parts)


if __name__ == "__main__":
    main()
