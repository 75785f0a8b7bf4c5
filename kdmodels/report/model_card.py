"""The model card of a registered student, in Markdown: what the model is, how well it performs, and how to use it."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kdmodels.evaluation.candidate import Candidate
from kdmodels.evaluation.looks import Look
from kdmodels.evaluation.requirements import WORDS, Rule
from kdmodels.report import formats
from kdmodels.report.contents import DataFacts
from kdmodels.report.markdown import plain, table_lines

MOST_CLASSES = 20  # maximum number of class names that are listed
NO_LICENCE = "not stated; the licences of the data and of the teacher may restrict the use of the model"


@dataclass(frozen=True, eq=False)
class ModelCard:
    """The facts in a model card.

    Attributes:
        model: The name of the registered model.
        version: The number of the version.
        decision: The reason why the model was promoted.
        student: The student's results on the test images.
        look: The number of this comparison with a champion on the test split, and the number of comparisons that the
            experiment declares. `None` if there was no champion.
        requirements: The declared requirements, with the measured values.
        objective: The terms of the student's objective, in words.
        teacher: The teacher in words.
        data: The facts about the data.
        image: The shape of an image: channels, height, width.
        experiment: The name of the experiment.
        runs: The ids of the runs that made the model, by title.
        versions: The versions of the libraries, by name.
        licence: The licence of the model. `None` if the experiment file states none.
    """

    model: str
    version: int
    decision: str
    student: Candidate
    look: Look | None
    requirements: Sequence[Rule]
    objective: Sequence[str]
    teacher: str
    data: DataFacts
    image: tuple[int, int, int]
    experiment: str
    runs: Mapping[str, str]
    versions: Mapping[str, str]
    licence: str | None = None


def model_card(card: ModelCard) -> str:
    """Return the model card as GitHub's Markdown. All texts are escaped."""
    blocks = [
        f"**{plain(card.decision)}**",
        "## Intended use",
        plain(_use(card)),
        "## Results on test images",
        facts_table(_results(card)),
        *_requirements(card.requirements),
        "## Training",
        facts_table(_training(card)),
        "## Limits",
        "\n".join(f"- {plain(limit)}" for limit in _limits(card)),
        f"Licence: {plain(card.licence or NO_LICENCE)}.",
        "## Load",
        code_block("python", _loading(card)),
        "## Reproduce",
        code_block("sh", _reproducing(card)),
    ]
    return "\n\n".join(blocks) + "\n"


def _use(card: ModelCard) -> str:
    classes = card.student.classes
    more = f" and {len(classes) - MOST_CLASSES} more" if len(classes) > MOST_CLASSES else ""
    channels, height, width = card.image
    return (
        f"Classify images like those of {card.data.source} into {len(classes)} classes: "
        f"{', '.join(classes[:MOST_CLASSES])}{more}. The input is float32 of shape (N, {channels}, {height}, {width}) "
        "in [0, 1]; normalisation is inside the model. The output is one logit for each class."
    )


def _results(card: ModelCard) -> dict[str, str]:
    student = card.student
    weakest, accuracy, _ = student.weakest_class()
    ece = student.calibration_error
    return {
        "accuracy": f"{formats.percent(student.accuracy)} on {student.correct.size:,} images",
        "95 % interval (Wilson)": f"{formats.interval(*student.accuracy_interval)} %",
        "weakest class": f"{weakest}, {formats.percent(accuracy)}",
        "calibration error": "" if ece is None else f"{ece:.3f}",
        "look": f"{card.look.number} of {card.look.of} at this test split" if card.look else "none: no champion before",
        "parameters": f"{student.parameters:,}",
        "size of the weights' file": f"{formats.amount(student.file_mb)} MB",
        "time of one image (median, CPU)": f"{formats.amount(student.latency_ms)} ms",
    }


def _requirements(rules: Sequence[Rule]) -> list[str]:
    if not rules:
        return ["No requirements are declared."]
    rows = [
        [
            f"{WORDS.get(rule.name, rule.name)} {rule.about}".strip(),
            f"{rule.value:,}" if isinstance(rule.value, int) else f"{rule.value:.4g}",
            rule.bound,
            "yes" if rule.holds else "no",
        ]
        for rule in rules
    ]
    titles = ["requirement", "measured", "required", "met"]
    return ["## Requirements", "\n".join(table_lines(titles, rows, most_rows=len(rows)))]


def _training(card: ModelCard) -> dict[str, str]:
    data = card.data
    return {
        "objective": " + ".join(card.objective),
        "teacher": card.teacher,
        "data": data.source,
        "images": ", ".join(f"{count:,} {split}" for split, count in data.examples.items()),
        **data.digests,
        **card.runs,
        **card.versions,
    }


def _limits(card: ModelCard) -> list[str]:
    return [
        "The results hold for images that are drawn as the test images were. Other images were not tested.",
        "The logits of an image of an unknown class say nothing about that.",
        *card.data.notes,
    ]


def _loading(card: ModelCard) -> str:
    uri = f"models:/{card.model}/{card.version}"
    return f'import mlflow\n\nmodel = mlflow.pyfunc.load_model({uri!r})\nlogits = model.predict(images)["logits"]'


def _reproducing(card: ModelCard) -> str:
    file = shlex.quote(f"{card.experiment}.yaml")
    return f"kd show {shlex.quote(f'{card.model}/{card.version}')} --spec > {file}\nkd run {file}"


def facts_table(facts: Mapping[str, str]) -> str:
    """Return facts as a table in Markdown. Empty facts are left out."""
    rows = [[fact, value] for fact, value in facts.items() if value]
    return "\n".join(table_lines(["fact", "value"], rows, most_rows=len(rows)))


def code_block(language: str, text: str) -> str:
    """Return a block of code in Markdown."""
    return f"```{language}\n{text}\n```"
