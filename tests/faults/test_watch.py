"""`kd watch` follows a `kd run` in another process, as docs/nightly.md describes."""

import json
import re

import pytest

from tasks import tracking
from tests.faults.conftest import Workspace
from tests.faults.test_nightly import wait_until


@pytest.mark.fault
def test_a_run_is_followed_to_its_verdict(workspace: Workspace) -> None:
    """Whether the run ends before `kd watch` has started depends on the machine. The result is the same."""
    tracking.configure()
    process = workspace.start("run", "small.yaml", "--quiet", "--json")
    wait_until(lambda: bool(tracking.runs(kind="comparison")))
    watch = workspace.kd("watch", "small")
    stdout, stderr = process.communicate(timeout=600)
    assert (process.returncode, watch.returncode) == (0, 0), stderr + watch.stderr
    assert f"verdict   {json.loads(stdout)['verdict']['reason']}\n" in watch.stdout
    for name in ("teacher", "hard-labels", "kd"):
        assert re.search(rf"^{name}: finished in .+, validation accuracy .+ %$", watch.stderr, re.MULTILINE)
    assert re.search(r"^small: report, .+$", watch.stderr, re.MULTILINE)
