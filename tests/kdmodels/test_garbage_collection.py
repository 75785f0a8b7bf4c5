"""Garbage collection is paused during imports and restored afterwards."""

import gc
from collections.abc import Iterator

import pytest

from kdmodels.garbage_collection import gc_paused


@pytest.fixture(autouse=True)
def restore_garbage_collection() -> Iterator[None]:
    yield
    gc.enable()


@pytest.mark.parametrize("enabled", [True, False])
def test_collection_is_disabled_in_the_block_and_restored_after_it(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()
    with gc_paused(), gc_paused():
        assert not gc.isenabled()
    assert gc.isenabled() == enabled


def test_collection_is_restored_after_a_failed_import() -> None:
    with pytest.raises(ImportError), gc_paused():
        raise ImportError
    assert gc.isenabled()
