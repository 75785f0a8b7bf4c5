"""Builds the documentation site: `python docs/build_site.py FOLDER`. `make site` runs it.

The pages keep their places, so their links work on GitHub, in an editor and on the site.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]
CONFIGURATION = "docs/zensical.toml"
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "benchmarks/LOG.md", "docs/*.md")
FILES = (*PAGES, "docs/images/*", "docs/schemas/*")
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "srcset"}
"""The attribute of each HTML element that makes a browser load a file."""


class Links(HTMLParser):
    """The addresses to which a page leads, and the addresses that a browser loads with the page."""

    def __init__(self, text: str) -> None:
        """Parse a page."""
        super().__init__()
        self.leads: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the address of an element. The parser calls this method."""
        attributes = dict(attrs)
        address = attributes.get(LOADED.get(tag, "href"))
        if address and not (tag == "link" and attributes.get("rel") in ("canonical", "prev", "next")):
            (self.loads if tag in LOADED else self.leads).append(address)


def build(root: Path, folder: Path) -> None:
    """Build the site in strict mode.

    Args:
        root: The folder of the project.
        folder: The folder of the site. It is replaced.

    Raises:
        SystemExit: The pages have problems. The message has one line per problem.
    """
    source = folder.parent / f"{folder.name}-source"
    shutil.rmtree(source, ignore_errors=True)
    for path in [path for pattern in FILES for path in root.glob(pattern)]:
        copy = source / "pages" / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    shutil.copy(root / CONFIGURATION, source)
    if problems := navigation_problems(source):
        raise SystemExit("\n".join(problems))
    zensical = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", "zensical.toml"]
    done = subprocess.run(zensical, cwd=source, capture_output=True, text=True, env=os.environ | {"NO_COLOR": "1"})
    if done.returncode != 0:
        raise SystemExit(done.stderr.partition("Traceback")[0])
    if problems := link_problems(source / "site"):
        raise SystemExit("\n".join(problems))
    shutil.rmtree(folder, ignore_errors=True)
    (source / "site").rename(folder)


def navigation_problems(source: Path) -> list[str]:
    """Return the pages that the navigation names and that do not exist, and the pages that it does not name.

    Zensical reports neither.
    """
    named = _pages(tomllib.loads((source / "zensical.toml").read_text())["project"]["nav"])
    pages = [path.relative_to(source / "pages").as_posix() for path in (source / "pages").rglob("*.md")]
    missing = [f"{CONFIGURATION}: nav names {page}, which does not exist" for page in named if page not in pages]
    return missing + [f"{CONFIGURATION}: nav does not name {page}" for page in pages if page not in named]


def _pages(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else []
    return [page for part in parts for page in _pages(part)]


def link_problems(site: Path) -> list[str]:
    """Return the local addresses on built pages that lead nowhere, and the files that need the network.

    Zensical checks links to pages and to headings, but neither images nor links to other files.
    """
    problems = []
    for page in site.rglob("*.html"):
        links = Links(page.read_text())
        external = [address for address in links.loads if urlsplit(address).netloc]
        problems += [f"{page.name}: loads {address} from the network" for address in external]
        for address in [*links.leads, *links.loads]:
            parts = urlsplit(address)
            start = site if parts.path.startswith("/") else page.parent
            is_local = parts.path and not parts.scheme and not parts.netloc
            if is_local and not (start / unquote(parts.path).lstrip("/")).exists():
                problems.append(f"{page.relative_to(site)}: {address} leads to no file")
    return problems


if __name__ == "__main__":
    build(ROOT, Path(sys.argv[1]))
    print(f"{sys.argv[1]}/index.html; to view it: python3 -m http.server --bind 127.0.0.1 --directory {sys.argv[1]}")
