"""Names of the weights in checkpoints of RepDistiller and mdistiller, whose networks are those of the catalogue.

Both repositories give the tensors of a network other names than kdflow, but list them in the same order.
"""

from torch import Tensor

from kdmodels.experiment.architectures import ARCHITECTURES

PARTS = {
    "resnet": ["conv1", "bn1", "layer1", "layer2", "layer3", "fc"],
    "bottleneck": ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "linear"],
    "wide": ["conv1", "block1", "block2", "block3", "bn1", "fc"],
    "vgg": ["block0", "block1", "block2", "block3", "block4", "classifier"],
    "mobilenetv2": ["conv1", "blocks", "conv2", "classifier"],
    "shufflenetv1": ["conv1", "bn1", "layer1", "layer2", "layer3", "linear"],
    "shufflenetv2": ["conv1", "bn1", "layer1", "layer2", "layer3", "conv2", "bn2", "linear"],
}
"""First parts of the names in both repositories, in order, for each family of networks."""


def with_names_of_catalogue(network: str, names: list[str], state: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Return a state of RepDistiller or mdistiller under the names that kdflow gives its tensors.

    The shapes of the tensors are not compared.

    Args:
        network: Name of the network in the catalogue.
        names: Names of the network's tensors in kdflow, in the order of its state dict, without the normalisation.
        state: Tensors of the file, by name.

    Returns:
        The tensors by their new names. None if the names of the state are not those of the repositories, or if the
        number or the kinds of the tensors (such as weight, bias, running_mean) differ from those of the network.
    """
    parts = list(dict.fromkeys(name.partition(".")[0] for name in state))
    if parts != PARTS[ARCHITECTURES[network].family] or _kinds(names) != _kinds(state):
        return None
    return dict(zip(names, state.values(), strict=True))


def _kinds(names: list[str] | dict[str, Tensor]) -> list[str]:
    return [name.rpartition(".")[2] for name in names]
