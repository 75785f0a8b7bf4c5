"""Picture cards as one SVG file, for user interfaces that show images but no HTML."""

from kdmodels.report.components import Card, Cards
from kdmodels.report.page import environment

COLUMNS = 4
WIDTH, MARGIN = 260, 15  # pixels: the width of a card and the space to its right, and the margin of the picture
PICTURE, LINE = 96, 14  # pixels: the side of a card's image, and the height of a line of text


def to_svg(title: str, cards: Cards) -> bytes:
    """Return cards as the content of an SVG file with a white background. Text is escaped, and long text is truncated.

    Args:
        title: A text that replaces the picture for readers who cannot see it.
        cards: The cards. There is at least one.
    """
    card_height = max(map(_height, cards.cards))
    places = [
        (MARGIN + WIDTH * (number % COLUMNS), MARGIN + card_height * (number // COLUMNS), card)
        for number, card in enumerate(cards.cards)
    ]
    picture = (
        environment()
        .get_template("cards.svg.jinja")
        .render(
            title=title,
            places=places,
            width=2 * MARGIN + WIDTH * min(COLUMNS, len(places)),
            height=2 * MARGIN + card_height * -(-len(places) // COLUMNS),
            picture=PICTURE,
            line=LINE,
        )
    )
    return picture.encode()


def _height(card: Card) -> int:
    return PICTURE + 44 + sum(LINE * (len(bars) + 1) + 6 for bars in card.bars.values())
