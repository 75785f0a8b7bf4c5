"""Take the pictures of README.md and docs/ from a real comparison of the digits, for `make screenshots`."""

from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Browser, Page

from tasks import tracking
from tests.ui.scene import ROOT, WAIT_MS, Scene, chromium, digits_scene

IMAGES = ROOT / "docs" / "images"
COLOURS = 128  # of a picture, which makes the file three times smaller
PAINT_MS = 10_000  # time in which a page draws its charts after their data have arrived


def save(page: Page, name: str) -> None:
    """Write a picture of what the browser shows to docs/images."""
    IMAGES.mkdir(exist_ok=True)
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(IMAGES / name, optimize=True)
    print(f"docs/images/{name}: {(IMAGES / name).stat().st_size / 1000:.0f} kB")


def take_report(browser: Browser, report: Path) -> None:
    """Take the top of the report: verdict, answers and requirements."""
    page = browser.new_page(viewport={"width": 1280, "height": 1060}, color_scheme="light")
    page.goto(report.as_uri())
    page.locator("figure svg.marks").first.wait_for()
    save(page, "report.png")


def take_mlflow(browser: Browser, scene: Scene) -> None:
    """Take the page of the comparison's run in the MLflow UI, with its whole description."""
    page = scene.mlflow_context(browser).new_page()
    link = tracking.artifact_link(scene.run_id, "").split("/artifacts")[0]
    page.goto(f"{scene.mlflow}/{link}?workflowType=machine_learning")
    page.get_by_text("Show more").first.click()
    page.get_by_role("button", name="Close").first.click()  # a panel that opens by itself
    page.wait_for_timeout(PAINT_MS)
    save(page, "mlflow-run.png")


def take_prefect(browser: Browser, scene: Scene) -> None:
    """Take the page of the flow run in the Prefect UI."""
    page = scene.prefect_context(browser).new_page()
    page.goto(tracking.get(scene.run_id).tags["kd.prefect_url"])
    page.get_by_text("promote: ").first.wait_for(timeout=WAIT_MS)
    page.wait_for_timeout(PAINT_MS)
    save(page, "prefect-flow-run.png")


def main() -> None:
    """Compare the losses on the digits, and write all pictures."""
    with TemporaryDirectory(prefix="kdflow-screenshots-") as name, digits_scene(Path(name)) as scene:
        scene.use_store()
        report = scene.folder / "report.html"
        scene.kd("report", "-o", str(report))
        with chromium() as browser:
            take_report(browser, report)
            take_mlflow(browser, scene)
            take_prefect(browser, scene)


if __name__ == "__main__":
    main()
