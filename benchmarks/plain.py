"""Distil without kdflow, in a typical plain script: python -m benchmarks.plain [STUDENTS [VALIDATION]]

The script reads MNIST through a DataLoader. It trains one teacher, and then one student after the other. The teacher
runs on every batch of a student. The recipe is that of the variant `classic`: Adam with a learning rate of 1e-3,
batches of 64, 5 epochs, and the loss 0.5 cross entropy + 0.5 T² KL at T = 2. The script is neither slow on purpose nor
optimised.

The script prints the seconds and the accuracies of the teacher and of each student as JSON. VALIDATION is a JSON file
with the indices of the validation images. Without this file, the validation images are drawn at random.
"""

import json
import os
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, random_split
from torchvision import datasets, transforms

EPOCHS, BATCH, TEMPERATURE = 5, 64, 2.0


def mlp(*widths: int) -> nn.Sequential:
    """Return a fully connected ReLU network that takes images. `widths` holds the sizes of all its layers."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def distillation_loss(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of the cross entropy with the labels and the soft-target loss."""
    soft = F.kl_div(
        F.log_softmax(student / TEMPERATURE, dim=1), F.softmax(teacher / TEMPERATURE, dim=1), reduction="batchmean"
    )
    return 0.5 * F.cross_entropy(student, labels) + 0.5 * TEMPERATURE**2 * soft


def accuracy(network: nn.Module, loader: DataLoader[Any]) -> float:
    """Return the share of correctly classified images."""
    network.eval()
    with torch.no_grad():
        hits = sum((network(images).argmax(dim=1) == labels).sum().item() for images, labels in loader)
    return hits / len(loader.dataset)  # type: ignore[arg-type]  # torch's datasets need not have a length


def train(network: nn.Module, teacher: nn.Module | None, loader: DataLoader[Any], validation: DataLoader[Any]) -> float:
    """Train a network and validate it after every epoch. Return the last epoch's accuracy."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    last = 0.0
    for _ in range(EPOCHS):
        network.train()
        for images, labels in loader:
            optimizer.zero_grad()
            logits = network(images)
            if teacher is None:
                loss = F.cross_entropy(logits, labels)
            else:
                with torch.no_grad():
                    teacher_logits = teacher(images)
                loss = distillation_loss(logits, teacher_logits, labels)
            loss.backward()
            optimizer.step()
        last = accuracy(network, validation)
    return last


def main(students: int, validation_file: Path | None) -> None:
    """Train the teacher and the students, and print the seconds and the accuracies."""
    torch.manual_seed(0)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    whole = datasets.MNIST(os.environ["KD_DATA"], train=True, transform=transform)
    train_set, validation_set = random_split(whole, [54_000, 6_000])
    if validation_file:
        held_out = json.loads(validation_file.read_text())
        train_set, validation_set = Subset(whole, sorted({*range(len(whole))} - {*held_out})), Subset(whole, held_out)
    loader, validation = DataLoader(train_set, BATCH, shuffle=True), DataLoader(validation_set, 1000)
    began = time.perf_counter()
    teacher = mlp(784, 128, 64, 10)
    accuracies = [train(teacher, None, loader, validation)]
    seconds = [time.perf_counter() - began]
    teacher.eval()
    for _ in range(students):
        began = time.perf_counter()
        accuracies.append(train(mlp(784, 32, 10), teacher, loader, validation))
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"teacher": seconds[0], "students": seconds[1:], "accuracies": accuracies}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, Path(sys.argv[2]) if len(sys.argv) > 2 else None)
