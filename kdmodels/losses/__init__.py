"""Distillation losses as pure functions of tensors.

Student first, teacher second, hyperparameters by keyword. One value per example, shape (B,): the caller reduces.
No gradient reaches a teacher.
"""

from kdmodels.losses.features import HintRegressor, hint
from kdmodels.losses.logits import hard_labels, label_smoothing, logit_regression, soft_targets

__all__ = ["HintRegressor", "hard_labels", "hint", "label_smoothing", "logit_regression", "soft_targets"]
