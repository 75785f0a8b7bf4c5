"""The links and the names of files in the documentation lead to files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PLACEHOLDER = re.compile(r"NAME|\ba/b/")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_modules_exist(page: Path) -> None:
    names = [name for name in re.findall(r"`([\w/]+\.py)`", page.read_text()) if not PLACEHOLDER.search(name)]
    paths = [name for name in names if "/" in name]
    tests = [name for name in names if name.startswith("test_")]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [name for name in tests if not list((ROOT / "tests").rglob(name))] == []
