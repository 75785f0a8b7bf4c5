"""The pages of a real comparison in the MLflow UI that `kd up --login` serves: what the documentation says of them."""

from collections.abc import Iterator
from urllib.parse import urljoin

import pytest
from playwright.sync_api import Browser, Page, expect

from kdmodels.report.formats import accuracy
from tasks import tracking
from tasks.results import REPORT, VERDICT
from tests.ui.scene import WAIT_MS, Scene

pytestmark = pytest.mark.ui

expect.set_options(timeout=WAIT_MS)


@pytest.fixture
def page(scene: Scene, browser: Browser, store: None) -> Iterator[Page]:
    """A page of a browser that is logged in."""
    context = scene.mlflow_context(browser)
    yield context.new_page()
    context.close()


@pytest.fixture
def run_address(scene: Scene, store: None) -> str:
    """The address of the comparison's run."""
    return f"{scene.mlflow}/{tracking.artifact_link(scene.run_id, '').split('/artifacts')[0]}"


def reason(scene: Scene) -> str:
    return str(tracking.read_json(scene.run_id, VERDICT)["reason"])


def test_the_servers_ask_for_a_login(scene: Scene, browser: Browser) -> None:
    context = browser.new_context()
    assert context.request.get(scene.mlflow).status == 401
    assert context.request.get(f"{scene.prefect}/api/flows/").status == 401
    context.close()


def test_the_runs_page_shows_verdict_and_leaderboard(page: Page, scene: Scene, run_address: str) -> None:
    page.goto(run_address)
    expect(page.get_by_text(reason(scene)[:40]).first).to_be_visible()
    page.get_by_text("Show more").first.click()
    best = tracking.get(tracking.get(scene.run_id).tags["kd.winner_run"])
    row = page.get_by_role("row", name=best.name).filter(has_text="±").last
    expect(row).to_contain_text(accuracy(best.metrics["val/accuracy"], best.metrics["val/accuracy/std"]))


def test_the_runs_page_leads_to_the_report_which_draws_its_charts(page: Page, scene: Scene, run_address: str) -> None:
    page.goto(run_address)
    link = page.locator(f"a[href*='{REPORT}']").first
    page.goto(urljoin(f"{scene.mlflow}/", link.get_attribute("href")))  # a click would open a second tab
    report = page.frame_locator("iframe").last
    expect(report.locator(".verdict")).to_have_text(reason(scene))
    expect(report.locator("figure#accuracies svg.marks")).to_be_attached()


def test_the_runs_page_names_the_flow_run_in_prefect(page: Page, scene: Scene, run_address: str) -> None:
    page.goto(run_address)
    address = tracking.get(scene.run_id).tags["kd.prefect_url"]
    assert address.startswith(f"{scene.prefect}/")
    expect(page.get_by_text(address.rpartition("/")[2]).first).to_be_attached()


def test_the_compare_page_shows_the_students_side_by_side(page: Page, scene: Scene) -> None:
    students = [run for run in tracking.children(scene.run_id) if run.kind == "student"]
    experiment = tracking.artifact_link(scene.run_id, "").split("/")[2]
    runs = ",".join(f'"{run.run_id}"' for run in students)
    page.goto(f'{scene.mlflow}/#/compare-runs?runs=[{runs}]&experiments=["{experiment}"]')
    expect(page.get_by_text(f"Comparing {len(students)} Runs").first).to_be_visible()
    for run in students:
        expect(page.get_by_text(run.name, exact=True).first).to_be_attached()
        expect(page.get_by_text(run.run_id, exact=True).first).to_be_attached()


def test_the_page_of_the_model_version_shows_alias_verdict_and_source(page: Page, scene: Scene) -> None:
    verdict = tracking.read_json(scene.run_id, VERDICT)
    page.goto(f"{scene.mlflow}/#/models/{verdict['model']}/versions/{verdict['version']}")
    expect(page.get_by_text("champion").first).to_be_visible()
    expect(page.get_by_text(reason(scene)[:40]).first).to_be_visible()
    expect(page.get_by_role("link", name=verdict["winner"], exact=True).first).to_be_visible()


def test_two_clicks_lead_from_the_home_page_to_the_verdict(page: Page, scene: Scene) -> None:
    """MLflow remembers that "Model training" was chosen once. In its view "GenAI", another click is needed."""
    experiment = tracking.get(scene.run_id).experiment
    page.goto(scene.mlflow)
    page.get_by_role("button", name="Model training").click()
    page.goto(f"{scene.mlflow}/#/experiments")
    page.goto(scene.mlflow)
    page.get_by_role("row", name=experiment).get_by_role("link", name=experiment, exact=True).first.click()
    page.wait_for_url("**/runs*")
    page.get_by_role("row").get_by_role("link", name=experiment, exact=True).first.click()
    expect(page.get_by_text(reason(scene)[:40]).first).to_be_visible()
