"""Each block of README.md and docs/ runs, in the order of its page. `make test-docs` runs these tests.

Every page starts from the same folder: a reader who has a folder `photos` and the file mine.yaml of the README, and has
run `digits` and `mine.yaml`.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.services import prefect_server
from tests.docs.blocks import PAGES, ROOT, Block, blocks

pytestmark = pytest.mark.docs
START = (
    "kd run digits --quiet --variants kd-temperature=1,logit-regression --set student.seeds=2\nkd run mine.yaml --quiet"
)
SERVES = re.compile(r"^kd up\b", re.MULTILINE)


@dataclass(frozen=True)
class Reader:
    """A reader with a home folder, a folder for work, and a copy of this folder as it is at the start of a page."""

    folder: Path
    start: Path
    environment: dict[str, str]

    def run(self, block: Block) -> None:
        """Run a block, or write the file that it shows."""
        if block.file:
            (self.folder / block.file).write_text(block.text)
        elif block.language == "sh":
            ports = f" --port {free_port()} --mlflow-port {free_port()}"  # tests never use the default ports
            self.call(["bash", "-euo", "pipefail", "-c", SERVES.sub(lambda match: match[0] + ports, block.text)], block)
        elif block.language == "python":
            self.call([sys.executable, "-c", block.text], block)

    def call(self, command: list[str], block: Block | None = None) -> None:
        """Run a program in the folder. Fail if the program fails."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=900, check=False
        )
        where = block.place if block else "start"
        assert done.returncode == 0, f"{where}\n{command[-1]}\n{done.stdout}\n{done.stderr}"

    def begin(self) -> None:
        """Restore the folder. Its path stays the same, because the store holds absolute paths."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.start, self.folder)


def free_port() -> int:
    with prefect_server.bind(0) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    home = tmp_path_factory.mktemp("reader")
    prefixes = ("PREFECT", "MLFLOW", "KD_", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)} | {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "BROWSER": "true",  # the program that `kd report --open` starts instead of a browser
    }
    reader = Reader(home / "work", home / "start", environment)
    reader.folder.mkdir()
    (photos,) = [block for block in blocks(ROOT / "docs" / "tutorial.md") if block.language == "python"]
    (experiment_file,) = [block for block in blocks(ROOT / "README.md") if block.file == "mine.yaml"]
    reader.run(photos)
    reader.run(experiment_file)
    reader.call(["bash", "-euc", START])
    shutil.copytree(reader.folder, reader.start)
    return reader


def runnable(page: Path) -> list[Block]:
    """Return the blocks that need a reader. tests/docs/test_blocks.py validates the experiments of the others."""
    return [
        block
        for block in blocks(page)
        if not (block.not_run or block.run_by or block.is_doctest)
        and (block.language in ("sh", "python") or block.file)
    ]


RUNNABLE = [page for page in PAGES if any(not block.file for block in runnable(page))]


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(page: Path, reader: Reader) -> None:
    reader.begin()
    try:
        for block in runnable(page):
            reader.run(block)
    finally:
        if any(SERVES.search(block.text) for block in runnable(page)):
            reader.call(["kd", "down"])
