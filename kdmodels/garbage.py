"""Imports without Python's garbage collector."""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """For a block that imports: it leaves no garbage, and looking for it is a quarter of an import's time.

    What there is when the block ends is never looked through again: half a million objects, a second each time.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # else a library complains at exit of what it finds alive
        if was:
            gc.enable()
