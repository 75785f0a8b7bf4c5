"""The HTML page of a report: one file that needs no network.

The page contains Vega's JavaScript, because browsers draw the charts. A content security policy allows only the scripts
of the page, which it identifies by their digests, and forbids network requests. It also forbids `eval`, so Vega's
expressions are run by its interpreter.
"""

from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kdmodels.report.components import Section
from kdmodels.report.vega import bundle

ASSETS = Path(__file__).parent / "assets"


def to_html(title: str, sections: Sequence[Section]) -> str:
    """Return a page with a table of contents and these sections. All texts are escaped.

    Args:
        title: The title of the page.
        sections: The sections, in the order of the page.
    """
    scripts = [bundle(), _asset("report.js")]
    return (
        environment()
        .get_template("page.html.jinja")
        .render(
            title=title,
            sections=sections,
            style=_asset("report.css"),
            scripts=scripts,
            digests=[b64encode(sha256(script.encode()).digest()).decode() for script in scripts],
        )
    )


@cache
def environment() -> Environment:
    """Return the Jinja environment of the templates. The environment escapes all texts."""
    return Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")
