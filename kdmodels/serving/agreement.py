"""Whether a served file gives what the trained network gives, on real examples."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdmodels.data.dataset import Split
from kdmodels.errors import UserError
from kdmodels.networks import Description
from kdmodels.serving.graph import export_graph, fill, graph_of
from kdmodels.serving.model_file import ServedModel

EXAMPLES = 512  # the most that are compared
TOLERANCE = 1e-3  # of the largest logit, or of 1 where all logits are smaller


@dataclass(frozen=True)
class Agreement:
    """How near a file's logits are to the network's.

    `agreement` is the share of examples on which both name the same class, `difference` the largest of two logits, and
    `tolerance` the largest difference that is allowed.
    """

    examples: int
    agreement: float
    difference: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the difference is small; that it is a number, too."""
        return self.difference <= self.tolerance


def served_file(
    description: Description, network: nn.Module, metadata: dict[str, str], split: Split
) -> tuple[bytes, Agreement]:
    """Make the ONNX file of a trained network, and check it on examples.

    Args:
        network: in eval mode, on the CPU. split: the examples, of which EXAMPLES at equal distances are taken.

    Raises:
        UserError: the network can't be written as ONNX, or the file gives other logits than the network.
    """
    reason = ""
    # A network whose graph depends on its weights has no graph that fits all of them: it is exported itself.
    for graph in (graph_of, lambda description: export_graph(network, description.input_shape)):
        try:
            content = fill(graph(description), network.state_dict(), metadata)
        except KeyError as error:
            reason = str(error)
            continue
        agreement = compared(network, ServedModel(content), split)
        if agreement.holds:
            return content, agreement
        reason = f"logits differ by {agreement.difference:.3g} (allowed: {agreement.tolerance:.3g})"
    raise UserError(f"the ONNX file does not give what the trained network gives: {reason}")


@torch.no_grad()
def compared(network: nn.Module, served: ServedModel, split: Split) -> Agreement:
    """Compare a file with the network on examples of a split."""
    count = min(len(split), EXAMPLES)
    images = split.batch(torch.linspace(0, len(split) - 1, count).round().long())
    own = torch.cat([network(batch) for batch in images.split(served.batch)])
    return _agreement(own, torch.from_numpy(served(images.numpy())))


def _agreement(own: Tensor, served: Tensor) -> Agreement:
    return Agreement(
        examples=len(own),
        agreement=(own.argmax(dim=1) == served.argmax(dim=1)).double().mean().item(),
        difference=(own - served).abs().max().item(),
        tolerance=TOLERANCE * max(1.0, own.abs().max().item()),
    )
