"""Functions that store the pictures, the quality metrics and the model of a generator with its run."""

from io import BytesIO

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from kdmodels.data import Split
from kdmodels.generators.build import GeneratorDescription, load_generator
from kdmodels.generators.gan import ImageGenerator
from kdmodels.generators.grid import grid_png
from kdmodels.generators.layers import random_codes
from kdmodels.generators.quality import Moments, class_quality, collapse, frechet_distance, precision_and_recall
from kdmodels.generators.samples import BATCH, balanced_labels, interpolate, reconstruct, sample
from kdmodels.generators.served import served_file
from kdmodels.generators.vae import Vae, elbo_parts, importance_weighted_bound
from kdmodels.knowledge import distil_knowledge
from kdmodels.randomness import generator_for
from kdmodels.serving.tensor_sizes import CLASS, CODES
from tasks import tracking
from tasks.prepare_data import load
from tasks.references import DataReference
from tasks.tracking.models import log_model

NETWORK = "generator"  # artifact folder of the stored generator
PICTURES = "pictures"  # artifact folder
COLUMNS = 10
ROWS = 6
PAIRS = 6
MEASURED = 10_000  # number of generated images that are measured, and maximum number of real images
NEIGHBOURHOOD = 3_000  # maximum number of images of each kind for precision and recall, which compare all pairs
BOUND_IMAGES, BOUND_SAMPLES = 1_000, 50
SEED = 0  # seed of the latent codes; all generators are measured and shown with the same codes


def log_pictures(run_id: str, network: nn.Module, data: DataReference, epoch: int | None = None) -> None:
    """Store pictures of a generator as artifacts of its run.

    Args:
        epoch: The current epoch of the training. If an epoch is given, only samples are stored. `None` means that the
            training has ended. Then interpolations are stored too, and for a VAE also reconstructions and a map of the
            latent codes.
    """
    assert isinstance(network, Vae | ImageGenerator)
    pictures = {f"samples-{f'epoch-{epoch:04}' if epoch else 'last'}.png": _samples(network, data)}
    if epoch is None:
        pictures["interpolations.png"] = _interpolations(network, data)
        if isinstance(network, Vae):
            validation = load(data).validation
            pictures["reconstructions.png"] = _reconstructions(network, validation)
            pictures["codes.png"] = _png(code_map(network, validation, data.classes))
    tracking.log_files(run_id, PICTURES, pictures)


def _png(figure: Figure) -> bytes:
    content = BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()


def _samples(network: Vae | ImageGenerator, data: DataReference) -> bytes:
    """Return a grid of samples. If a conditional generator has at most 10 classes, each column shows one class."""
    columns = len(data.classes) if network.classes and len(data.classes) <= COLUMNS else COLUMNS
    labels = balanced_labels(ROWS * columns, len(data.classes))
    return grid_png(sample(network, labels, generator_for(SEED, "pictures")).numpy(), columns)


def _interpolations(network: Vae | ImageGenerator, data: DataReference) -> bytes:
    ends = random_codes(2 * PAIRS, network.latent, generator_for(SEED, "interpolations")).unflatten(0, (PAIRS, 2))
    images = interpolate(network, ends, balanced_labels(PAIRS, len(data.classes)), COLUMNS)
    return grid_png(images.numpy(), COLUMNS)


def _reconstructions(vae: Vae, split: Split) -> bytes:
    """Return a grid of held-out images. Below each row of images is the row of their reconstructions."""
    rows = torch.arange(min(3 * COLUMNS, len(split)))
    images = split.batch(rows)
    made = reconstruct(vae, images, split.labels[rows])
    pairs = zip(images.split(COLUMNS), made.split(COLUMNS), strict=True)
    return grid_png(torch.cat([row for pair in pairs for row in pair]).numpy(), COLUMNS)


@torch.no_grad()
def code_map(vae: Vae, split: Split, classes: list[str]) -> Figure:
    """Return a plot of the first two principal components of the images' latent codes, coloured by class."""
    rows = torch.arange(min(NEIGHBOURHOOD, len(split)))
    codes = vae.encode(split.batch(rows), split.labels[rows]).mean
    centred = codes - codes.mean(dim=0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    points = (centred @ directions[:2].T).numpy()  # (N, 2), or (N, 1) for codes of one number
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    for label, name in enumerate(classes):
        chosen = points[split.labels[rows].numpy() == label]
        axes.scatter(chosen[:, 0], chosen[:, -1], s=4, label=name)
    axes.set_xlabel("first principal component of the codes")
    axes.set_ylabel("second principal component")
    if len(classes) <= 20:
        axes.legend(markerscale=3, fontsize=8)
    return figure


def measure(run_id: str, network: Vae | ImageGenerator, data: DataReference, judge: nn.Module) -> str | None:
    """Compare generated images with validation images, and log the metrics `quality/...`.

    Args:
        judge: The classifier whose logits and embeddings of the images are compared.

    Returns:
        A sentence that describes mode collapse. `None` if the generator has not collapsed.
    """
    validation = load(data).validation
    labels = balanced_labels(MEASURED, len(data.classes))
    images = sample(network, labels, generator_for(SEED, "measured"))
    of_generated, of_real = (judged(judge, split) for split in (Split(images, labels), validation))
    quality = class_quality(of_generated[0], labels if network.classes else None)
    count = min(NEIGHBOURHOOD, len(of_real[1]))  # equal sizes, because larger sets have closer neighbours
    precision, recall = precision_and_recall(of_real[1][:count], of_generated[1][:count])
    metrics = {
        "frechet_distance": frechet_distance(Moments.of(of_generated[1]), Moments.of(of_real[1])),
        "precision": precision,
        "recall": recall,
        "entropy": quality.entropy,
        "class_balance": quality.balance,
        **({} if quality.accuracy is None else {"accuracy": quality.accuracy}),
        **({"log_likelihood_bound": log_likelihood_bound(network, validation)} if isinstance(network, Vae) else {}),
    }
    tracking.log_metrics(run_id, [(f"quality/{name}", value, 0) for name, value in metrics.items()])
    shares = dict(zip(data.classes, quality.shares, strict=True))
    tracking.log_json(run_id, "class_shares.json", shares)
    return collapse(quality.shares, recall, conditional=bool(network.classes))


def judged(judge: nn.Module, split: Split) -> tuple[Tensor, Tensor]:
    """Return the judge's logits, (N, K), and its embedding, (N, D), for at most `MEASURED` images of a split."""
    outputs = distil_knowledge(judge.eval(), split.take(torch.arange(min(MEASURED, len(split)))), ["last"])
    return outputs.logits.float(), outputs.features["last"].float().flatten(1)


@torch.no_grad()
def elbos(vae: Vae, split: Split) -> Tensor:
    """Return the evidence lower bound of each image of a split, (N,), in nats, estimated with one code per image."""
    noise = generator_for(SEED, "elbo")
    return torch.cat(
        [
            elbo_parts(vae, split.batch(rows), random_codes(len(rows), vae.latent, noise), split.labels[rows]).elbo
            for rows in torch.arange(len(split)).split(BATCH)
        ]
    )


@torch.no_grad()
def log_likelihood_bound(vae: Vae, split: Split) -> float:
    """Return the mean importance-weighted bound of the log-likelihood of held-out images, in nats."""
    rows = torch.arange(min(BOUND_IMAGES, len(split)))
    bounds = importance_weighted_bound(
        vae,
        split.batch(rows),
        generator_for(SEED, "bound"),
        samples=BOUND_SAMPLES,
        labels=split.labels[rows],
    )
    return bounds.mean().item()


def record_model(run_id: str, description: GeneratorDescription, network: Vae | ImageGenerator) -> None:
    """Store a trained generator as the run's ONNX model.

    Args:
        network: The generator in eval mode, on the CPU.

    Raises:
        UserError: The images of the ONNX file differ from those of the network.
    """
    examples = {CODES: np.zeros((2, network.latent), np.float32)}
    if network.classes:
        examples[CLASS] = np.eye(network.classes, dtype=np.float32)[[0, 0]]
    example = examples if network.classes else examples[CODES]
    log_model(run_id, served_file(description, network, run_id), example, kind="generator")


def stored_generator(run_id: str) -> tuple[Vae | ImageGenerator, GeneratorDescription]:
    """Return the generator of a finished run, in eval mode, and its description."""
    return load_generator(tracking.artifact(run_id, NETWORK))
