"""Contents of a report, as the sections and writers of reports take them."""

import re
from html.parser import HTMLParser
from typing import Any

from kdmodels.evaluation.requirements import Rule
from kdmodels.report.components import Table
from kdmodels.report.contents import Contents, Teacher, Verdict
from kdmodels.report.leaderboard import Costs, leaderboard
from tests.support.students import CONTROL, KD, failed

VERDICT = Verdict(
    reason="kd becomes the first champion.",
    model="small-student",
    version=3,
    winner="kd",
    promoted=True,
    test_accuracy={"kd": 0.9375, "hard-labels": 0.875},
    rules=[Rule("accuracy", 0.91, ">= 0.9", holds=True)],
)


def contents(**changes: Any) -> Contents:
    """Return the contents of a comparison of two students and one that failed."""
    fields: dict[str, Any] = {
        "experiment": "small",
        "run_id": "0123456789abcdef",
        "started": "2026-01-02T03:04:05+00:00",
        "verdict": VERDICT,
        "rows": leaderboard([CONTROL, KD, failed("broken")]),
        "winner": "kd",
        "teacher": Teacher(0.98, Costs(parameters=1_000, mflops=2.0)),
        "tuning": "untuned",
    }
    return Contents(**fields | changes)


class Page(HTMLParser):
    """The elements of an HTML page, and its text outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    @property
    def text(self) -> str:
        """The text of the page, with single spaces."""
        return re.sub(r"\s+", " ", " ".join(self.texts))


def column(table: Table, title: str) -> list[str]:
    """Return the texts of one column of a table."""
    (index,) = [number for number, each in enumerate(table.columns) if each.title == title]
    return [row[index].text for row in table.rows]
