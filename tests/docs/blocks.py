"""The code blocks of the documentation, and the comments before them that say why a block is not run."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r" *```(\w*)$")
NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
RUN_BY = re.compile(r"<!-- run by (\S+) -->")
FILE_NAME = re.compile(r"# ([\w.-]+\.(?:yaml|py))\n")


@dataclass(frozen=True)
class Block:
    """One code block.

    Args:
        line: The number of the block's first line.
        language: The language of the fence, e.g. `sh`. Empty for output and diagrams.
        text: The lines of the block.
        comment: The line before the block, if it is a comment.
    """

    page: Path
    line: int
    language: str
    text: str
    comment: str

    @property
    def place(self) -> str:
        """The page and the line, for messages."""
        return f"{self.page.name}:{self.line}"

    @property
    def not_run(self) -> str:
        """The reason why the block is never run. Empty if the block is run."""
        match = NOT_RUN.fullmatch(self.comment)
        return match[1] if match else ""

    @property
    def run_by(self) -> str:
        """The test file that runs the block. Empty if tests/docs/test_pages.py runs it."""
        match = RUN_BY.fullmatch(self.comment)
        return match[1] if match else ""

    @property
    def is_doctest(self) -> bool:
        """Whether pytest runs the block as a doctest."""
        return self.language == "python" and self.text.startswith(">>> ")

    @property
    def file(self) -> str:
        """The name of the file that the block shows, from the comment in its first line. Empty if there is none."""
        match = FILE_NAME.match(self.text)
        return match[1] if match else ""


def blocks(page: Path) -> list[Block]:
    """Return the code blocks of a page."""
    found: list[Block] = []
    lines = page.read_text().splitlines()
    start = None
    for number, line in enumerate(lines):
        fence = FENCE.match(line)
        if fence and start is None:
            start = number
        elif fence and start is not None:
            indent = len(lines[start]) - len(lines[start].lstrip())
            text = "".join(f"{inner[indent:]}\n" for inner in lines[start + 1 : number])
            before = lines[start - 1].strip() if start else ""
            comment = before if before.startswith("<!--") else ""
            found.append(Block(page, start + 2, lines[start].strip().removeprefix("```"), text, comment))
            start = None
    assert start is None, f"{page.name}:{start}: a block is not closed"
    return found
