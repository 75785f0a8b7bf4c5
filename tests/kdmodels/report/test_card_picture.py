"""Cards as one picture: their places, their texts, and hostile texts."""

from xml.etree import ElementTree

from kdmodels.report.card_picture import COLUMNS, WIDTH, to_svg
from kdmodels.report.components import Bar, Card, Cards

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</text><script>\"'&"


def card(title: str) -> Card:
    bars = {"student, T = 1": [Bar("cat", 0.75, "75 %")], "teacher, T = 1": [Bar(title, 0.25, "25 %")]}
    return Card(picture="iVBORw0KGgo=", alternative=f"Image of {title}", title=f"True class: {title}", bars=bars)


def test_the_cards_fill_rows_and_lie_in_the_picture() -> None:
    picture = ElementTree.fromstring(to_svg("Two rows", Cards([card("owl")] * (COLUMNS + 1))))
    places = [group.get("transform") for group in picture.iter(f"{SVG}g")]
    assert len(set(places)) == COLUMNS + 1
    assert float(picture.get("width", 0)) >= COLUMNS * WIDTH
    last_row = float(str(places[-1]).rstrip(")").split()[1])
    lowest = max(float(text.get("y", 0)) for text in picture.iter(f"{SVG}text"))
    assert last_row + lowest <= float(picture.get("height", 0))


def test_a_bar_is_as_long_as_its_share_and_has_label_and_text() -> None:
    picture = ElementTree.fromstring(to_svg("One", Cards([card("owl")])))
    _, first, second = picture.iter(f"{SVG}rect")
    assert (first.get("width"), second.get("width")) == ("75.0", "25.0")
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert texts == ["True class: owl", "student, T = 1", "cat", "75 %", "teacher, T = 1", "owl", "25 %"]


def test_hostile_texts_add_no_element_and_long_texts_are_cut() -> None:
    picture = ElementTree.fromstring(to_svg(HOSTILE, Cards([card(HOSTILE)])))
    assert {element.tag.removeprefix(SVG) for element in picture.iter()} == {
        "svg",
        "title",
        "rect",
        "g",
        "text",
        "image",
    }
    assert picture.findtext(f"{SVG}title") == HOSTILE
    label = [text.text for text in picture.iter(f"{SVG}text")][-2]
    assert label == f"{HOSTILE[:12]}…"
