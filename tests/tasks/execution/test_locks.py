"""A lock keeps others out until its block ends, and a stop ends the wait for a lock."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks import tracking
from tasks.execution import interruption
from tasks.execution.locks import exclusive


@pytest.fixture(autouse=True)
def store(new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    tracking.configure()
    interruption.reset()
    yield
    interruption.reset()


def test_others_wait_until_the_block_ends() -> None:
    order = []

    def wait() -> None:
        with exclusive("a"):
            order.append("second")

    with exclusive("a"):
        thread = threading.Thread(target=wait)
        thread.start()
        with exclusive("b"):  # another lock
            time.sleep(0.5)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert list(tracking.machine_folder("locks").iterdir()) == []


def test_a_stop_ends_the_wait() -> None:
    results = []

    def wait() -> None:
        try:
            with exclusive("a"):
                results.append("done")
        except KeyboardInterrupt:
            results.append("interrupted")

    with exclusive("a"):
        thread = threading.Thread(target=wait)
        thread.start()
        interruption.stop()
        thread.join()
    assert results == ["interrupted"]
