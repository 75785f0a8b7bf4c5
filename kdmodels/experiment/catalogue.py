"""The catalogue of losses: one row per loss, with its inputs, defaults, source and cost.

To add a loss, see `kdmodels/losses/__init__.py`. This module does not import torch.
"""

from collections.abc import Mapping

from kdmodels.experiment.loss import Choice, Hyperparameter, Loss

WEIGHT_BATCH = 64
"""The batch size for which the weights of some losses were published: the losses whose value falls as 1 / B."""

_THROUGHOUT = ("first", "middle", "deepest")


def _temperature(default: float, tune: tuple[float, float] | None = (1, 16)) -> dict[str, Hyperparameter | Choice]:
    # The temperature is limited, because most losses use its square.
    return {"temperature": Hyperparameter(default, low=0, high=1e6, tune=tune)}


def _positive(default: float, tune: tuple[float, float] | None = None) -> Hyperparameter:
    return Hyperparameter(default, low=0, low_inclusive=True, tune=tune)


def _width(default: float | None, derived: str = "") -> dict[str, Hyperparameter | Choice]:
    return {"width": Hyperparameter(default, low=1, high=1e6, low_inclusive=True, whole=True, derived=derived)}


LOSSES: Mapping[str, Loss] = {
    "hard_labels": Loss(
        "labels",
        file="logits",
        formula="-log softmax(z_s)[y]",
        paper="none: cross entropy",
        weight="1 by definition, 0.1 beside soft targets (Tian et al. 2020); any batch size",
        cost="B K",
    ),
    "label_smoothing": Loss(
        "labels",
        file="logits",
        formula="cross entropy with (1 - ε) onehot(y) + ε / K",
        paper="Szegedy et al. 2016",
        weight="1, in the place of hard labels (Szegedy et al. 2016); any batch size",
        cost="B K",
        hyperparameters={"epsilon": Hyperparameter(0.1, low=0, high=1, low_inclusive=True, tune=(0.01, 0.5))},
    ),
    "soft_targets": Loss(
        "logits",
        file="logits",
        formula="T² KL(softmax(z_t / T) ‖ softmax(z_s / T))",
        paper="Hinton, Vinyals, Dean 2015",
        weight="0.9 beside 0.1 of hard labels (Tian et al. 2020); any batch size",
        cost="B K",
        ensemble="softened",
        hyperparameters=_temperature(4),
    ),
    "reverse_soft_targets": Loss(
        "logits",
        file="logits",
        formula="T² KL(softmax(z_s / T) ‖ softmax(z_t / T))",
        paper="Gu et al. 2024 (MiniLLM), for language models",
        weight="0.9, as for soft targets; any batch size",
        cost="B K",
        ensemble="softened",
        hyperparameters=_temperature(4),
    ),
    "standardised_soft_targets": Loss(
        "logits",
        file="logits",
        formula="soft targets of (z - mean z) / std z",
        paper="Sun et al. 2024",
        weight="9 beside 0.1 of hard labels (its authors); any batch size",
        cost="B K",
        ensemble="members",
        hyperparameters=_temperature(2),
    ),
    "logit_regression": Loss(
        "logits",
        file="logits",
        formula="mean over classes of (z_s - z_t)²",
        paper="Ba, Caruana 2014",
        weight="1 (its authors, alone); any batch size",
        cost="B K",
    ),
    "decoupled": Loss(
        "logits and labels",
        file="logits",
        formula="T² (α KL of (target, rest) + β KL among the rest)",
        paper="Zhao et al. 2022 (DKD)",
        weight="1, with a warm-up of 20 of 240 epochs (its authors); any batch size",
        cost="B K",
        ensemble="softened",
        hyperparameters={"alpha": _positive(1), "beta": _positive(8, tune=(1, 16)), **_temperature(4)},
    ),
    "dist": Loss(
        "logits",
        file="logits",
        formula="T² (β (1 - correlation of rows) + γ (1 - correlation of columns)) of softmax(z / T)",
        paper="Huang et al. 2022 (DIST)",
        weight="1, with β = γ = 2 (its authors), for a batch of 64; a column holds the values of one batch",
        cost="B K",
        ensemble="softened",
        hyperparameters={"beta": _positive(2), "gamma": _positive(2, tune=(0.5, 8)), **_temperature(4)},
        per_batch=True,
    ),
    "adversarial": Loss(
        "logits",
        file="adversarial",
        formula="-log D(z_s), where the discriminator D is trained to distinguish z_t from z_s",
        paper="none with reference values; Goodfellow et al. 2014 for the objective",
        weight="0.1, chosen for kdflow; any batch size",
        cost="B K width, and a step of the discriminator",
        hyperparameters=_width(64),
        modules="Adversarial",
        opponent="discriminator",
    ),
    "hint": Loss(
        "features",
        file="features",
        formula="mean (r(F_s) - F_t)², where r is a 1x1 convolution (or linear) and batch norm, trained with "
        "the student; with activation: relu, max(0, r(F_s)) takes the place of r(F_s)",
        paper="Romero et al. 2015 (FitNets)",
        weight="100 (Tian et al. 2020), for maps; any batch size",
        cost="B P C_s C_t",
        hyperparameters={"activation": Choice(None, ("relu",))},
        places=("middle",),
    ),
    "cosine_features": Loss(
        "features",
        file="features",
        formula="1 - cos(r(F_s), F_t); maps are averaged over positions; if widths differ, r is linear and batch norm, "
        "otherwise the identity",
        paper="none with a usual weight",
        weight="1, chosen for kdflow; any batch size",
        cost="B D",
        places=("last",),
        takes="embeddings",
    ),
    "attention_transfer": Loss(
        "features",
        file="features",
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
        file="features",
        formula="MMD² of the channels, each normalised over positions, with the kernel (x·y)²",
        paper="Huang, Wang 2017 (NST)",
        weight="50 (Tian et al. 2020) for the sum over three maps, here for the deepest map alone; any batch size",
        cost="B P C²",
        places=("deepest",),
        takes="maps",
    ),
    "channel_correlation": Loss(
        "features",
        file="features",
        formula="‖G_s - G_t‖² / C, G = F Fᵀ between channels with normalised rows, of r(F_s) as for hint; as in the "
        "released code: the paper divides by C² and does not normalise rows",
        paper="Liu et al. 2021 (ICKD)",
        weight="2.5 (its authors, on CIFAR-100 at a batch of 64); any batch size",
        cost="B P C_t (C_s + C_t)",
        places=("deepest",),
        takes="maps",
    ),
    "activation_boundaries": Loss(
        "features",
        file="boundaries",
        formula="Σ over maps, halved from each map to the map before it, of 3 / 1000 Σ max(0, margin - σ r(F_s))², "
        "where σ is 1 if F_t > 0 and -1 otherwise, and r is as for hint; as in the released code: the paper has one "
        "layer and no factor",
        paper="Heo et al. 2019 (AB)",
        weight="1 (Tian et al. 2020, who first train with this loss alone; not published for a sum with hard labels); "
        "any batch size; grows with the size of the maps",
        cost="B P C_s C_t",
        hyperparameters={"margin": Hyperparameter(1, low=0)},
        places=_THROUGHOUT,
        takes="maps",
        joint=True,
    ),
    "overhaul": Loss(
        "features",
        file="boundaries",
        formula="Σ over maps, halved from each map to the map before it, of Σ (r(F_s) - τ)² where F_t > 0 or "
        "r(F_s) > τ, τ = max(F_t, m), m = the mean of a channel's negative values in the batch, r as for hint; "
        "the released code computes m from the teacher's batch norm",
        paper="Heo et al. 2019 (OFD)",
        weight="0.001 (mdistiller, on CIFAR-100); any batch size; grows with the size of the maps",
        cost="B P C_s C_t",
        places=_THROUGHOUT,
        takes="maps",
        joint=True,
        per_batch=True,
    ),
    "similarity_preserving": Loss(
        "features",
        file="relations",
        formula="‖G_t - G_s‖² / B², G = F Fᵀ with normalised rows",
        paper="Tung, Mori 2019",
        weight="3000 (Tian et al. 2020, at a batch of 64); any batch size, because the value, which falls as 1 / B, is "
        "multiplied by B / 64",
        cost="B² C P",
        places=("deepest",),
        per_batch=True,
        falls_with_batch=True,
    ),
    "relational_distance": Loss(
        "features",
        file="relations",
        formula="mean over (i, j) of smoothL1(d_s - d_t), d = ‖F_i - F_j‖ / the mean distance over all pairs",
        paper="Park et al. 2019 (RKD)",
        weight="25 (its authors, for a batch of 128; Tian et al. 2020, 64); its spread depends on the batch size",
        cost="B² D",
        places=("last",),
        takes="embeddings",
        per_batch=True,
    ),
    "relational_angle": Loss(
        "features",
        file="relations",
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
        file="relations",
        formula="mean square difference of the two pairwise matrices, distances or cosines",
        paper="none; distances are not normalised",
        weight="0.5 beside 0.5 of hard labels, chosen for kdflow; any batch size, because the value is a mean over "
        "pairs; it depends on the scale of the features",
        cost="B² D",
        hyperparameters={"metric": Choice("euclidean", ("euclidean", "cosine"))},
        places=("last",),
        takes="embeddings",
        per_batch=True,
    ),
    "probabilistic_transfer": Loss(
        "features",
        file="relations",
        formula="mean p_t log(p_t / p_s), p = rows of (cos + 1) / 2, normalised",
        paper="Passalis, Tefas 2018 (PKT)",
        weight="30000 (Tian et al. 2020, at a batch of 64); any batch size, because the value, which falls as 1 / B, "
        "is multiplied by B / 64",
        cost="B² D",
        places=("last",),
        takes="embeddings",
        per_batch=True,
        falls_with_batch=True,
    ),
    "correlation_congruence": Loss(
        "features",
        file="congruence",
        formula="mean over consecutive examples i, i + 1 of δ_i · δ_(i+1), δ = |W_s F_s - W_t F_t|, where W_s and W_t "
        "are trained linear layers; as in the code that the authors gave to Tian et al. 2020: the paper compares "
        "matrices of pairwise correlations",
        paper="Peng et al. 2019 (CC)",
        weight="0.02 (Tian et al. 2020); any batch size",
        cost="B D width",
        hyperparameters=_width(128),
        places=("last",),
        takes="embeddings",
        per_batch=True,
        modules="CorrelationCongruence",
    ),
    "flow_of_solution": Loss(
        "features",
        file="relations",
        formula="mean square difference of Gram matrices between consecutive maps; if channels differ, of r(F_s)",
        paper="Yim et al. 2017 (FSP)",
        weight="50, not published for a sum with hard labels; any batch size. Yim et al. and Tian et al. 2020 first "
        "train with this loss alone, at weight 1",
        cost="B P C²; B P C_s C_t for r",
        places=("first", "deepest"),
        takes="maps",
        joint=True,
        per_batch=True,
    ),
    "review": Loss(
        "features",
        file="review",
        formula="Σ over maps of Σ_l w_l mean (pool_l(U) - pool_l(F_t))² / Σ_l w_l, where pool_l pools to the original "
        "size, 4x4, 2x2, 1x1, w = 1, ½, ¼, ⅛, and U is a fusion of F_s with the deeper maps, trained with the student",
        paper="Chen et al. 2021 (ReviewKD)",
        weight="5, with a warm-up of 20 of 240 epochs (its authors, for most pairs on CIFAR-100 at a batch of 128; 0.6 "
        "to 8 for other pairs, 1 and 8 on ImageNet); any batch size. The authors add the pooled embedding as a stage",
        cost="B P width C_t, mostly for the 3x3 convolutions of the fusion",
        hyperparameters=_width(None, "the channels of the student's deepest map, at most 512"),
        places=_THROUGHOUT,
        takes="maps",
        joint=True,
    ),
    "variational_information": Loss(
        "features",
        file="variational",
        formula="½ ((μ(F_s) - F_t)² / σ² + log σ²), where μ (1x1 convolutions or linear) and σ are trained",
        paper="Ahn et al. 2019 (VID)",
        weight="1 (Tian et al. 2020) for the sum over three maps, here for the middle map alone; any batch size",
        cost="B P C²",
        places=("middle",),
        modules="VariationalInformation",
    ),
    "contrastive_representation": Loss(
        "features",
        file="contrastive",
        formula="-log h(m_i) - Σ over negatives j of log(1 - h(m_j)), h(m) = u / (u + negatives / N), "
        "u = exp(f · m / T) / Z, f = normalise(W F_i), where m are rows of the other network's bank and negatives are "
        "examples of other classes; summed over both networks",
        paper="Tian et al. 2020 (CRD)",
        weight="0.8 (its authors, with the defaults here, at a batch of 64); any batch size",
        cost="B N width, and banks of 2 N width numbers",
        hyperparameters={
            **_width(128),
            **_temperature(0.07, tune=None),
            "momentum": Hyperparameter(0.5, low=0, high=1, low_inclusive=True),
            "negatives": Hyperparameter(16384, low=1, low_inclusive=True, whole=True),
        },
        places=("last",),
        takes="embeddings",
        modules="ContrastiveRepresentation",
        remembers=True,
    ),
    "simple_recipe": Loss(
        "features",
        file="simple_recipe",
        formula="log(Σ |BN(W F_s) - BN(F_t)|⁴ + 1e-5)",
        paper="Miles, Mikolajczyk 2024 (SRD)",
        weight="1 (its authors, at each of two places on ImageNet, for a batch of 256); features are normalised over "
        "the batch",
        cost="B D²",
        places=("last",),
        takes="embeddings",
        per_batch=True,
        modules="SimpleRecipe",
    ),
}
