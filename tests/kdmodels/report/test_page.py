"""The HTML page: everything escaped, nothing loaded, only its own scripts allowed."""

import json
import re
from base64 import b64encode
from hashlib import sha256

import pytest

from kdmodels.report.components import (
    Bar,
    Card,
    Cards,
    Cell,
    Chart,
    Code,
    Column,
    Component,
    Legend,
    Section,
    Table,
    Text,
)
from kdmodels.report.page import to_html
from kdmodels.report.vega import bundle
from tests.support.reports import Page

HOSTILE = "</script><img src=x onerror=alert(1)>\"'<script>alert(2)</script>&amp;<!--"
COMPONENTS: list[Component] = [
    Text(HOSTILE, role="note"),
    Table(HOSTILE, [Column(HOSTILE, help=HOSTILE)], [[Cell(HOSTILE, HOSTILE)]], sortable=True),
    Chart("chart", HOSTILE, HOSTILE, {"data": {"values": [{"variant": HOSTILE}]}, "mark": "point"}),
    Cards([Card("AAAA", HOSTILE, HOSTILE, {HOSTILE: [Bar(HOSTILE, 0.5, HOSTILE)]})]),
    Code(HOSTILE, HOSTILE),
    Code(HOSTILE, HOSTILE, folded=True),
    Legend(HOSTILE, {HOSTILE: HOSTILE}),
]


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(to_html(HOSTILE, [Section("first", HOSTILE, COMPONENTS)]))


def test_hostile_texts_stay_texts(page: Page) -> None:
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 3  # the chart, Vega and the code of the page
    assert [attributes for tag, attributes in page.elements if tag == "img"] == [
        {"src": "data:image/png;base64,AAAA", "alt": HOSTILE}
    ]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert json.loads(page.scripts[0])["data"]["values"] == [{"variant": HOSTILE}]
    assert sum(HOSTILE in text for text in page.texts) >= 10


def test_the_policy_allows_the_scripts_of_the_page_and_no_request(page: Page) -> None:
    (policy,) = [each["content"] for _, each in page.elements if each.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    digests = [f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in page.scripts[1:]]
    assert rules["script-src"].split() == digests
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "connect-src" not in rules


def test_nothing_is_loaded(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href"):
            assert re.match("#|data:", attributes.get(name) or "#")


def test_a_sortable_table_has_buttons_and_values_to_sort_by() -> None:
    rows = [[Cell("96.1 ± 0.4", 0.961)], [Cell("failed", None)]]
    table = Table("caption", [Column("accuracy", numeric=True)], rows, sortable=True)
    page = Page(to_html("title", [Section("s", "S", [table])]))
    tags = [tag for tag, _ in page.elements]
    assert tags.index("button") > tags.index("th")  # a button inside the header works by keyboard
    cells = [attributes for tag, attributes in page.elements if tag == "td"]
    assert [cell.get("data-order") for cell in cells] == ["0.961", None]
    assert ("th", {"scope": "col", "class": "number"}) in page.elements


def test_a_page_without_charts_is_hardly_larger_than_vega() -> None:
    assert len(to_html("title", [])) - len(bundle()) < 20_000
    assert len(bundle()) < 1_000_000
