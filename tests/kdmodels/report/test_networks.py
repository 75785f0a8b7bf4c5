"""docs/networks.md agrees with the tables of networks."""

from pathlib import Path

from kdmodels.experiment.architectures import ARCHITECTURES, BLOCKS
from kdmodels.networks import blocks
from kdmodels.report.networks import document

DOCUMENT = Path(__file__).parents[3] / "docs" / "networks.md"


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == document(), "run: make docs"


def test_every_name_is_listed_once() -> None:
    rows = [line.split("`")[1] for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]
    assert [row for row in rows if row in ARCHITECTURES or row in BLOCKS][1:] == [*ARCHITECTURES, *BLOCKS]


def test_every_block_can_be_built() -> None:
    assert list(blocks.BLOCKS) == list(BLOCKS)
