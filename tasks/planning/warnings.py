"""Warnings about an experiment before any network is trained, and warnings about its teacher."""

from kdmodels.evaluation.chance import Chance
from kdmodels.evaluation.power import DISAGREEMENT, POWER, detectable_difference, power

# A clear difference of accuracies. If two variants disagree on 10 % of the examples, the better variant is right in 3
# of 4 disagreements. If the examples are too few to show even this difference, the ranking is mostly chance.
CLEAR_DIFFERENCE = 0.05
MANY_FOR_TRIALS = 100  # with fewer examples, one example changes an accuracy by more than 1 point
ENOUGH = 1_000  # with this number of examples, a clear difference is always found


def few_examples(n: int, folds: int | None) -> list[str]:
    """Return a warning if there are too few validation examples to find a clear difference between two variants.

    Args:
        n: The number of validation examples, of all folds together.
        folds: The number of folds. `None` without cross-validation.
    """
    if power(min(n, ENOUGH), CLEAR_DIFFERENCE) >= POWER:
        return []
    advice = "Use more examples" + ("" if folds else ", or data.folds: 5, which validates on all training images")
    return [
        f"{n} validation examples are few: if two variants differ by less than {100 * detectable_difference(n):.1f} "
        f"points, the difference is probably not significant (McNemar's exact test finds it in less than "
        f"{100 * POWER:.0f} % of comparisons, if the variants disagree on {100 * DISAGREEMENT:.0f} % of the examples). "
        f"{advice}"
    ]


def few_inner_examples(n: int) -> list[str]:
    """Return a warning if there are too few held-out examples to choose between the trials of a search.

    Args:
        n: The number of training examples that are held out for the search.
    """
    if n >= MANY_FOR_TRIALS:
        return []
    return [
        f"tune: each trial is measured on only {n} labelled training images, so one image changes its accuracy by "
        f"{100 / n:.1f} points. The choice among the trials is largely chance. Use more labels, or tune: null"
    ]


def probabilities(network: str) -> str:
    """Return the warning that the outputs of a network are probabilities.

    Args:
        network: The network in words, e.g. "the student".
    """
    return (
        f"{network} returns probabilities: its outputs are at least 0 and sum to 1. The losses expect logits. "
        "Remove the softmax after its last layer"
    )


def at_chance(teacher: str, chance: Chance) -> list[str]:
    """Return a warning if a teacher is not significantly better than chance on the validation split."""
    if chance.better:
        return []
    return [
        f"{teacher}: its validation accuracy is not significantly better than chance ({chance}). Students learn little "
        "from such a teacher. Train it for longer, or check its weights and data.normalise"
    ]
