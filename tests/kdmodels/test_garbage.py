"""Imports without the garbage collector, which goes on afterwards as it was."""

import gc
from collections.abc import Iterator

import pytest

from kdmodels.garbage import uncollected


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    gc.enable()


@pytest.mark.parametrize("enabled", [True, False])
def test_nothing_is_collected_in_the_block_and_all_is_as_before_after_it(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()
    with uncollected(), uncollected():
        assert not gc.isenabled()
    assert gc.isenabled() == enabled


def test_the_collector_goes_on_after_an_import_that_fails() -> None:
    with pytest.raises(ImportError), uncollected():
        raise ImportError
    assert gc.isenabled()
