"""The model card: its facts, its optional parts, and hostile names."""

from dataclasses import replace

import numpy as np

from kdmodels.evaluation.candidate import Candidate
from kdmodels.evaluation.looks import Look
from kdmodels.evaluation.requirements import Rule
from kdmodels.report.contents import DataFacts
from kdmodels.report.model_card import ModelCard, model_card

LABELS = np.array(["ant"] * 50 + ["bee"] * 50)
STUDENT = Candidate(
    name="kd",
    correct=np.array([True] * 90 + [False] * 10),
    labels=LABELS,
    classes=("ant", "bee"),
    parameters=1_210,
    file_bytes=5_300,
    latency_ms=0.01234,
    confidences=np.full(100, 0.9),
)
CARD = ModelCard(
    model="photos-student",
    version=3,
    decision="kd replaces the champion, version 2: it is better.",
    student=STUDENT,
    look=Look(4, 365),
    requirements=[Rule("accuracy", 0.8256, ">= 0.8", holds=True), Rule("class_accuracy", 0.66, ">= 0.6", True, "bee")],
    objective=["0.1 hard_labels", "auto soft_targets, temperature 4"],
    teacher="run 0123, 97.00 % on validation images",
    data=DataFacts("photos", {"digest of the data": "feed"}, {"train": 1_000, "test": 100}, ["ant", "bee"], []),
    image=(3, 32, 32),
    experiment="my photos",
    runs={"run of the student": "4567"},
    versions={"torch": "2.15.0"},
)


def test_a_card_has_every_fact_that_a_user_needs() -> None:
    text = model_card(CARD)
    assert text.startswith(
        "**kd replaces the champion, version 2: it is better.**\n\n## Intended use\n\nClassify images"
    )
    assert "into 2 classes: ant, bee. The input is float32 of shape (N, 3, 32, 32) in \\[0, 1\\];" in text
    for line in [
        "| accuracy | 90.00 % on 100 images |",
        "| 95 % interval (Wilson) | 82.56 to 94.48 % |",
        "| weakest class | bee, 80.00 % |",
        "| calibration error | 0.000 |",
        "| look | 4 of 365 at this test split |",
        "| parameters | 1,210 |",
        "| size of the weights' file | 0.0053 MB |",
        "| time of one image (median, CPU) | 0.0123 ms |",
        "| the lower 95% bound of its test accuracy on class bee | 0.66 | &gt;= 0.6 | yes |",
        "| objective | 0.1 hard\\_labels + auto soft\\_targets, temperature 4 |",
        "| teacher | run 0123, 97.00 % on validation images |",
        "| images | 1,000 train, 100 test |",
        "| digest of the data | feed |",
        "| run of the student | 4567 |",
        "| torch | 2.15.0 |",
    ]:
        assert line in text.splitlines()
    assert "Licence: not stated;" in text
    assert "mlflow.pyfunc.load_model('models:/photos-student/3')" in text
    assert "kd show photos-student/3 --spec > 'my photos.yaml'\nkd run 'my photos.yaml'" in text


def test_a_stated_licence_is_shown_and_escaped() -> None:
    assert "\n\nLicence: Apache-2.0.\n\n" in model_card(replace(CARD, licence="Apache-2.0"))
    assert "\n\nLicence: &lt;b&gt; \\*mine\\*.\n\n" in model_card(replace(CARD, licence="<b> *mine*"))


def test_the_code_to_load_the_model_is_python() -> None:
    code = model_card(CARD).partition("```python\n")[2].partition("```")[0]
    compile(code, "card", "exec")


def test_a_first_champion_has_no_look_and_a_control_no_teacher() -> None:
    text = model_card(replace(CARD, look=None, requirements=[], teacher=""))
    assert "| look | none: no champion before |" in text
    assert "No requirements are declared." in text
    assert "| teacher |" not in text


def test_a_card_with_many_hostile_names_is_short_and_holds_no_markup() -> None:
    names = tuple(f"<b>|*{number}*" for number in range(1_000))
    student = replace(STUDENT, classes=names, labels=np.array([names[0]] * 100), name="<b>")
    text = model_card(replace(CARD, student=student, decision="<b> wins", objective=["<b>"], teacher="<b>"))
    assert "<b>" not in text
    assert "and 980 more" in text
    assert len(text) < 5_000
