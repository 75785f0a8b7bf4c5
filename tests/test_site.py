"""The documentation site is built in strict mode, and needs no network."""

from pathlib import Path

import pytest

from docs.build_site import CONFIGURATION, build, link_problems

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the folder of a project with one page beside the real configuration."""
    (tmp_path / "docs").mkdir()
    configuration = (ROOT / CONFIGURATION).read_text()
    start, end = configuration.index("nav = ["), configuration.index("\n]\n") + 3
    short = 'nav = [{ "Home" = "README.md" }]\n'
    (tmp_path / CONFIGURATION).write_text(configuration[:start] + short + configuration[end:])
    (tmp_path / "README.md").write_text("# Home\n\n[here](#home)\n")
    return tmp_path


def test_the_pages_of_the_project_become_a_site(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "old.html").touch()
    build(ROOT, tmp_path / "site")
    pages = {path.relative_to(tmp_path / "site").with_suffix("").as_posix() for path in tmp_path.rglob("*.html")}
    assert {f"docs/{path.stem}" for path in (ROOT / "docs").glob("*.md")} < pages
    assert {"index", "CHANGELOG", "CONTRIBUTING", "benchmarks/LOG"} < pages
    assert "old" not in pages


def test_links_to_missing_pages_and_headings_are_errors(project: Path) -> None:
    (project / "README.md").write_text("# Home\n\n[a](docs/gone.md) [b](#gone)\n")
    with pytest.raises(SystemExit) as stopped:
        build(project, project / "site")
    assert "README.md:3:5" in str(stopped.value)
    assert "page does not exist" in str(stopped.value)
    assert "anchor does not exist" in str(stopped.value)
    assert "Traceback" not in str(stopped.value)
    assert not (project / "site").exists()


def test_missing_files_and_files_of_other_servers_are_errors(project: Path) -> None:
    (project / "README.md").write_text("# Home\n\n[a](LICENSE) ![b](docs/gone.png) ![c](https://example.com/far.png)\n")
    with pytest.raises(SystemExit) as stopped:
        build(project, project / "site")
    assert "index.html: LICENSE leads to no file" in str(stopped.value)
    assert "index.html: docs/gone.png leads to no file" in str(stopped.value)
    assert "index.html: loads https://example.com/far.png from the network" in str(stopped.value)
    assert not (project / "site").exists()


def test_a_page_that_the_navigation_does_not_name_is_an_error(project: Path) -> None:
    (project / "docs" / "new.md").write_text("# New\n")
    with pytest.raises(SystemExit, match=r"docs/zensical.toml: nav does not name docs/new\.md"):
        build(project, project / "site")


def test_a_missing_page_of_the_navigation_is_an_error(project: Path) -> None:
    (project / "README.md").rename(project / "CHANGELOG.md")
    with pytest.raises(SystemExit, match=r"docs/zensical.toml: nav names README\.md, which does not exist"):
        build(project, project / "site")


def test_a_script_from_another_server_is_found(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<script src="https://example.com/shim.js"></script><a href="https://a.b">')
    assert link_problems(tmp_path) == ["index.html: loads https://example.com/shim.js from the network"]
