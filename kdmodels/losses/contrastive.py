"""Contrastive representation distillation with memory banks."""

from collections.abc import Mapping
from math import log

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from kdmodels.losses.features import unit
from kdmodels.losses.numerics import full_precision, unrounded
from kdmodels.losses.relations import require_embeddings
from kdmodels.losses.term_loss import Builder, LossInputs, LossSetting, TermLoss, total
from kdmodels.randomness import StepRandomness


class ContrastiveRepresentation(StepRandomness):
    """Noise-contrastive estimation, which distinguishes an example's row of a memory bank from rows of other examples.

    The loss uses these quantities:

    - Projection v: the result of a trained linear layer for an embedding, normalised to length 1. The student and the
      teacher have one linear layer each.
    - Memory bank: one row m for each of the N examples of the training split. A row is a running average of the
      example's projections, normalised to length 1. The student and the teacher have one bank each.
    - Negatives: for each example, K rows of examples of other classes, as in the authors' code. Examples of the same
      class have similar embeddings, and separating such examples would cost accuracy.
    - Score: exp(v · m / T) / Z.

    For each example, the loss classifies 1 + K rows of a bank: the example's own row, and the negatives. The odds that
    a row is the example's own row are the score divided by K / N. The cross entropy of this classification is summed
    over the 1 + K rows. The value is the sum of two such cross entropies: of the student's projection with the
    teacher's bank, and of the teacher's projection with the student's bank.

    Each of the two cross entropies has its own Z. The first batch sets Z to N times the mean of exp(v · m / T), and Z
    does not change later. If all scores are 1 / N, the value is 2 (log(1 + K) + K log(1 + 1 / K)), about 2 (1 + log K).

    In training mode, each call updates the bank rows of the batch's examples after the value is computed. A new row is
    momentum times the old row plus (1 - momentum) times the projection, normalised to length 1. In eval mode, the banks
    do not change. Linear layers, banks and Z are checkpointed with the student and are not part of the exported model.

    The buffer `drawn` (B, K) holds the indices of the negatives. In every step, the trainer replaces the buffer with
    the result of `draw`, using `torch.func.functional_call`. The initial value of `drawn` is only used to check shapes.
    Before training, the trainer calls `reset` to draw the banks from a seed. Until then, the banks have values from a
    fixed seed.

    Args:
        student_width, teacher_width: Widths of the embeddings, D_s and D_t.
        labels: Labels of the training split, (N,). Each example without a label (-1) counts as a separate class.
        width: Width of the projections.
        negatives: Number of negatives per example, K. The maximum is the size of the training split minus the size of
            the smallest class. A larger number is reduced to the maximum.
        temperature: Positive temperature of the scores, T.
        momentum: Share of the old row in an updated row, in [0, 1).

    Raises:
        ValueError: All labels are equal, or a hyperparameter is out of range. In a call, the embeddings are not two
            batches of equal size, or the number of indices differs from the batch size.

    References:
        Tian et al., "Contrastive Representation Distillation", 2020, section 3.1 and appendix.
        Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", 2018 (the banks).

    Example:
        >>> import torch
        >>> contrast = ContrastiveRepresentation(4, 6, labels=torch.arange(10) % 3)
        >>> contrast(torch.ones(2, 4), torch.ones(2, 6), torch.tensor([3, 7])).shape
        torch.Size([2])
    """

    student_bank: Tensor
    teacher_bank: Tensor
    log_z: Tensor
    drawn: Tensor

    def __init__(  # noqa: PLR0913 - the method's published hyperparameters
        self,
        student_width: int,
        teacher_width: int,
        labels: Tensor,
        *,
        width: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
    ) -> None:
        super().__init__()
        examples = len(labels)
        classes = torch.where(labels < 0, -1 - torch.arange(examples), labels)  # (N,)
        _, numbers, sizes = classes.unique(return_inverse=True, return_counts=True)
        if len(sizes) < 2:
            raise ValueError(
                f"all {examples} examples have the same class, so none has negatives. Allowed: 2 or more classes"
            )
        if negatives < 1 or temperature <= 0 or not 0 <= momentum < 1:
            values = f"negatives {negatives}, temperature {temperature}, momentum {momentum}"
            raise ValueError(f"{values}. Allowed: negatives of at least 1, temperature above 0, momentum in [0, 1)")
        self.examples, self.negatives = examples, min(negatives, examples - int(sizes.min()))
        # The indices of the examples, sorted by class, and the size and the start of each example's class in this
        # order. These tensors are not buffers, because negatives are drawn on the CPU.
        self._by_class, self._sizes = numbers.argsort(stable=True), sizes[numbers]  # (N,) each
        self._starts = (sizes.cumsum(0) - sizes)[numbers]  # (N,)
        self.temperature, self.momentum = temperature, momentum
        self.student_projection = nn.Linear(student_width, width)
        self.teacher_projection = nn.Linear(teacher_width, width)
        self.register_buffer("student_bank", torch.empty(examples, width))
        self.register_buffer("teacher_bank", torch.empty(examples, width))
        self.register_buffer("log_z", torch.empty(2))  # log Z of the two cross entropies; -inf until set
        self.register_buffer("drawn", torch.arange(self.negatives), persistent=False)
        self.reset(Generator().manual_seed(0))

    def reset(self, generator: Generator) -> None:
        """Draw the rows of both banks uniformly on the unit sphere. The next training batch determines Z again."""
        for bank in (self.student_bank, self.teacher_bank):
            bank.copy_(unit(torch.randn(bank.shape, generator=generator)))
        self.log_z.fill_(-torch.inf)

    def draw(self, indices: Tensor, generator: Generator) -> Tensor:
        """Draw the negatives of each example as a systematic sample of the examples of other classes.

        For each example, the M examples of other classes are sorted by class. From a random start, every (M / K)-th of
        these examples is drawn. All M examples have the same probability of being drawn, and each class is drawn in
        proportion to its size. If K is at most M, no example is drawn twice.

        Args:
            indices: Indices of the examples in the training split, (B,).
            generator: Generator of the random starts.

        Returns:
            Indices of the negatives, (B, K).
        """
        starts, sizes = self._starts[indices].unsqueeze(1), self._sizes[indices].unsqueeze(1)  # (B, 1)
        begin = torch.rand(len(indices), 1, generator=generator).double()  # drawn in float32, so that begin + K - 1 < K
        places = (begin + torch.arange(self.negatives)).mul_((self.examples - sizes).double() / self.negatives)
        drawn = places.long()  # (B, K), positions among the M examples of other classes
        return self._by_class.take(drawn.add_((drawn >= starts) * sizes))  # skips the example's own class

    def forward(self, student_embeddings: Tensor, teacher_embeddings: Tensor, indices: Tensor) -> Tensor:
        """Return the loss of each example.

        Args:
            student_embeddings: Embeddings of shape (B, D_s).
            teacher_embeddings: Embeddings of shape (B, D_t). No gradient reaches the teacher, but the projection of
                the teacher's embeddings is trained.
            indices: Indices of the examples in the training split, (B,), without duplicates.

        Returns:
            Values of shape (B,), in nats, summed over the negatives and the two directions.
        """
        require_embeddings(student_embeddings, teacher_embeddings)
        if indices.shape != student_embeddings.shape[:1]:
            raise ValueError(
                f"expected one index per example, got {tuple(indices.shape)} for {len(student_embeddings)} examples"
            )
        dtype = self.student_projection.weight.dtype
        with unrounded(student_embeddings):
            student = unit(self.student_projection(student_embeddings.to(dtype)))  # (B, width)
            teacher = unit(self.teacher_projection(teacher_embeddings.detach().to(dtype)))
        chosen = torch.cat([indices.unsqueeze(1), self.drawn.expand(len(indices), -1)], dim=1)  # (B, 1 + K)
        scores = torch.stack(
            [self._scores(student, self.teacher_bank, chosen), self._scores(teacher, self.student_bank, chosen)]
        )
        first = scores.detach().flatten(1).logsumexp(dim=1) - log(chosen.numel() / self.examples)
        log_z = torch.where(self.log_z.isinf(), first, self.log_z)  # (2,)
        odds = scores - log_z.view(2, 1, 1) - log(self.negatives / self.examples)  # log-odds, (2, B, 1 + K)
        if self.training:
            self.log_z.copy_(log_z)
            self._remember(self.student_bank, student.detach(), indices)
            self._remember(self.teacher_bank, teacher.detach(), indices)
        return -(F.logsigmoid(odds[..., 0]) + F.logsigmoid(-odds[..., 1:]).sum(dim=2)).sum(dim=0)

    def _scores(self, embeddings: Tensor, bank: Tensor, chosen: Tensor) -> Tensor:
        """Return v · m / T, (B, 1 + K), for the projection v of each example and the example's chosen rows m of a bank.

        Args:
            embeddings: Projections of shape (B, width).
            bank: Memory bank of shape (N, width).
            chosen: Indices of the chosen rows, (B, 1 + K).
        """
        # Multiply with all rows, because gathering 1 + K rows per example would take `width` times as much memory.
        # Clone the bank, because autograd saves this tensor and the bank is updated before the backward pass.
        with unrounded(embeddings):
            return full_precision(embeddings @ bank.clone().T).gather(1, chosen) / self.temperature

    def _remember(self, bank: Tensor, embeddings: Tensor, indices: Tensor) -> None:
        moved = self.momentum * bank[indices] + (1 - self.momentum) * embeddings
        bank[indices] = unit(moved).to(bank.dtype)


def _build(setting: LossSetting) -> TermLoss:
    def value(inputs: LossInputs, modules: nn.ModuleList) -> Tensor:
        places = zip(modules, inputs.student_features, inputs.teacher_features, strict=True)
        return total(module(student, teacher, inputs.indices) for module, student, teacher in places)

    modules = nn.ModuleList(
        ContrastiveRepresentation(
            student[0],
            teacher[0],
            setting.labels,
            width=int(setting.number("width")),
            negatives=int(setting.number("negatives")),
            temperature=setting.number("temperature"),
            momentum=setting.number("momentum"),
        )
        for student, teacher in setting.pairs
    )
    return TermLoss(value, modules)


BUILDERS: Mapping[str, Builder] = {"contrastive_representation": _build}
