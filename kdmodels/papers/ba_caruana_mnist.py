"""Ba and Caruana on MNIST: shallow networks with as many parameters as a deep network."""

from collections.abc import Sequence

from kdmodels.papers.claims import Claim, Measurements, Table
from kdmodels.papers.reproduction import TEACHER, PaperExperiment, Reproduction, Results, minus

EXPERIMENT = "ba-caruana-mnist"
PAPER = "Ba and Caruana 2014"
ROWS = {
    "deep, on labels": TEACHER,
    "shallow, on labels": "hard-labels",
    "shallow, on logits": "logits",
    "shallow, on labels and soft targets": "soft-targets",
    "shallow and factored, on logits": "factored-logits",
}
ERRORS = "errors"
NOISE = 20.0
"""Number of test errors by which two equally good networks can differ by chance.

This is twice the standard error, which is about 10 errors for networks with 1.5 % errors on 10,000 test images.
"""


def measure(results: Results) -> Measurements:
    """Measure how the networks differ in test errors, and how much faster the factored network is trained."""
    runs = {row: predictions for row, name in ROWS.items() if (predictions := results.of(EXPERIMENT, name))}
    errors = {row: predictions.errors for row, predictions in runs.items()}
    values: dict[str, Sequence[float]] = {}
    if len(errors) == len(ROWS):
        deep, labels, logits, soft, factored = errors.values()
        values = {
            "labels": minus(labels, deep),
            "logits": minus(logits, deep),
            "gain": minus(labels, logits),
            "soft": minus(labels, soft),
            "factored": minus(factored, logits),
        }
        times = [results.seconds(EXPERIMENT, name) for name in ("logits", "factored-logits")]
        values["speed"] = [plain / faster for plain, faster in zip(*times, strict=True)]
    return Measurements(values=values, tables=[Table(title="Test errors", unit=ERRORS, rows=errors)])


REPRODUCTION = Reproduction(
    name=EXPERIMENT,
    title="Shallow networks that learn the logits of a deep network",
    papers=("Ba and Caruana, Do deep nets really need to be deep?, 2014",),
    cost="about 40 minutes (estimated)",
    seeds=5,
    claims=(
        Claim(
            name="labels", text="Errors of the shallow network on labels, less errors of the deep network",
            published="the shallow network is less accurate", source=PAPER, low=0, unit=ERRORS,
        ),
        Claim(
            name="logits", text="Errors of the shallow network on logits, less errors of the deep network",
            published="as accurate as the deep network", source=PAPER, high=NOISE, unit=ERRORS,
        ),
        Claim(
            name="gain", text="Errors of the shallow network on labels, less errors on logits",
            published="logits are better", source=PAPER, low=0, unit=ERRORS,
        ),
        Claim(
            name="factored", text="Errors on logits with a factored first layer, less errors without",
            published="as accurate", source=f"{PAPER}, section 2.3", high=NOISE, unit=ERRORS,
        ),
        Claim(
            name="speed", text="Seconds of training without a factored first layer, divided by seconds with it",
            published="faster", source=f"{PAPER}, section 2.3", low=1,
        ),
        Claim(
            name="soft", text="Errors of the shallow network on labels, less errors on labels and soft targets",
            published="not in the paper: the loss of Hinton et al. 2015", source="Hinton et al. 2015", low=0,
            unit=ERRORS,
        ),
    ),
    measure=measure,
    experiments=(
        PaperExperiment(
            EXPERIMENT,
            (
                "data.subset=1500", "teacher.network.mlp=[32, 32]", "teacher.epochs=2",
                "student.network.arguments.hidden=48", "student.epochs=2", "runner.kind=thread",
            ),
        ),
    ),
    differences=(
        "The paper uses TIMIT and CIFAR-10, with convolutional and deeper networks. MNIST leaves little room: an MLP "
        "with one hidden layer is nearly as good as a deep one.",
        "The deep network is one network and no ensemble.",
        "Other processes on the machine change the seconds of training.",
    ),
)  # fmt: skip
