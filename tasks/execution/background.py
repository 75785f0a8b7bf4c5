"""Work that another thread repeats while a block runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeated(work: Callable[[], bool], seconds: float, name: str) -> Iterator[None]:
    """Call a function every few seconds in another thread, until it returns True or the `with` block ends.

    The first call is made after the first interval. When the block ends, a running call is waited for.

    Args:
        work: The function. It must not raise an error, because nothing could handle the error.
        seconds: Time between two calls.
        name: Name of the thread.
    """
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            if work():
                return

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
