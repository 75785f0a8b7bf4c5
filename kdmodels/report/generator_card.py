"""The model card of a registered generator, in Markdown: what the model is, how well it performs, and how to use it."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from kdmodels.report.contents import DataFacts
from kdmodels.report.markdown import plain
from kdmodels.report.model_card import NO_LICENCE, code_block, facts_table


@dataclass(frozen=True)
class GeneratorCard:
    """The facts in a model card.

    Attributes:
        model: The name of the registered model.
        version: The number of the version.
        decision: The reason why the model was promoted.
        kind: The kind of the generator in words, e.g. "variational autoencoder".
        latent: The number of values of a latent code.
        conditional: Whether the class of the generated image is an input of the generator.
        image: The shape of an image: channels, height, width.
        results: The results on test images, by the name of the metric.
        data: The facts about the data.
        facts: Other facts about the training, by title, e.g. the ids of runs and the versions of libraries.
    """

    model: str
    version: int
    decision: str
    kind: str
    latent: int
    conditional: bool
    image: tuple[int, int, int]
    results: Mapping[str, str]
    data: DataFacts
    facts: Mapping[str, str]


def generator_card(card: GeneratorCard) -> str:
    """Return the model card as GitHub's Markdown. All texts are escaped."""
    data = card.data
    training = {
        "data": data.source,
        "images": ", ".join(f"{count:,} {split}" for split, count in data.examples.items()),
        **data.digests,
        **card.facts,
    }
    blocks = [
        f"**{plain(card.decision)}**",
        "## Intended use",
        plain(_use(card)),
        "## Results on test images",
        facts_table(card.results),
        "## Training",
        facts_table(training),
        "## Limits",
        "- The Fréchet distance depends on the judge. Compare it only for the same judge and the same images.\n"
        "- Images may resemble images of the training data.",
        f"Licence: {NO_LICENCE}.",
        "## Load",
        code_block("python", _loading(card)),
        "## Reproduce",
        code_block("sh", _reproducing(card)),
    ]
    return "\n\n".join(blocks) + "\n"


def _use(card: GeneratorCard) -> str:
    channels, height, width = card.image
    classes = f", and the class of each image as one-hot float32 (N, {len(card.data.classes)})"
    return (
        f"Make images like those of {card.data.source} with a {card.kind}. The input is codes from the standard normal "
        f"distribution, float32 of shape (N, {card.latent}){classes if card.conditional else ''}. The output is "
        f"float32 images of shape (N, {channels}, {height}, {width}) in [0, 1]."
    )


def _loading(card: GeneratorCard) -> str:
    uri = f"models:/{card.model}/{card.version}"
    codes = f"codes = np.random.default_rng(0).standard_normal((64, {card.latent}), dtype=np.float32)"
    inputs = "codes"
    if card.conditional:
        codes += f"\nclasses = np.eye({len(card.data.classes)}, dtype=np.float32)[[3] * 64]"
        inputs = '{"codes": codes, "class": classes}'
    load = f'model = mlflow.pyfunc.load_model({uri!r})\nimages = model.predict({inputs})["images"]'
    return f"import mlflow\nimport numpy as np\n\n{codes}\n{load}"


def _reproducing(card: GeneratorCard) -> str:
    model, file = shlex.quote(f"{card.model}/{card.version}"), shlex.quote(f"{card.model}.yaml")
    return f"kd sample {model} -n 64 -o grid.png\nkd show {model} --spec > {file}\nkd run {file}"
