"""The prediction cache: which rows are the same question, for how long, and how many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.runtime.flow.cache import PredictionCache
from serving.runtime.manifest import Cache

NAMES = ("a", "b", "c")
ROWS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 8), st.just(3)),
    elements=st.sampled_from([0.0, -0.0, 1.0, -1.0, np.nan, np.inf, 1e-45, 3.4e38]).map(np.float32),
)


def cache(ttl_s: float = 60.0, keys: tuple[str, ...] = (), entries: int = 100) -> PredictionCache:
    return PredictionCache(Cache(ttl_s, keys, entries), NAMES, lambda: NOW[0])


NOW = [0.0]


def row(*values: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array([values], dtype=np.float32)


@settings(max_examples=200, deadline=None)
@given(rows=ROWS, keys=st.sampled_from([(), ("a",), ("c", "a"), NAMES]))
def test_two_rows_are_the_same_question_where_their_keys_are_equal(
    rows: np.ndarray[tuple[int, int], np.dtype[np.float32]], keys: tuple[str, ...]
) -> None:
    """Verify that keys are equal exactly where the named values are: zero has two signs, a missing value is itself."""
    found = cache(keys=keys).keys(rows)
    columns = [NAMES.index(k) for k in keys] or [0, 1, 2]
    for i in range(len(rows)):
        for j in range(len(rows)):
            same = np.array_equal(rows[i, columns], rows[j, columns], equal_nan=True)
            assert (found[i] == found[j]) == same


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        pytest.param((0.0, 1.0, 2.0), (-0.0, 1.0, 2.0), True, id="zero-has-two-signs"),
        pytest.param((np.nan, 1.0, 2.0), (np.nan, 1.0, 2.0), True, id="missing"),
        pytest.param((np.nan, 1.0, 2.0), (0.0, 1.0, 2.0), False, id="missing-is-not-zero"),
        pytest.param(
            (1.0, 1.0, 2.0), (1.0, 1.0, np.nextafter(np.float32(2), np.float32(3))), False, id="one-bit"
        ),
    ],
)
def test_the_same_question_gets_the_same_answer(
    first: tuple[float, ...], second: tuple[float, ...], same: bool
) -> None:
    """Verify that an answer is found for an equal row and for no other."""
    kept = cache()
    kept.put(kept.keys(row(*first)), [0.5])
    assert kept.get(kept.keys(row(*second))) == ([0.5] if same else None)
    assert (kept.hits, kept.misses) == ((1, 0) if same else (0, 1))


def test_an_answer_of_zero_is_an_answer() -> None:
    """Verify that what is found is told from what is not, whatever it is."""
    kept = cache()
    kept.put([b"zero", b"list"], [0.0, []])
    assert kept.get([b"zero", b"list"]) == [0.0, []]


def test_a_request_is_answered_whole_or_not() -> None:
    """Verify that one row that is not there makes the request a miss, counted once."""
    kept = cache()
    kept.put([b"x"], [1.0])
    assert kept.get([b"x", b"y", b"z"]) is None
    assert (kept.hits, kept.misses) == (0, 1)


def test_an_answer_has_its_time() -> None:
    """Verify that an answer is given up to its age, and that a new one begins anew."""
    kept = cache(ttl_s=10.0)
    NOW[0] = 100.0
    kept.put([b"x"], [1.0])
    NOW[0] = 110.0
    assert kept.get([b"x"]) == [1.0]
    NOW[0] = 110.1
    assert kept.get([b"x"]) is None
    kept.put([b"x"], [2.0])
    NOW[0] = 120.0
    assert kept.get([b"x"]) == [2.0]


@pytest.mark.parametrize("entries", [1, 2, 3, 100], ids=str)
@pytest.mark.parametrize("together", [1, 7], ids=["row-by-row", "requests-of-rows"])
def test_the_cache_is_bounded_and_keeps_the_newest(entries: int, together: int) -> None:
    """Verify that however many rows come, so many are kept, and that the last is among them."""
    kept = cache(entries=entries)
    for i in range(0, 20 * entries, together):
        keys = [b"%d" % n for n in range(i, i + together)]
        kept.put(keys, [float(n) for n in range(i, i + together)])
        assert len(kept._young) + len(kept._old) <= max(2, entries) + together
        assert kept.get(keys[-1:]) == [float(i + together - 1)]


def test_a_stale_entry_does_not_hide_behind_a_newer_generation() -> None:
    """Verify that of a row that is in both generations the younger answer counts."""
    kept = cache(entries=4)
    kept.put([b"x", b"y"], [1.0, 1.0])
    kept.put([b"x"], [2.0])
    assert kept.get([b"x"]) == [2.0]
