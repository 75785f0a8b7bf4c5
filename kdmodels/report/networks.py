"""The networks that have a name, as docs/networks.md."""

from typing import Any

from kdmodels.architectures import ARCHITECTURES, BLOCKS, Architecture
from kdmodels.network import Network
from kdmodels.networks import build, parameters, within_budget

IMAGES: dict[str, Any] = {"input_shape": (3, 32, 32), "classes": 10}
MOMENTS: dict[str, Any] = {"mean": [0.5] * 3, "std": [0.5] * 3}
BUDGET = 60_000

INTRODUCTION = """\
# Networks

Made by `make docs` from `kdmodels/architectures.py`; a test keeps it so. Parameters are those for 10 classes of 32x32
images of 3 channels.

| `network:` | what it is |
|---|---|
| `{mlp: [128, 64], dropout: 0.2}` | hidden layers of these widths with ReLU, and dropout if it is asked for |
| `{conv: [16, 32, 64]}` | blocks of 3x3 convolution, batch norm, ReLU and, while the map has 4 rows, 2x2 pooling |
| `resnet20` | one of the catalogue below |
| `{compact: {block: depthwise, budget: 60000}}` | the largest network of one kind of block inside a budget |
| `{torchvision: resnet18, weights: DEFAULT}` | one of torchvision's classification models; `weights: null`: random |
| `{timm: resnet10t, weights: c3_in1k}` | one of timm's (`pip install 'kdflow[timm]'`); `weights`: its tag, or DEFAULT |
| `package.module:Class` | your own; with arguments: `{module: "package.module:Class", arguments: {width: 32}}` |

Every network takes float32 images (N, C, H, W) in [0, 1] and normalises them by the training split's mean and standard
deviation, or as `data.normalise` says: give there what a teacher's weights were trained with. Initial weights are
torch's defaults for its layers, or what the constructor of a network from elsewhere draws; either is a function of the
seed alone.

## Catalogue

They take images of 8x8 and larger, of any number of channels. A residual network's shortcut is a 1x1 convolution with
batch norm where shapes differ, as in Tian et al. 2020, whose numbers of parameters these have. A VGG has one linear
layer, and halves the map only while it has 8 rows.
"""

COMPACT = """
## Compact blocks

A stem of 3x3 convolution, then `depth` blocks in at most four stages, the mean over the map, and a linear layer. The
first blocks have `width` channels. Each further stage halves the map, down to 4x4, and doubles the channels, up to four
times the width. From 64x64 on the stem halves the map as well. Batch norm follows every convolution.

`budget` is a whole number of parameters, or `{parameters: 60000}`, `{flops: 5000000}` for one image (a multiply-add is
two), or `{latency_ms: 2}` (median of one image on this machine, in torch's eager mode). Of all widths up to 512 that
are multiples of 4, and
depths of one to three blocks a stage, the largest inside the budget is taken: that which comes nearest to it, of equals
the deepest; of a latency budget that of the most parameters. What was found is recorded, and part of the key. Latency
is measured anew by every run: to keep a network, write its `width` and `depth` into the file. With them and a `budget`,
a network over the budget is an error before anything trains.

"""

ELSEWHERE = """
## From elsewhere

- **Pretrained weights** are read from the caches of torch and timm on this disk and never downloaded; where the file is
  not there, the error says where it comes from and where it belongs. With another number of classes the last layer is
  drawn anew, which the plan says. A stored network needs the file no more.
- **Your own** class or function is found on Python's path or in the current folder, and called with `arguments`. Where
  its signature has parameters of these names it also gets `classes` or `num_classes`, `in_channels`, and `input_shape`,
  (C, H, W). It takes (N, C, H, W), already normalised, and gives (N, classes). The file it is written in is part of
  the key, and so is every module of your project that the file imports. Not part of it are modules imported by a
  computed name, data files that the code reads, and the versions of other libraries than torch that it imports.
- **A checkpoint** of a network from elsewhere has the names of its own state dict.
- torchvision's networks see one channel three times. What a training step draws from torch's global generator is a
  function of the seed and the step, and the generator is put back.

## Places

`first`, `middle` and `deepest` are hidden blocks: the children called `block`, `layer` or `stage` and a number; or else
the parts of a child called `features`, `blocks`, `layers` or `stages`; of the module nearest to the top that has any.
Where no names tell them, they end with the activations of the first `nn.Sequential` that has any.
In the catalogue a stage is one block, in a compact network each block is one. `last` is the input of the last linear
layer that the network lists. Any module's dotted name is a place too; those of networks from elsewhere begin with
`network.`.
"""


def document() -> str:
    """docs/networks.md, whole."""
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
    kinds = {"resnet": "residual blocks", "wide": "pre-activation residual blocks", "vgg": "3x3 convolutions"}
    widths = ", ".join(str(stage[-1]) for stage in row.stages)
    return f"{kinds[row.family]}, {len(row.stages[0])} a stage, of {widths} channels"


if __name__ == "__main__":
    print(document(), end="")
