"""Comparison of the logits of an ONNX file with the logits of the trained network, on real examples."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdmodels.data.split import Split
from kdmodels.errors import UserError
from kdmodels.networks import Description
from kdmodels.serving.graph import export_graph, fill, graph_of
from kdmodels.serving.model_file import ServedModel

EXAMPLES = 512  # maximum number of compared examples
TOLERANCE = 1e-3  # relative to the largest absolute logit of the network, or to 1 if all logits are smaller


@dataclass(frozen=True)
class Agreement:
    """The result of comparing the logits of an ONNX file with the logits of the trained network.

    Attributes:
        examples: The number of compared examples.
        agreement: The share of examples for which the file and the network predict the same class.
        difference: The largest absolute difference between a logit of the file and the same logit of the network.
        tolerance: The largest allowed difference.
    """

    examples: int
    agreement: float
    difference: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the difference is within the tolerance. A difference of NaN is not within the tolerance."""
        return self.difference <= self.tolerance


def served_file(
    description: Description, network: nn.Module, metadata: dict[str, str], split: Split
) -> tuple[bytes, Agreement]:
    """Write a trained network as an ONNX file in memory, and compare the logits of the file and of the network.

    Args:
        description: The description of the network.
        network: The trained network, in eval mode and on the CPU.
        metadata: Texts that are stored in the file, by key.
        split: The split whose examples are used for the comparison. At most `EXAMPLES` evenly spaced examples are used.

    Returns:
        The content of the file, and the result of the comparison.

    Raises:
        UserError: The network can't be written as ONNX, or a logit of the file differs from the network's logit by more
            than the tolerance.
    """
    reason = ""
    # Use the cached graph of the architecture. For some networks, the graph depends on the weights. If the cached graph
    # does not fit the weights, export the trained network itself.
    for graph in (graph_of, lambda description: export_graph(network, description.input_shape)):
        try:
            content = fill(graph(description), network.state_dict(), metadata)
        except KeyError as error:
            reason = str(error)
            continue
        agreement = compare_logits(network, ServedModel(content), split)
        if agreement.holds:
            return content, agreement
        reason = f"logits differ by {agreement.difference:.3g}. Allowed: {agreement.tolerance:.3g}"
    raise UserError(f"the ONNX file does not give the logits of the trained network: {reason}")


@torch.no_grad()
def compare_logits(network: nn.Module, served: ServedModel, split: Split) -> Agreement:
    """Compare the logits of a served file with the logits of the network.

    Args:
        network: The trained network, in eval mode and on the CPU.
        served: The served file.
        split: The split whose examples are used. At most `EXAMPLES` evenly spaced examples are used.
    """
    count = min(len(split), EXAMPLES)
    images = split.batch(torch.linspace(0, len(split) - 1, count).round().long())
    logits = torch.cat([network(batch) for batch in images.split(served.batch)])
    return _agreement(logits, torch.from_numpy(served(images.numpy())))


def _agreement(logits: Tensor, served: Tensor) -> Agreement:
    return Agreement(
        examples=len(logits),
        agreement=(logits.argmax(dim=1) == served.argmax(dim=1)).double().mean().item(),
        difference=(logits - served).abs().max().item(),
        tolerance=TOLERANCE * max(1.0, logits.abs().max().item()),
    )
