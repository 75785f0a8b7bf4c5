"""Adversarial distillation with a discriminator that distinguishes the student's logits from the teacher's."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from kdmodels.losses.numerics import full_precision, require_same_shape, unrounded
from kdmodels.losses.term_loss import Builder, LossInputs, LossSetting, TermLoss


class Adversarial(nn.Module):
    """Non-saturating objective of generative adversarial networks, applied to logits.

    The discriminator estimates D(z), the probability that logits z come from the teacher. The student's term is
    -log D(z_s), for the student's logits z_s. The discriminator's term is the cross entropy of classifying the
    teacher's logits as real and the student's logits as fake.

    The gradient of the student's term reaches only the student, and the gradient of the discriminator's term reaches
    only the discriminator. The student and the discriminator have separate optimizers. The discriminator is
    checkpointed with the student and is not part of the exported model. No reference values are published for this
    loss, so the tests check only its mathematical properties.

    Args:
        classes: Number of classes, K.
        width: Width of the discriminator's hidden layer.

    Raises:
        ValueError: In a call, the shapes of the student's and the teacher's logits differ.

    References:
        Goodfellow et al., "Generative Adversarial Networks", 2014, section 3 (the objective).

    Example:
        >>> import torch
        >>> Adversarial(10)(torch.zeros(4, 10), torch.ones(4, 10)).shape
        torch.Size([4])
    """

    def __init__(self, classes: int, *, width: int = 64) -> None:
        super().__init__()
        self.discriminator = nn.Sequential(nn.Linear(classes, width), nn.LeakyReLU(0.2), nn.Linear(width, 1))

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the student's term. No gradient reaches the discriminator.

        Args:
            student_logits: Logits of shape (B, K).
            teacher_logits: Logits of shape (B, K). They are only used to check that the shapes are equal.

        Returns:
            Values of shape (B,), in nats. A value is log 2 if the discriminator's probability is 1/2.
        """
        require_same_shape(student_logits, teacher_logits)
        fixed = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        return -F.logsigmoid(self._log_odds(student_logits, fixed))

    def discriminator_loss(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the discriminator's term.

        Args:
            student_logits, teacher_logits: Logits of shape (B, K). No gradient reaches the logits.

        Returns:
            Values of shape (B,), in nats. A value is 2 log 2 if both probabilities of the discriminator are 1/2.
        """
        require_same_shape(student_logits, teacher_logits)
        own = dict(self.discriminator.named_parameters())
        real, fake = (self._log_odds(logits.detach(), own) for logits in (teacher_logits, student_logits))
        return -F.logsigmoid(real) - F.logsigmoid(-fake)

    def _log_odds(self, logits: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return log(D(z) / (1 - D(z))), (B,), for logits z and a discriminator D with these parameters."""
        dtype = next(iter(parameters.values())).dtype
        with unrounded(logits):
            return full_precision(functional_call(self.discriminator, dict(parameters), logits.to(dtype))).squeeze(1)


def _build(setting: LossSetting) -> TermLoss:
    def value(inputs: LossInputs, adversarial: Adversarial) -> Tensor:
        term: Tensor = adversarial(inputs.student_logits, inputs.teacher_logits)
        return term

    def opponent(inputs: LossInputs, adversarial: Adversarial) -> Tensor:
        return adversarial.discriminator_loss(inputs.student_logits, inputs.teacher_logits)

    return TermLoss(value, Adversarial(setting.classes, width=int(setting.number("width"))), opponent=opponent)


BUILDERS: Mapping[str, Builder] = {"adversarial": _build}
