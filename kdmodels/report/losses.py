"""The catalogue of losses and ready-made variants, as rows and as docs/losses.md."""

from collections.abc import Sequence
from typing import Any

from kdmodels.catalogue import LOSSES, Choice, Hyperparameter
from kdmodels.errors import UserError, allowed
from kdmodels.objectives import PRESETS
from kdmodels.terms import Term

LEGEND = (
    "z logits, F features, G Gram matrices; s student, t teacher; B examples of a batch, K classes, N training",
    "examples, D width of an embedding, C channels and P positions of a map; a hyperparameter's name, its value.",
    "Costs are multiplications of one step, beyond the student's own forward and backward pass, up to a constant. A",
    "term's weight multiplies its batch mean; those of Tian et al. 2020 are of CIFAR-100 and batches of 64.",
)
"""What the letters of formulas and costs stand for, and what weights and costs are."""

_NEEDS = {
    "labels": "student's logits, labels",
    "logits": "both networks' logits",
    "logits and labels": "both networks' logits, labels",
    "features": "both networks' features",
}


def variant_rows(names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The presets of these names, or all: name, terms in words, papers.

    Raises:
        UserError: no preset has that name.
    """
    names = list(dict.fromkeys(names or PRESETS))
    for name in names:
        if name not in PRESETS:
            raise UserError(f"variant {name!r} is not known; {allowed(name, PRESETS)}")
    return [
        {"name": name, "terms": [_in_words(term) for term in PRESETS[name].terms], "paper": PRESETS[name].papers}
        for name in names
    ]


def loss_rows(variants: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The losses of these presets, or all: name, formula, inputs, defaults, paper, weight and cost, in words."""
    named = list(dict.fromkeys(term.loss for variant in variants or () for term in PRESETS[variant].terms))
    return [
        {
            "name": name,
            "formula": LOSSES[name].formula,
            "inputs": _inputs(name),
            "defaults": ", ".join(_default(key, known) for key, known in LOSSES[name].hyperparameters.items()),
            "paper": LOSSES[name].paper,
            "weight": LOSSES[name].weight,
            "cost": LOSSES[name].cost,
        }
        for name in named or LOSSES
    ]


def catalogue() -> str:
    """docs/losses.md, whole."""
    lines = [
        "# Losses and variants",
        "",
        "Made by `make docs` from `kdmodels/catalogue.py` and `kdmodels/objectives.py`; a test keeps it so.",
        "",
        *LEGEND,
        "",
        "## Variants",
        "",
        "| variant | weighted losses | paper |",
        "|---|---|---|",
        *(f"| `{row['name']}` | {'<br>'.join(row['terms'])} | {row['paper']} |" for row in variant_rows()),
        "",
        "## Losses",
        "",
    ]
    for row in loss_rows():
        lines += [f"### {row['name']}", "", *(f"- {key}: {row[key] or 'none'}" for key in row if key != "name"), ""]
    return "\n".join(lines)


def _inputs(name: str) -> str:
    loss = LOSSES[name]
    told = [_NEEDS[loss.needs]]
    if loss.takes != "any":
        told[0] += f" as {loss.takes}"
    if loss.places:
        told.append(f"at {', '.join(loss.places)}")
    if loss.remembers:
        told.append("the examples' indices and labels")
    told.append("one value per batch" if loss.per_batch else "one value per example")
    if loss.module:
        told.append(f"the module `{loss.module}`, trained with the student")
    return "; ".join(told)


def _default(key: str, known: Hyperparameter | Choice) -> str:
    default = known.derived if isinstance(known, Hyperparameter) and known.default is None else known.default
    return f"{key} {default} ({known})"


def _in_words(term: Term) -> str:
    numbers = [
        f"{key} {value if isinstance(value, str) else format(value, 'g')}"
        for key, value in term.hyperparameters.items()
    ]
    places = [f"at {', '.join(at for at, _ in term.pairs)}"] if term.pairs else []
    rising = [f"rising over the first {100 * term.warmup:.2g} % of the training"] if term.warmup else []
    return ", ".join([f"{term.weight:g} {term.loss}", *numbers, *places, *rising])


if __name__ == "__main__":
    print(catalogue(), end="")
