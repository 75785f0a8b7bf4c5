"""The report of a real comparison, in a real browser: its numbers, sorting, hover values, accessibility and widths."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from kdmodels.report.gap import SMALLEST_GAP
from tasks import tracking
from tasks.results import ROWS, VERDICT
from tests.ui.scene import PHONE, SCREEN, WAIT_MS, Scene

pytestmark = pytest.mark.ui

BOARD = "#leaderboard table.sortable"
TOOLTIP = "#vg-tooltip-element"


@dataclass
class Opened:
    """The report in a browser without network, and what happened while it was open."""

    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def opened(browser: Browser, report: Path, **options: Any) -> Opened:
    """Open the report in a browser without network, and wait until all charts are drawn."""
    context = browser.new_context(**{"viewport": SCREEN, "offline": True} | options)
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    result = Opened(page)
    page.on("request", lambda request: result.requests.append(request.url))
    page.on("pageerror", lambda error: result.errors.append(str(error)))
    page.on("console", lambda message: result.errors.append(message.text) if message.type == "error" else None)
    page.goto(report.as_uri())
    for chart in page.locator("figure .chart").all():
        chart.locator("svg.marks").wait_for()
    return result


@pytest.fixture(scope="module")
def screen(browser: Browser, report: Path) -> Iterator[Opened]:
    """The report on a screen, in light mode."""
    result = opened(browser, report, color_scheme="light")
    yield result
    result.page.context.close()


def cells(page: Page, title: str) -> list[str]:
    """Return the texts of a column of the leaderboard, from the first row to the last."""
    titles = [re.sub(" [▲▼]", "", text) for text in page.locator(f"{BOARD} thead th").all_inner_texts()]
    rows = page.locator(f"{BOARD} tbody tr").all()
    return [row.locator("td").nth(titles.index(title)).inner_text() for row in rows]


def numbers(texts: list[str]) -> list[list[float]]:
    """Return the numbers of each text."""
    return [
        [float(each.replace(",", "")) for each in re.findall(r"[-+]?[\d,]*\.?\d+(?:e-?\d+)?", text)] for text in texts
    ]


def test_it_makes_no_request_and_reports_no_error(screen: Opened, report: Path) -> None:
    assert [url for url in screen.requests if not url.startswith("data:")] == [report.as_uri()]
    assert screen.errors == []


def test_every_number_of_the_leaderboard_is_that_of_the_store(
    screen: Opened, scene: Scene, compared: list[dict[str, Any]], store: None
) -> None:
    page = screen.page
    metrics = {row["variant"]: tracking.get(row["run_id"]).metrics for row in compared}
    variants = [row["variant"] for row in compared]
    assert cells(page, "variant") == variants
    assert cells(page, "#") == [str(rank) for rank in range(1, len(variants) + 1)]
    assert numbers(cells(page, "validation %")) == [
        [round(100 * metrics[name]["val/accuracy"], 2), round(100 * metrics[name]["val/accuracy/std"], 2)]
        for name in variants
    ]
    assert numbers(cells(page, "parameters")) == [[metrics[name]["size/parameters"]] for name in variants]
    for title, values in {
        "MFLOPs": [metrics[name]["cost/flops"] / 1e6 for name in variants],
        "ms/image": [metrics[name]["latency/p50_ms"] for name in variants],
    }.items():
        assert numbers(cells(page, title)) == [[float(f"{value:.3g}")] for value in values]
    differences = [
        [round(100 * row[key], 2) for key in ("vs control", "vs control low", "vs control high")]
        if row["vs control"] is not None
        else []
        for row in compared
    ]
    assert numbers(cells(page, "vs control")) == differences
    assert cells(page, "p (Holm)") == [p_value(row["vs control holm"]) for row in compared]
    assert cells(page, "group") == [str(row["group"]) for row in compared]
    assert cells(page, "Pareto") == ["yes" if row["pareto"] else "no" for row in compared]


def test_the_share_of_the_gap_is_that_of_the_stores_accuracies(
    screen: Opened, scene: Scene, compared: list[dict[str, Any]], store: None
) -> None:
    teacher = tracking.get(scene.run_id).metrics["val/teacher_accuracy"]
    accuracies = {row["variant"]: row["metrics"]["val/accuracy"] for row in compared}
    widths = {row["variant"]: teacher - accuracies.get(row["control"], teacher) for row in compared}
    shares = [
        f"{100 * row['vs control'] / widths[row['variant']]:.0f} %"
        if row["vs control"] is not None and widths[row["variant"]] >= SMALLEST_GAP
        else ""
        for row in compared
    ]
    assert cells(screen.page, "gap closed") == shares


def test_the_verdict_is_that_of_the_store(screen: Opened, scene: Scene, store: None) -> None:
    verdict = tracking.read_json(scene.run_id, VERDICT)
    assert screen.page.locator(".verdict").inner_text() == verdict["reason"]
    answers = screen.page.locator("#verdict table").first.inner_text()
    assert all(f"{name} {100 * value:.2f} %" in answers for name, value in verdict["test_accuracy"].items())
    assert len(tracking.read_json(scene.run_id, ROWS)) == screen.page.locator(f"{BOARD} tbody tr").count()


def test_a_click_on_a_title_sorts_the_table(screen: Opened) -> None:
    page = screen.page
    header = page.locator(f"{BOARD} th", has_text="validation %")
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    ascending = [values[0] for values in numbers(cells(page, "validation %"))]
    assert ascending == sorted(ascending)
    assert ascending[0] < ascending[-1]
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert [values[0] for values in numbers(cells(page, "validation %"))] == sorted(ascending, reverse=True)


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_the_keyboard_sorts_the_table(screen: Opened, key: str) -> None:
    page = screen.page
    page.locator(f"{BOARD} th button").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")  # from the column "#" to the column "validation %"
    assert page.evaluate("document.activeElement.textContent") == "validation %"
    page.keyboard.press(key)
    ascending = page.locator(f"{BOARD} th", has_text="validation %").get_attribute("aria-sort") == "ascending"
    accuracies = [values[0] for values in numbers(cells(page, "validation %"))]
    assert accuracies == sorted(accuracies, reverse=not ascending)
    assert page.evaluate("document.activeElement.textContent") == "validation %"  # the focus stays on the title


def test_empty_cells_stay_last(screen: Opened) -> None:
    button = screen.page.locator(f"{BOARD} th", has_text="p (Holm)").get_by_role("button")
    for _ in ("ascending", "descending"):
        button.click()
        values = cells(screen.page, "p (Holm)")
        assert "" in values
        assert all(values[: values.index("")])
        assert not any(values[values.index("") :])


@pytest.mark.parametrize(
    ("chart", "mark", "shown"),
    [
        ("accuracies", ".mark-symbol path", "mean"),
        ("accuracies", ".mark-rule.layer_1_marks line", "low"),
        ("pareto", ".mark-symbol path", "cost"),
        ("learning-curves", ".mark-symbol path", "epoch"),
        ("confusion-matrices", ".mark-text text", "share"),
    ],
)
def test_values_appear_under_the_mouse(screen: Opened, chart: str, mark: str, shown: str) -> None:
    figure = screen.page.locator(f"figure#{chart}")
    figure.locator(f"svg .role-mark{mark}").last.hover(force=True)  # another mark may cover a part of it
    values = screen.page.locator(f"{TOOLTIP}.visible")
    values.wait_for()
    assert re.search(rf"{shown}:?\s*\d", values.inner_text())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(browser: Browser, report: Path, scheme: str) -> None:
    result = opened(browser, report, color_scheme=scheme)
    found = Axe().run(result.page)
    assert found.violations_count == 0, json.dumps(found.response["violations"], indent=1)[:8000]
    assert result.errors == []
    result.page.context.close()


def test_dark_mode_has_a_dark_ground_and_light_charts(browser: Browser, report: Path) -> None:
    result = opened(browser, report, color_scheme="dark")
    ground = result.page.evaluate("getComputedStyle(document.body).backgroundColor")
    label = result.page.locator("figure svg .role-axis-label text").first.get_attribute("fill")
    assert max(map(int, re.findall(r"\d+", ground))) < 64
    assert label
    assert int(label[1:3], 16) > 128
    result.page.context.close()


def test_it_is_readable_on_a_phone(browser: Browser, report: Path) -> None:
    result = opened(browser, report, viewport=PHONE, is_mobile=True, has_touch=True)
    page = result.page
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate("visualViewport.width") == PHONE["width"]  # the page is not zoomed out
    assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('td')).fontSize)") >= 14
    for element in page.locator("p:visible, #verdict td, h2").all():
        box = element.bounding_box()
        assert box
        assert 0 <= box["x"] <= box["x"] + box["width"] <= PHONE["width"], element.inner_text()
    page.locator(f"{BOARD} th", has_text="validation %").get_by_role("button").tap()
    assert page.locator(f"{BOARD} th[aria-sort]").count() == 1
    page.context.close()


def p_value(p: float | None) -> str:
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
