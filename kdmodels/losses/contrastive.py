"""Contrastive representation distillation with memory banks."""

from math import log

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from kdmodels.losses.features import unit
from kdmodels.losses.numerics import full_precision, unrounded
from kdmodels.losses.relations import require_embeddings


class ContrastiveRepresentation(nn.Module):
    """Noise-contrastive estimation: an example's two embeddings are told from pairs of two examples' embeddings.

    With a bank's row m of example i, the score of projection v is exp(v · m_i / T) / Z. Its odds against the noise, K
    uniform draws among N examples, are the score divided by K / N. The value is -log of the probability given to the
    example itself, minus the sum over the negatives of the log of the probability that they are noise; student against
    the teacher's bank plus teacher against the student's. Z is N times the mean of the first batch's unnormalised
    scores, and stays. Where all scores are equal, nothing being told apart, the value is
    2 (log(1 + K) + K log(1 + 1 / K)), about 2 (1 + log K).

    Negatives are drawn among the examples of other classes, as its authors do: those of the same class have similar
    embeddings, and telling them apart costs accuracy.

    Projections, banks and Z are checkpointed with the student, and are no part of the exported model. When training,
    the rows of the batch's examples move to momentum times themselves plus (1 - momentum) times the projections, made
    one long again, after the value is taken; in eval mode nothing moves.

    `drawn` (B, K), the negatives' indices, is replaced at every step by the trainer (`torch.func.functional_call`)
    with what `draw` gives; as it stands at first, it serves to try shapes. The banks are `reset` by the trainer; until
    then they are one fixed draw.

    Args:
        student_width, teacher_width: of the embeddings.
        labels: (N,), those of the training split. An example without a label, -1, counts as a class of its own: its
            negatives are all other examples, and it is a negative of all others.
        width: of the projections.
        negatives: K; at most the largest number of examples of other classes that an example has.
        temperature: T, positive.
        momentum: in [0, 1).

    Raises:
        ValueError: all labels are equal, or a hyperparameter is out of range; on use, what is given is
            not two batches of embeddings of the same examples and an index for each.

    References:
        Tian et al., "Contrastive Representation Distillation", 2020, section 3.1 and appendix; the banks after
        Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", 2018.

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

    def __init__(
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
            raise ValueError(f"{examples} examples of one class leave no negatives; allowed: two or more classes")
        if negatives < 1 or temperature <= 0 or not 0 <= momentum < 1:
            given = f"negatives {negatives}, temperature {temperature}, momentum {momentum}"
            raise ValueError(f"{given}: not at least 1, positive and in [0, 1)")
        self.examples, self.negatives = examples, min(negatives, examples - int(sizes.min()))
        # Sorted by class, an example's own class is one range: its beginning and its size. No buffers: negatives are
        # drawn on the CPU.
        self._by_class, self._sizes = numbers.argsort(stable=True), sizes[numbers]  # (N,) each
        self._starts = (sizes.cumsum(0) - sizes)[numbers]  # (N,)
        self.temperature, self.momentum = temperature, momentum
        self.student_projection = nn.Linear(student_width, width)
        self.teacher_projection = nn.Linear(teacher_width, width)
        self.register_buffer("student_bank", torch.empty(examples, width))
        self.register_buffer("teacher_bank", torch.empty(examples, width))
        self.register_buffer("log_z", torch.empty(2))  # of the student's scores and the teacher's; -inf: not set yet
        self.register_buffer("drawn", torch.arange(self.negatives), persistent=False)
        self.reset(Generator().manual_seed(0))

    def reset(self, generator: Generator) -> None:
        """Draw both banks anew, uniform on the sphere, and forget Z."""
        for bank in (self.student_bank, self.teacher_bank):
            bank.copy_(unit(torch.randn(bank.shape, generator=generator)))
        self.log_z.fill_(-torch.inf)

    def draw(self, indices: Tensor, generator: Generator) -> Tensor:
        """Draw negatives (B, K) for the examples of these indices (B,): examples of other classes.

        A systematic sample: with M others, sorted by class, every (M / K)-th of them from a random start. All have the
        same chance, every class has its share, and none is drawn twice unless K exceeds M. If K is M, each is taken.
        """
        starts, sizes = self._starts[indices].unsqueeze(1), self._sizes[indices].unsqueeze(1)  # (B, 1)
        begin = torch.rand(len(indices), 1, generator=generator).double()  # of single precision: begin + K - 1 < K
        places = (begin + torch.arange(self.negatives)).mul_((self.examples - sizes).double() / self.negatives)
        drawn = places.long()  # (B, K), numbers among the others
        return self._by_class.take(drawn.add_((drawn >= starts) * sizes))  # skips the example's own class

    def forward(self, student_embeddings: Tensor, teacher_embeddings: Tensor, indices: Tensor) -> Tensor:
        """(B,), nats, summed over the negatives and the two directions.

        Args:
            student_embeddings: (B, D_s).
            teacher_embeddings: (B, D_t). No gradient reaches the teacher; one does reach its projection.
            indices: (B,), the examples' numbers in the training split, all different.
        """
        require_embeddings(student_embeddings, teacher_embeddings)
        if indices.shape != student_embeddings.shape[:1]:
            raise ValueError(
                f"indices {tuple(indices.shape)} are not one for each of {len(student_embeddings)} examples"
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
        odds = scores - log_z.view(2, 1, 1) - log(self.negatives / self.examples)  # logs of them, (2, B, 1 + K)
        if self.training:
            self.log_z.copy_(log_z)
            self._remember(self.student_bank, student.detach(), indices)
            self._remember(self.teacher_bank, teacher.detach(), indices)
        return -(F.logsigmoid(odds[..., 0]) + F.logsigmoid(-odds[..., 1:]).sum(dim=2)).sum(dim=0)

    def _scores(self, embeddings: Tensor, bank: Tensor, chosen: Tensor) -> Tensor:
        """Logs of the unnormalised scores of chosen rows of a bank, (B, 1 + K)."""
        # One product with all rows: gathering 1 + K rows an example would take width times the memory.
        # Of a copy, which autograd keeps: the bank's own rows move before the backward pass.
        with unrounded(embeddings):
            return full_precision(embeddings @ bank.clone().T).gather(1, chosen) / self.temperature

    def _remember(self, bank: Tensor, embeddings: Tensor, indices: Tensor) -> None:
        moved = self.momentum * bank[indices] + (1 - self.momentum) * embeddings
        bank[indices] = unit(moved).to(bank.dtype)
