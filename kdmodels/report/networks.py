"""The text of the page docs/networks.md, which lists the networks that an experiment file can name."""

from typing import Any

from kdmodels.experiment.architectures import ARCHITECTURES, BLOCKS, Architecture
from kdmodels.experiment.network import Network
from kdmodels.networks import build, parameters, within_budget

IMAGES: dict[str, Any] = {"input_shape": (3, 32, 32), "classes": 10}
MOMENTS: dict[str, Any] = {"mean": [0.5] * 3, "std": [0.5] * 3}
BUDGET = 60_000
KINDS = {
    "resnet": "residual blocks",
    "bottleneck": "bottleneck residual blocks",
    "wide": "pre-activation residual blocks",
    "vgg": "3x3 convolutions",
    "mobilenetv2": "inverted residual blocks",
    "shufflenetv1": "blocks with grouped 1x1 convolutions and a channel shuffle",
    "shufflenetv2": "blocks with a channel split and a channel shuffle",
}

INTRODUCTION = """\
# Networks

Made by `make docs` from `kdmodels/experiment/architectures.py`; a test keeps it so.
Parameters are those for 10 classes of 32x32 images of 3 channels.

| `network:` | what it is |
|---|---|
| `{mlp: [128, 64], dropout: 0.2}` | hidden layers of these widths with ReLU, and optional dropout |
| `{conv: [16, 32, 64]}` | blocks of 3x3 convolution, batch norm, ReLU and, while the map has 4 rows, 2x2 pooling |
| `resnet20` | a network of the catalogue below |
| `{compact: {block: depthwise, budget: 60000}}` | the largest network of one kind of block inside a budget |
| `{torchvision: resnet18, weights: DEFAULT}` | a classification model of torchvision; `weights: null`: random weights |
| `{timm: resnet10t, weights: c3_in1k}` | a model of timm (`pip install 'kdflow[timm]'`); `weights`: a tag, or DEFAULT |
| `package.module:Class` | your own class; with arguments: `{module: "package.module:Class", arguments: {width: 32}}` |

Every network takes float32 images (N, C, H, W) in [0, 1] and normalises them by the training split's mean and standard
deviation, or by `data.normalise`. For a teacher, set `teacher.normalise` to the normalisation that its weights were
trained with, and `teacher.size` to the size of the images. Initial weights are torch's defaults, or are drawn by the
constructor of an external network. Both depend on the seed alone.

## Catalogue

These networks take images of 8x8 and larger, with any number of channels. If shapes differ, a residual network's
shortcut is a 1x1 convolution with batch norm, as in Tian et al. 2020; the numbers of parameters are the same. A VGG has
one linear layer, and halves the map only while the map has at least 8 rows. `resnet50` has a 3x3 stem without pooling.
`mobilenetv2` has half the published width, ReLU instead of ReLU6, and a stem of stride 2. Both ShuffleNets have a 1x1
stem of stride 1. Each network of the catalogue has as many parameters as the same network in the code of Tian et al.
2020 and, with the same weights, returns the same outputs. A test checks both. A teacher's `checkpoint` may be a file
[that this code or mdistiller wrote](own-data.md#checkpoints-of-other-tools).
"""

COMPACT = """
## Compact blocks

A stem of 3x3 convolution, then `depth` blocks in at most four stages, the mean over the map, and a linear layer. The
first blocks have `width` channels. Each further stage halves the map, down to 4x4, and doubles the channels, up to four
times the width. From 64x64 on the stem halves the map as well. Batch norm follows every convolution.

`budget` is a whole number of parameters, or `{parameters: 60000}`, `{flops: 5000000}` for one image (a multiply-add is
two), or `{latency_ms: 2}` (median of one image on this machine, in torch's eager mode). Candidates have widths up to
512 that are multiples of 4, and one to three blocks per stage. The candidate nearest to the budget is taken; if several
are equally near, the deepest. For a latency budget, the candidate with the most parameters is taken. Width and depth
are recorded and are part of the key. Every run measures latency again: to keep a network, write its `width` and `depth`
into the file. If the file has them and a `budget`, a network over the budget is an error before anything trains.

"""

ELSEWHERE = """
## External networks

- **Pretrained weights** are read from the caches of torch and timm on this disk and never downloaded. If the file is
  missing, the error says where to download it and where to put it. With another number of classes the last layer is
  initialised again, and the plan says so. A stored network no longer needs the file.
- **Your own** class or function is found on Python's path or in the current folder, and called with `arguments`. If its
  signature has parameters of these names, it also gets `classes` or `num_classes`, `in_channels`, and `input_shape`,
  (C, H, W). The network takes normalised images (N, C, H, W) and returns (N, classes). Its file is part of the key, and
  so is every module of your project that the file imports. Not part of the key: modules imported by a computed name,
  data files that the code reads, and the versions of imported libraries other than torch.
- **A checkpoint** of an external network has the names of the network's own state dict, also
  [with a prefix](own-data.md#checkpoints-of-other-tools).
- torchvision's networks get a single channel three times. Random numbers that a training step draws from torch's global
  generator depend on the seed and the step alone. The generator's state is restored afterwards.

## Places

`first`, `middle` and `deepest` are hidden blocks: the children named `block`, `layer` or `stage` and a number, or else
the parts of a child named `features`, `blocks`, `layers` or `stages`, of the topmost module that has such children. If
no names match, blocks end with the activations of the first `nn.Sequential` that has activations.
In the catalogue, a stage is one block. In a compact network, each block is one. `last` is the input of the last linear
layer that the network lists. Any module's dotted name is a place too; names in external networks begin with `network.`.
"""


def document() -> str:
    """Return the text of the page docs/networks.md."""
    lines = [INTRODUCTION, "| name | what it is | paper | parameters |", "|---|---|---|---|"]
    for name, row in ARCHITECTURES.items():
        lines.append(f"| `{name}` | {_about(row)} | {row.paper} | {_count(Network(name=name)):,} |")
    lines += [COMPACT + f"| block | what it is | paper | largest inside {BUDGET:,} parameters |", "|---|---|---|---|"]
    for block, words in BLOCKS.items():
        network = within_budget(Network.model_validate({"compact": {"block": block, "budget": BUDGET}}), **IMAGES)
        assert network.compact is not None
        size = f"width {network.compact.width}, depth {network.compact.depth}: {_count(network):,}"
        lines.append(f"| `{block}` | {words.about} | {words.paper} | {size} |")
    return "\n".join(lines) + "\n" + ELSEWHERE


def _count(network: Network) -> int:
    return parameters(build(network, **IMAGES, **MOMENTS))


def _about(row: Architecture) -> str:
    numbers = [str(len(stage)) for stage in row.stages]
    number = numbers[0] if len(set(numbers)) == 1 else f"{', '.join(numbers[:-1])} and {numbers[-1]}"
    widths = ", ".join(str(stage[-1]) for stage in row.stages)
    return f"{KINDS[row.family]}, {number} a stage, of {widths} channels"


if __name__ == "__main__":
    print(document(), end="")
