"""The pages of a real comparison in the Prefect UI that `kd up` serves, as docs/nightly.md describes them."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from kdmodels.report.formats import accuracy
from tasks import tracking
from tasks.results import VERDICT
from tests.ui.scene import WAIT_MS, Scene

pytestmark = pytest.mark.ui

expect.set_options(timeout=WAIT_MS)


@pytest.fixture
def page(scene: Scene, browser: Browser, store: None) -> Iterator[Page]:
    """The page of the comparison's flow run, by the link in its MLflow run."""
    context = scene.prefect_context(browser)
    page = context.new_page()
    page.goto(tracking.get(scene.run_id).tags["kd.prefect_url"])
    yield page
    context.close()


def test_the_link_asks_for_the_password_and_shows_the_flow_run(scene: Scene, browser: Browser, store: None) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(tracking.get(scene.run_id).tags["kd.prefect_url"])
    page.locator("input[type=password]").fill(f"kdflow:{scene.secret('kdflow-password')}")
    page.keyboard.press("Enter")
    expect(page.get_by_text(f"{tracking.get(scene.run_id).experiment} 20").first).to_be_visible()
    context.close()


def show(page: Page, tab: str) -> None:
    page.get_by_text(tab, exact=True).first.click()


def test_the_flow_run_is_named_and_its_log_has_a_line_per_stage(page: Page, scene: Scene) -> None:
    run = tracking.get(scene.run_id)
    expect(page.get_by_text(f"{run.experiment} 20").first).to_be_visible()
    for line in ("data: digits", "plan: ", "teacher: validation accuracy", "compare: ", "promote: "):
        expect(page.get_by_text(line).first).to_be_attached()


def test_its_task_runs_are_named_by_what_they_train(page: Page) -> None:
    show(page, "Task Runs")
    for name in ("train_teacher teacher", "train_student hard-labels", "compare_students"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible()


def test_its_artifacts_show_verdict_leaderboard_and_progress(page: Page, scene: Scene) -> None:
    run, verdict = tracking.get(scene.run_id), tracking.read_json(scene.run_id, VERDICT)
    show(page, "Artifacts")
    expect(page.get_by_text(f"{run.experiment}-hard-labels", exact=True).first).to_be_visible()
    page.get_by_text(f"{run.experiment}-comparison", exact=True).first.click()
    expect(page.get_by_text(verdict["reason"]).first).to_be_visible()
    best = tracking.get(run.tags["kd.winner_run"])
    row = page.get_by_role("row", name=best.name).first
    expect(row).to_contain_text(accuracy(best.metrics["val/accuracy"], best.metrics["val/accuracy/std"]))
    link = page.get_by_role("link", name=scene.run_id)
    assert (link.get_attribute("href") or "").startswith(f"{scene.mlflow}/#/experiments/")
    assert scene.run_id in (link.get_attribute("href") or "")


def test_the_champion_is_an_asset_that_depends_on_its_teacher(scene: Scene, browser: Browser, store: None) -> None:
    context = scene.prefect_context(browser)
    page = context.new_page()
    page.goto(f"{scene.prefect}/events")
    verdict = tracking.read_json(scene.run_id, VERDICT)
    teacher = tracking.get(scene.run_id).tags["kd.teacher_run"]
    for asset in (f"mlflow://models/{verdict['model']}/versions/{verdict['version']}", f"mlflow://runs/{teacher}"):
        expect(page.get_by_text(asset).first).to_be_attached()
    context.close()
