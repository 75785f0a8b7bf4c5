"""Tables of losses and presets, and the text of the page docs/losses.md."""

from collections.abc import Sequence

from kdmodels.errors import UserError, allowed
from kdmodels.experiment import Experiment
from kdmodels.experiment.catalogue import LOSSES
from kdmodels.experiment.loss import Argument, Hyperparameter, Kind, Loss
from kdmodels.experiment.presets import PRESETS
from kdmodels.experiment.terms import Term, weight_in_words
from kdmodels.experiment.user_losses import read_loss

LETTERS = (
    "z logits, F features, G Gram matrices; s student, t teacher; B examples of a batch, K classes, N training",
    "examples, D width of an embedding, C channels and P positions of a map; a hyperparameter's name, its value.",
)
"""The lines that explain the letters in formulas."""

LEGEND = (
    *LETTERS,
    "A cost is the number of multiplications of one step, up to a constant. The student's own passes are left out.",
    "A weight multiplies the mean of a term over the batch. The weight auto is chosen at the start of training. The",
    "gradient of the term is then as large as that of cross entropy. {published: true} selects the published weights.",
    "Those of Tian et al. 2020 were chosen for CIFAR-100 and batches of 64.",
)
"""The legend of the page. It explains the letters in formulas, the weights and the costs."""

_NEEDS = {
    "labels": "student's logits, labels",
    "logits": "both networks' logits",
    "logits and labels": "both networks' logits, labels",
    "features": "both networks' features",
}


def variant_rows(names: Sequence[str] | None = None) -> list[dict[str, str | list[str]]]:
    """Return one table row per preset: its name, its loss terms in words, and its papers.

    Args:
        names: The names of the presets. By default, all presets are returned.

    Raises:
        UserError: One of the names is not the name of a preset.
    """
    names = list(dict.fromkeys(names or PRESETS))
    for name in names:
        if name not in PRESETS:
            raise UserError(f"variant {name!r} is not known. {allowed(name, PRESETS)}")
    return [
        {
            "name": name,
            "terms": list(map(_in_words, PRESETS[name].terms, PRESETS[name].published)),
            "paper": PRESETS[name].papers,
        }
        for name in names
    ]


def loss_rows(variants: Sequence[str] | None = None) -> list[dict[str, str]]:
    """Return one table row per loss of the catalogue: its name, formula, inputs, defaults, paper, weight and cost.

    Args:
        variants: The names of the presets whose losses are returned. By default, all losses are returned.
    """
    named = dict.fromkeys(term.loss for variant in variants or () for term in PRESETS[variant].terms)
    return [_loss_row(name, LOSSES[name]) for name in named or LOSSES]


def rows_of_experiment(experiment: Experiment) -> tuple[list[dict[str, str | list[str]]], list[dict[str, str]]]:
    """Return the rows of an experiment's variants and of their losses, like `variant_rows` and `loss_rows`.

    Raises:
        UserError: A user's own loss no longer exists.
    """
    terms = [term for variant in experiment.variants for term in variant.terms]
    try:
        losses = {term.loss: term.row if term.inputs is None else read_loss(term.loss) for term in terms}
    except ValueError as error:
        raise UserError(str(error)) from error
    variants: list[dict[str, str | list[str]]] = [
        {
            "name": variant.name,
            "terms": list(map(term_in_words, variant.terms)),
            "paper": "; ".join(dict.fromkeys(losses[term.loss].paper for term in variant.terms)),
        }
        for variant in experiment.variants
    ]
    return variants, [_loss_row(name, loss) for name, loss in losses.items()]


def _loss_row(name: str, loss: Loss) -> dict[str, str]:
    return {
        "name": name,
        "formula": loss.formula,
        "inputs": _inputs(loss),
        "defaults": ", ".join(_default(key, known) for key, known in loss.hyperparameters.items()),
        "paper": loss.paper,
        "weight": loss.weight,
        "cost": loss.cost,
    }


def catalogue() -> str:
    """Return the text of the page docs/losses.md."""
    lines = [
        "# Losses and variants",
        "",
        "Made by `make docs` from `catalogue.py` and `presets.py` in `kdmodels/experiment`; a test keeps it so.",
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


def _inputs(loss: Loss) -> str:
    inputs = [", ".join(loss.inputs) or _NEEDS[loss.needs]]
    if loss.takes != "any":
        inputs[0] += f" as {loss.takes}"
    if loss.places:
        inputs.append(f"at {', '.join(loss.places)}")
    if loss.remembers:
        inputs.append("the examples' indices and labels")
    if not loss.inputs:  # for a user's loss, this is known only after the loss has run
        inputs.append("one value per batch" if loss.per_batch else "one value per example")
    if loss.modules:
        inputs.append(f"the module `{loss.modules}`, trained with the student")
    return "; ".join(inputs)


def _default(key: str, known: Kind) -> str:
    if isinstance(known, Argument) and known.default is None:
        return f"{key} ({known})"
    derived = known.derived if isinstance(known, Hyperparameter) else "none"
    default = derived if known.default is None else known.default
    return f"{key} {default} ({known})"


def formulas(losses: Sequence[str]) -> dict[str, str]:
    """Return the formula and the source of each loss of the catalogue, by the name of the loss.

    >>> formulas(["logit_regression", "mylosses:smooth_hint"])
    {'logit_regression': 'mean over classes of (z_s - z_t)². Ba, Caruana 2014'}
    """
    return {loss: f"{LOSSES[loss].formula}. {LOSSES[loss].paper}" for loss in losses if loss in LOSSES}


def term_in_words(term: Term) -> str:
    """Return the weight, the loss and the hyperparameters of a term.

    >>> term_in_words(Term.model_validate({"soft_targets": {"weight": 0.9}}))
    '0.9 soft_targets, temperature 4'
    """
    numbers = [
        f"{key} {value if isinstance(value, str) else format(value, 'g')}"
        for key, value in term.hyperparameters.items()
    ]
    places = [f"at {', '.join(at for at, _ in term.pairs)}"] if term.pairs else []
    rising = [f"rising over the first {100 * term.warmup:.2g} % of the training"] if term.warmup else []
    return ", ".join([f"{weight_in_words(term.weight)} {term.loss}", *numbers, *places, *rising])


def _in_words(term: Term, published: Term) -> str:
    weight = f", published weight {published.factor:g}" if term.weight != published.weight else ""
    return term_in_words(term) + weight


if __name__ == "__main__":
    print(catalogue(), end="")
