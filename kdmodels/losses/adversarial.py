"""A discriminator of the student's logits from the teacher's."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from kdmodels.losses.numerics import full_precision, require_same_shape, unrounded


class Adversarial(nn.Module):
    """The student is trained to have its logits D(z), the probability of being the teacher's, judged near 1.

    The non-saturating objective of generative adversarial networks: the student's term is -log D(z_s), and the
    discriminator's own is cross entropy with the teacher's logits real and the student's fake. Each term's gradient
    reaches one side alone, so that the two can be stepped by two optimisers. It is checkpointed with the student, and
    is no part of the exported model. No published reference values exist for it as a distillation term: its tests are
    of its properties.

    Args:
        classes: K.
        width: of the discriminator's hidden layer.

    Raises:
        ValueError: on use, the shapes differ.

    References:
        Goodfellow et al., "Generative Adversarial Networks", 2014, section 3, for the objective.

    Example:
        >>> import torch
        >>> Adversarial(10)(torch.zeros(4, 10), torch.ones(4, 10)).shape
        torch.Size([4])
    """

    def __init__(self, classes: int, *, width: int = 64) -> None:
        super().__init__()
        self.discriminator = nn.Sequential(nn.Linear(classes, width), nn.LeakyReLU(0.2), nn.Linear(width, 1))

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """The student's term (B,), nats; log 2 where the discriminator is undecided. It depends on the student alone.

        Args:
            student_logits, teacher_logits: (B, K). No gradient reaches the discriminator.
        """
        require_same_shape(student_logits, teacher_logits)
        fixed = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        return -F.logsigmoid(self._log_odds(student_logits, fixed))

    def discriminator_loss(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """The discriminator's term (B,), nats; 2 log 2 where it is undecided.

        Args:
            student_logits, teacher_logits: (B, K). No gradient reaches either.
        """
        require_same_shape(student_logits, teacher_logits)
        own = dict(self.discriminator.named_parameters())
        real, fake = (self._log_odds(logits.detach(), own) for logits in (teacher_logits, student_logits))
        return -F.logsigmoid(real) - F.logsigmoid(-fake)

    def _log_odds(self, logits: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """log D / (1 - D), (B,)."""
        dtype = next(iter(parameters.values())).dtype
        with unrounded(logits):
            return full_precision(functional_call(self.discriminator, dict(parameters), logits.to(dtype))).squeeze(1)
