"""How looks at a test split are counted, and what error each may spend."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdmodels.evaluation.looks import Ledger, Look, ledger_of, read_ledgers, similarity, sketch_of


@given(st.integers(1, 2000))
def test_the_levels_of_all_looks_sum_to_5_percent(of: int) -> None:
    levels = [Look(number, of).level for number in range(1, of + 1)]
    assert sum(levels) == pytest.approx(0.05)
    assert levels == sorted(levels, reverse=True)
    assert Look(of + 1, of).level == 0.0


def prints(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def test_a_pair_keeps_its_look_and_a_spent_ledger_records_none() -> None:
    ledger = Ledger("d", 2, ())
    seen = []
    for pair in ("a", "b", "a", "c", "b", "c"):
        look, ledger = ledger.look(pair)
        seen.append((look.number, look.is_spent))
    assert seen == [(1, False), (2, False), (1, False), (3, True), (2, False), (3, True)]
    assert ledger.pairs == ("a", "b")


@pytest.mark.parametrize("count", [0, 1, 400, 401, 1200])
def test_a_ledger_survives_as_tags_that_every_database_holds(count: int) -> None:
    pairs = tuple(f"{number:08x}" for number in range(count))
    ledger = Ledger("0123456789ab", 2000, sketch_of(prints(500, 0)), pairs)
    other = Ledger("ba9876543210", 7, (1, 2), ("x",))
    tags = ledger.tags() | other.tags() | {"kd.lookspring": "no", "owner": "me"}
    assert max(map(len, tags.values())) <= 5_000
    assert read_ledgers(tags) == [ledger, other]


@pytest.mark.parametrize(
    ("shared", "same"), [(1.0, True), (0.95, True), (0.8, True), (0.5, False), (0.2, False), (0.0, False)]
)
def test_splits_that_share_most_examples_share_their_looks(shared: float, same: bool) -> None:
    """Of two splits with 1,000 examples; at 80 % shared the Jaccard similarity is 0.67, at 50 % it is 0.33."""
    first = prints(1_000, 0)
    second = np.concatenate([first[: int(1_000 * shared)], prints(1_000 - int(1_000 * shared), 1)])
    begun = Ledger("first", 365, sketch_of(first), ("a",))
    found = ledger_of([begun], "second-digest", sketch_of(second), 100)
    assert (found is begun) is same
    if not same:
        assert found == Ledger("second-diges", 100, sketch_of(second))


def test_the_similarity_of_sketches_estimates_that_of_the_sets() -> None:
    estimates = []
    for seed in range(50):
        both, one, other = np.split(prints(3_000, seed), [2_000, 2_500])
        estimates.append(similarity(sketch_of(np.append(both, one)), sketch_of(np.append(both, other))))
    assert np.mean(estimates) == pytest.approx(2 / 3, abs=0.03)
    assert np.std(estimates) < 0.09


def test_few_examples_are_compared_exactly() -> None:
    first, second = prints(10, 0), prints(10, 0)[:8]
    assert similarity(sketch_of(first), sketch_of(second)) == 0.8
