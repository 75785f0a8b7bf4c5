"""The images on which student and teacher disagree most: a section of the report, and a picture."""

from collections.abc import Sequence

from kdmodels.report import formats
from kdmodels.report.card_picture import to_svg
from kdmodels.report.components import Bar, Card, Cards, Section, Text
from kdmodels.report.contents import Contents
from kdmodels.report.predictions import ClassShare, Disagreement

ABOUT = (
    "The validation images on which the distributions of the stored student and of the teacher differ most. The "
    "probabilities of wrong classes are the teacher's dark knowledge. A temperature above 1 makes them visible."
)


def disagreement_section(contents: Contents) -> Section | None:
    """Return the section about the disagreements. `None` if none are recorded."""
    predictions = contents.predictions
    if predictions is None or not predictions.disagreements:
        return None
    cards = _cards(predictions.disagreements, predictions.classes)
    return Section("disagreement", "Where student and teacher disagree", [Text(ABOUT), cards])


def disagreement_picture(disagreements: Sequence[Disagreement], classes: Sequence[str]) -> bytes:
    """Return the images and the distributions of student and teacher as the content of an SVG file.

    Args:
        disagreements: The images. There is at least one.
        classes: The names of the classes.
    """
    return to_svg("The validation images on which student and teacher disagree most", _cards(disagreements, classes))


def _cards(disagreements: Sequence[Disagreement], classes: Sequence[str]) -> Cards:
    return Cards([_card(number, each, classes) for number, each in enumerate(disagreements, 1)])


def _card(number: int, disagreement: Disagreement, classes: Sequence[str]) -> Card:
    true = classes[disagreement.label]
    bars = {}
    for temperature, shares in disagreement.shares.items():
        bars[f"student, T = {temperature:g}"] = _bars(shares, classes, of_student=True)
        bars[f"teacher, T = {temperature:g}"] = _bars(shares, classes, of_student=False)
    return Card(
        picture=disagreement.picture,
        alternative=f"Image {number} of the largest disagreements, of class {true}",
        title=f"True class: {true}",
        bars=bars,
    )


def _bars(shares: Sequence[ClassShare], classes: Sequence[str], *, of_student: bool) -> list[Bar]:
    return [
        Bar(classes[each.index], value, formats.share(value))
        for each in shares
        for value in [each.student if of_student else each.teacher]
    ]
