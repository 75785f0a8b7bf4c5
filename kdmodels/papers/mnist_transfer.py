"""Six transfer sets on MNIST: training images, unlabelled images, images of three generators, and noise."""

from collections.abc import Sequence

from kdmodels.papers.claims import Claim, Measurements, Table, chance
from kdmodels.papers.reproduction import TEACHER, PaperExperiment, Reproduction, Results, minus

NAME = "mnist-transfer"
TABLE = "Chen et al. 2019, MNIST table, 784-1200-1200-10 to 784-800-800-10"
ROWS = {
    "teacher": (NAME, TEACHER),
    "labels alone": (NAME, "hard-labels"),
    "real": (NAME, "distilled"),
    **{kind: (f"{NAME}-{kind}", "distilled") for kind in ("unlabelled", "vae", "gan", "data-free", "noise")},
}
"""The experiment and the variant of each row of the table of accuracies."""


def measure(results: Results) -> Measurements:
    """Measure the test accuracy of the teacher, of the control, and of the students of all transfer sets."""
    found = {row: results.of(*place) for row, place in ROWS.items()}
    accuracy: dict[str, list[float]] = {row: each.accuracy for row, each in found.items() if each}
    values: dict[str, Sequence[float]] = dict(accuracy)
    if {"real", "data-free", "noise"} <= accuracy.keys():
        values["over noise"] = minus(accuracy["data-free"], accuracy["noise"])
        values["below real"] = minus(accuracy["real"], accuracy["data-free"])
    return Measurements(values=values, tables=[Table(title="Test accuracy", unit="%", rows=accuracy)])


def _accuracy(name: str, text: str, published: float) -> Claim:
    """Return a claim about an accuracy. Its range allows for chance in the published number of errors."""
    margin = chance(round(10_000 * (1 - published / 100))) / 100
    return Claim(
        name=name, text=f"Accuracy of {text}", published=f"{published} %", source=TABLE,
        low=published - margin, high=published + margin, unit="%",
    )  # fmt: skip


SMALL = ("data.subset=600", "teacher.network.mlp=[32]", "teacher.epochs=2")
QUICK = (*SMALL, "student.network.mlp=[16]", "student.epochs=2", "runner.kind=thread")
MADE = "data.transfer.count=300"
GENERATOR = ("data.subset=600", "judge.network.mlp=[32]", "judge.epochs=2", "generator.epochs=1", "generator.batch=64")


def _made(kind: str, *quick: str) -> PaperExperiment:
    """Return the experiment whose students learn from images of a generator of this kind."""
    generator = PaperExperiment(f"{NAME}-generator-{kind}", (*GENERATOR, *quick))
    return PaperExperiment(f"{NAME}-{kind}", (*QUICK, MADE), generator)


REPRODUCTION = Reproduction(
    name=NAME,
    title="Transfer sets on MNIST: real, unlabelled, generated, data-free and noise",
    papers=("Chen et al., Data-free learning of student networks, 2019",),
    cost="about 2 hours (estimated)",
    seeds=5,
    claims=(
        _accuracy("teacher", "the teacher", 98.39),
        _accuracy("labels alone", "the student on labels alone", 98.11),
        _accuracy("real", "the student distilled on the training images", 98.39),
        _accuracy("data-free", "the student distilled on images of a data-free generator", 97.91),
        _accuracy("noise", "the student distilled on noise", 87.58),
        Claim(
            name="over noise", text="Accuracy on images of a data-free generator, less that on noise",
            published="10.33 points", source=TABLE, low=5.17, unit="points",
        ),
        Claim(
            name="below real", text="Accuracy on the training images, less that on images of a data-free generator",
            published="0.48 points", source=TABLE, high=0.96, unit="points",
        ),
    ),
    measure=measure,
    experiments=(
        PaperExperiment(NAME, QUICK),
        PaperExperiment(f"{NAME}-unlabelled", (*QUICK, "data.labelled=100")),
        _made("vae", "generator.vae.hidden=[32]", "generator.vae.latent=4"),
        _made("gan", "generator.gan.hidden=[32]", "generator.gan.discriminator=[32]", "generator.gan.latent=8"),
        _made("data-free", "generator.data_free.steps=4", "generator.data_free.channels=4"),
        PaperExperiment(f"{NAME}-noise", (*QUICK, MADE)),
    ),
    own_teachers=False,
    differences=(
        "The paper trains generator and student together, and the student sees new images in every step. Here, the "
        "generator is trained first, for 1,000 steps, and the student learns from 57,000 images of it.",
        "The generator has 32 channels, and that of the authors' code 128. Its pixels are in [0, 1].",
        "The paper does not train on unlabelled images, and not on images of a VAE or a GAN. The GAN has 10 epochs.",
        "The noise is uniform in each pixel, and that of the paper has a normal distribution.",
        "The teacher has 5 epochs and each student 4. 3,000 of the 60,000 training images are held out for validation.",
        "All students have the same teacher and the same generators, so the intervals leave out how these differ. The "
        "accuracy of the one teacher decides nothing.",
        "A published number of errors counts as reproduced within two standard errors of the number itself.",
    ),
)  # fmt: skip
