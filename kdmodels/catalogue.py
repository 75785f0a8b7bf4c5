"""The table of losses: what each takes, where it comes from, and what it costs. A row is all that a new loss takes."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from kdmodels.errors import allowed
from kdmodels.schema import show


@dataclass(frozen=True)
class Hyperparameter:
    """A number that a loss takes: its default and the interval that it must lie in.

    Where the default follows from the features' shapes it is None, and `derived` says how; a term then leaves it out.
    """

    default: float | None
    low: float
    high: float = float("inf")
    low_inclusive: bool = False
    whole: bool = False
    derived: str = ""

    def __str__(self) -> str:
        """The interval in words.

        >>> str(Hyperparameter(0.1, low=0, high=1, low_inclusive=True))
        '0 or more and below 1'
        """
        low = f"{self.low:g} or more" if self.low_inclusive else f"above {self.low:g}"
        kind = "a whole number, " if self.whole else ""
        return f"{kind}{low}" if self.high == float("inf") else f"{kind}{low} and below {self.high:g}"

    def problem(self, value: object) -> str | None:
        """What is wrong with a value, in words; None if nothing.

        >>> Hyperparameter(4.0, low=0).problem(-1)
        '-1 is out of range (allowed: above 0)'
        """
        if isinstance(value, bool) or not isinstance(value, int | float) or (self.whole and value != value // 1):
            return f"{show(value)} is not a {'whole ' if self.whole else ''}number (allowed: {self})"
        above = self.low <= value if self.low_inclusive else self.low < value
        if above and value < self.high and value <= sys.float_info.max:
            return None
        return f"{show(value)} is out of range (allowed: {self})"


@dataclass(frozen=True)
class Choice:
    """A word that a loss takes: its default and the others that there are."""

    default: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return " or ".join(self.words)

    def problem(self, value: object) -> str | None:
        """What is wrong with a value, in words; None if nothing.

        >>> Choice("euclidean", ("euclidean", "cosine")).problem("manhattan")
        "'manhattan' is not a word it knows; allowed: euclidean, cosine"
        """
        if value in self.words:
            return None
        return f"{show(value)} is not a word it knows; {allowed(str(value), self.words)}"


@dataclass(frozen=True)
class Loss:
    """What a loss of `kdmodels.losses` compares, and what a reader should know before using it.

    Attributes:
        needs: what it compares, student with teacher.
        formula: z logits, F features, G Gram matrices; s student, t teacher; B examples, K classes.
        paper: where it was published.
        weight: the usual weight, where it comes from, and the batch size that it assumes: any, where the loss's size
            does not depend on it.
        cost: of one step, beyond the student's own forward and backward pass; D features, C channels, P positions.
        hyperparameters: the numbers and words that it takes, or that the modules take which it trains.
        places: where features are taken unless a term says `at`.
        takes: `embeddings` are (B, D), maps being averaged over their positions; `maps` are (B, C, H, W).
        joint: it compares all places at once, as a list, instead of one after the other.
        per_batch: it compares the examples of a batch, and has one value per batch.
        falls_with_batch: its value falls as 1 / B. The objective multiplies the value by B / `WEIGHT_BATCH`, so that a
            weight means the same for every batch size. The expected values and gradients of all other losses do not
            depend on B, up to a share of about 1 / B.
        module: the class of a loss that has parameters or memory of its own.
        remembers: it needs the examples' indices and labels, and has no value on examples that it was not trained on.
    """

    needs: Literal["labels", "logits", "logits and labels", "features"]
    formula: str
    paper: str
    weight: str
    cost: str
    hyperparameters: Mapping[str, Hyperparameter | Choice] = field(default_factory=dict)
    places: tuple[str, ...] = ()
    takes: Literal["any", "maps", "embeddings"] = "any"
    joint: bool = False
    per_batch: bool = False
    falls_with_batch: bool = False
    module: str | None = None
    remembers: bool = False


WEIGHT_BATCH = 64
"""The batch size that the published weights of losses that fall as 1 / B assume."""

_THROUGHOUT = ("first", "middle", "deepest")


def _temperature(default: float) -> dict[str, Hyperparameter | Choice]:
    return {"temperature": Hyperparameter(default, low=0, high=1e6)}  # its square is a factor


def _positive(**defaults: float) -> dict[str, Hyperparameter | Choice]:
    return {name: Hyperparameter(default, low=0, low_inclusive=True) for name, default in defaults.items()}


def _width(default: float | None, derived: str = "") -> dict[str, Hyperparameter | Choice]:
    return {"width": Hyperparameter(default, low=1, high=1e6, low_inclusive=True, whole=True, derived=derived)}


LOSSES: Mapping[str, Loss] = {
    "hard_labels": Loss(
        "labels",
        formula="-log softmax(z_s)[y]",
        paper="none: cross entropy",
        weight="1 by definition, 0.1 beside soft targets (Tian et al. 2020); any batch size",
        cost="B K",
    ),
    "label_smoothing": Loss(
        "labels",
        formula="cross entropy with (1 - ε) onehot(y) + ε / K",
        paper="Szegedy et al. 2016",
        weight="1, in the place of hard labels (Szegedy et al. 2016); any batch size",
        cost="B K",
        hyperparameters={"epsilon": Hyperparameter(0.1, low=0, high=1, low_inclusive=True)},
    ),
    "soft_targets": Loss(
        "logits",
        formula="T² KL(softmax(z_t / T) ‖ softmax(z_s / T))",
        paper="Hinton, Vinyals, Dean 2015",
        weight="0.9 beside 0.1 of hard labels (Tian et al. 2020); any batch size",
        cost="B K",
        hyperparameters=_temperature(4),
    ),
    "reverse_soft_targets": Loss(
        "logits",
        formula="T² KL(softmax(z_s / T) ‖ softmax(z_t / T))",
        paper="Gu et al. 2024 (MiniLLM), for language models",
        weight="0.9, taken over from soft targets; any batch size",
        cost="B K",
        hyperparameters=_temperature(4),
    ),
    "standardised_soft_targets": Loss(
        "logits",
        formula="soft targets of (z - mean z) / std z",
        paper="Sun et al. 2024",
        weight="9 beside 0.1 of hard labels (its authors); any batch size",
        cost="B K",
        hyperparameters=_temperature(2),
    ),
    "logit_regression": Loss(
        "logits",
        formula="mean over classes of (z_s - z_t)²",
        paper="Ba, Caruana 2014",
        weight="1 (its authors, alone); any batch size",
        cost="B K",
    ),
    "decoupled": Loss(
        "logits and labels",
        formula="T² (α KL of (target, rest) + β KL among the rest)",
        paper="Zhao et al. 2022 (DKD)",
        weight="1, with a warm-up of 20 of 240 epochs (its authors); any batch size",
        cost="B K",
        hyperparameters={**_positive(alpha=1, beta=8), **_temperature(4)},
    ),
    "dist": Loss(
        "logits",
        formula="T² (β (1 - correlation of rows) + γ (1 - correlation of columns)) of softmax(z / T)",
        paper="Huang et al. 2022 (DIST)",
        weight="1, with β = γ = 2 (its authors), for a batch of 64: a column's correlation is that of a batch's values",
        cost="B K",
        hyperparameters={**_positive(beta=2, gamma=2), **_temperature(4)},
        per_batch=True,
    ),
    "adversarial": Loss(
        "logits",
        formula="-log D(z_s), a discriminator D being trained to tell z_t from z_s",
        paper="none with reference values; Goodfellow et al. 2014 for the objective",
        weight="0.1, chosen here; any batch size",
        cost="B K width, and the discriminator's own step",
        hyperparameters=_width(64),
        module="Adversarial",
    ),
    "hint": Loss(
        "features",
        formula="mean (r(F_s) - F_t)², r a 1x1 convolution (or linear) and batch norm, trained with the student",
        paper="Romero et al. 2015 (FitNets)",
        weight="100 (Tian et al. 2020), for maps; any batch size",
        cost="B P C_s C_t",
        places=("middle",),
    ),
    "cosine_features": Loss(
        "features",
        formula="1 - cos(r(F_s), F_t), maps averaged; r, linear and batch norm, only if widths differ",
        paper="none with a usual weight",
        weight="1, chosen here; any batch size",
        cost="B D",
        places=("last",),
        takes="embeddings",
    ),
    "attention_transfer": Loss(
        "features",
        formula="Σ over maps of mean (Q_s - Q_t)², Q = normalise(mean over channels of F²)",
        paper="Zagoruyko, Komodakis 2017",
        weight="1000 (Tian et al. 2020); any batch size",
        cost="B P C",
        places=_THROUGHOUT,
        takes="maps",
        joint=True,
    ),
    "neuron_selectivity": Loss(
        "features",
        formula="MMD² of the channels, each normalised over positions, with the kernel (x·y)²",
        paper="Huang, Wang 2017 (NST)",
        weight="50 (Tian et al. 2020) for the sum over three maps, of which it takes the deepest here; any batch size",
        cost="B P C²",
        places=("deepest",),
        takes="maps",
    ),
    "similarity_preserving": Loss(
        "features",
        formula="‖G_t - G_s‖² / B², G = F Fᵀ with normalised rows",
        paper="Tung, Mori 2019",
        weight="3000 (Tian et al. 2020, at a batch of 64); any batch size: the value, which falls as 1 / B, is "
        "multiplied by B / 64",
        cost="B² C P",
        places=("deepest",),
        per_batch=True,
        falls_with_batch=True,
    ),
    "relational_distance": Loss(
        "features",
        formula="mean over (i, j) of smoothL1(d_s - d_t), d = ‖F_i - F_j‖ / their mean over the pairs",
        paper="Park et al. 2019 (RKD)",
        weight="25 (its authors, for a batch of 128; Tian et al. 2020, 64); its spread depends on the batch size",
        cost="B² D",
        places=("last",),
        takes="embeddings",
        per_batch=True,
    ),
    "relational_angle": Loss(
        "features",
        formula="mean over (i, j, k) of smoothL1(c_s - c_t), c = e_ij · e_ik, e_ij = (F_j - F_i) / ‖F_j - F_i‖",
        paper="Park et al. 2019 (RKD)",
        weight="50 (its authors, for a batch of 128; Tian et al. 2020, 64); its spread depends on the batch size",
        cost="B³ D",
        places=("last",),
        takes="embeddings",
        per_batch=True,
    ),
    "distance_metric": Loss(
        "features",
        formula="mean square difference of the two pairwise matrices, distances or cosines",
        paper="none: pairwise distances as they are",
        weight="0.5 beside 0.5 of hard labels, chosen here; any batch size, being a mean over pairs; not normalised, "
        "so it depends on the features' scale",
        cost="B² D",
        hyperparameters={"metric": Choice("euclidean", ("euclidean", "cosine"))},
        places=("last",),
        takes="embeddings",
        per_batch=True,
    ),
    "probabilistic_transfer": Loss(
        "features",
        formula="mean p_t log(p_t / p_s), p = rows of (cos + 1) / 2, normalised",
        paper="Passalis, Tefas 2018 (PKT)",
        weight="30000 (Tian et al. 2020, at a batch of 64); any batch size: the value, which falls as 1 / B, is "
        "multiplied by B / 64",
        cost="B² D",
        places=("last",),
        takes="embeddings",
        per_batch=True,
        falls_with_batch=True,
    ),
    "flow_of_solution": Loss(
        "features",
        formula="mean square difference of Gram matrices between consecutive maps; if channels differ, of r(F_s)",
        paper="Yim et al. 2017 (FSP)",
        weight="50, not published for a sum with hard labels: Yim et al. and Tian et al. 2020 train by it alone, "
        "before the labels, where it weighs 1 and the 50 of the latter's script has no effect; any batch size",
        cost="B P C²; B P C_s C_t for r",
        places=("first", "deepest"),
        takes="maps",
        joint=True,
        per_batch=True,
    ),
    "review": Loss(
        "features",
        formula="Σ over maps of Σ_l w_l mean (pool_l(U) - pool_l(F_t))² / Σ_l w_l, pool_l to its own size, 4x4, 2x2, "
        "1x1, w = 1, ½, ¼, ⅛; U a fusion of F_s with the deeper maps, trained with the student",
        paper="Chen et al. 2021 (ReviewKD)",
        weight="5, with a warm-up of 20 of 240 epochs (its authors, for most pairs on CIFAR-100 at a batch of 128, 0.6 "
        "to 8 for others; 1 and 8 on ImageNet), where the pooled embedding is one more stage beside the three maps "
        "here; any batch size",
        cost="B P width C_t, the fusion's 3x3 convolutions being most of it",
        hyperparameters=_width(None, "the channels of the student's deepest map, at most 512"),
        places=_THROUGHOUT,
        takes="maps",
        joint=True,
    ),
    "variational_information": Loss(
        "features",
        formula="½ ((μ(F_s) - F_t)² / σ² + log σ²), μ (1x1 convolutions or linear) and σ trained",
        paper="Ahn et al. 2019 (VID)",
        weight="1 (Tian et al. 2020) for the sum over three maps, of which it takes the middle here; any batch size",
        cost="B P C²",
        places=("middle",),
        module="VariationalInformation",
    ),
    "contrastive_representation": Loss(
        "features",
        formula="-log h(m_i) - Σ over negatives j, of other classes, of log(1 - h(m_j)), "
        "h(m) = u / (u + negatives / N), u = exp(f · m / T) / Z, f = normalise(W F_i), m rows of the other network's "
        "bank; of both networks, added",
        paper="Tian et al. 2020 (CRD)",
        weight="0.8 (its authors, with the defaults here, at a batch of 64); any batch size",
        cost="B N width, and banks of 2 N width numbers",
        hyperparameters={
            **_width(128),
            **_temperature(0.07),
            "momentum": Hyperparameter(0.5, low=0, high=1, low_inclusive=True),
            "negatives": Hyperparameter(16384, low=1, low_inclusive=True, whole=True),
        },
        places=("last",),
        takes="embeddings",
        module="ContrastiveRepresentation",
        remembers=True,
    ),
    "simple_recipe": Loss(
        "features",
        formula="log(Σ |BN(W F_s) - BN(F_t)|⁴ + 1e-5)",
        paper="Miles, Mikolajczyk 2024 (SRD)",
        weight="1 (its authors, at each of two places on ImageNet, for a batch of 256); it normalises over the batch",
        cost="B D²",
        places=("last",),
        takes="embeddings",
        per_batch=True,
        module="SimpleRecipe",
    ),
}
