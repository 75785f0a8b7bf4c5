"""Memory use of training, measured in a separate process, because this process may have used more before."""

import subprocess
import sys

import pytest

SHORT_THEN_LONG = """
from pathlib import Path

import torch

from kdmodels.data import Split
from kdmodels.experiment import Network, Recipe
from kdmodels.networks import build
from kdmodels.experiment.terms import Term
from kdmodels.training import fit

CLASSES, BATCH = 100, 256
torch.set_num_threads(1)


def split(examples):
    labels = torch.arange(examples) % CLASSES
    return Split(torch.zeros(examples, 1, 2, 2, dtype=torch.uint8), labels, top=255)


def peak(train):
    network = build(Network(mlp=[8]), input_shape=(1, 2, 2), classes=CLASSES, mean=[0.5], std=[0.3])
    fit(network, [Term(loss="hard_labels")], Recipe(batch=BATCH, epochs=1), train, few, seeds=[0])
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0])  # getrusage tells the peak of the process that began this one too


few, many = split(10 * BATCH), split(1_000 * BATCH)
peak(few)
print(peak(few), peak(many))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_a_long_epoch_takes_no_more_memory_than_a_short_epoch() -> None:
    """Small tensors of metrics fragmented the memory, which grew by 30 KB per step."""
    done = subprocess.run([sys.executable, "-c", SHORT_THEN_LONG], capture_output=True, text=True, check=True)
    short, long = (kilobytes / 1024 for kilobytes in map(int, done.stdout.split()))
    assert long < short + 16  # of which the order of the examples is 4
