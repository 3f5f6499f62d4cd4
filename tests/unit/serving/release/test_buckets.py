"""Units, buckets and their moves, without a proxy."""

from __future__ import annotations

import collections
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.release import buckets
from serving.release.traffic import BUCKETS
from windlass.errors import UsageError

ARMS = ("12", "13", "14", "15", "16")


@st.composite
def percents(draw, arms=ARMS):
    """Weights of some arms, zeros among them, that sum to 100."""
    named = draw(st.lists(st.sampled_from(arms), min_size=1, max_size=len(arms), unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=len(named) - 1, max_size=len(named) - 1)))
    edges = [0, *cuts, 100]
    return {version: edges[i + 1] - edges[i] for i, version in enumerate(named)}


def owners(owned):
    """Bucket -> version."""
    return {b: version for version, ranges in owned.items() for low, high in ranges for b in range(low, high)}


@pytest.mark.parametrize(
    ("data", "seed", "expected"),
    [
        pytest.param(b"", 0, 0, id="nothing"),
        pytest.param(b"", 1, 0x514E28B7, id="nothing-seeded"),
        pytest.param(b"", 0xFFFFFFFF, 0x81F16F39, id="nothing-all-ones"),
        pytest.param(b"\0\0\0\0", 0, 0x2362F9DE, id="zeros"),
        pytest.param(b"\xff\xff\xff\xff", 0, 0x76293B50, id="ones"),
        pytest.param(b"\x21\x43\x65", 0, 0x7E4A8634, id="a-tail-of-three"),
        pytest.param(b"aaaa", 0x9747B28C, 0x5A97808A, id="a-block"),
        pytest.param(b"Hello, world!", 0x9747B28C, 0x24884CBA, id="words"),
    ],
)
def test_the_hash_is_the_published_one(data, seed, expected):
    assert buckets.murmur3(data, seed) == expected


def test_the_hash_agrees_with_an_independent_implementation():
    mmh3 = pytest.importorskip("mmh3")
    draw = random.Random(3)
    for length in range(300):
        data, seed = draw.randbytes(length), draw.getrandbits(32)
        assert buckets.murmur3(data, seed) == mmh3.hash(data, seed, signed=False)


def test_units_fill_the_buckets_evenly():
    """Verify with chi-square over 1,000 groups of buckets that numbered users, the worst units there are, spread."""
    counts = collections.Counter(buckets.bucket("spring", f"user-{i}") // 10 for i in range(100_000))
    statistic = sum((counts[group] - 100) ** 2 / 100 for group in range(1000))
    # 999 degrees of freedom: mean 999, standard deviation 44.7; five of them either way
    assert 775 < statistic < 1223


def test_two_experiments_divide_users_independently():
    """Verify with chi-square over 20 x 20 cells that one experiment's buckets say nothing of another's."""
    cells = collections.Counter(
        (buckets.bucket("spring", f"user-{i}") // 500, buckets.bucket("summer", f"user-{i}") // 500)
        for i in range(60_000)
    )
    statistic = sum((cells[a, b] - 150) ** 2 / 150 for a in range(20) for b in range(20))
    # 399 degrees of freedom: standard deviation 28.2
    assert 258 < statistic < 540


def test_every_bit_of_a_unit_reaches_every_bit_of_the_hash():
    """Verify avalanche: a flipped bit of the unit flips each bit of the hash in about half of the cases."""
    draw = random.Random(5)
    flips = [0] * 32
    trials = 0
    for _ in range(300):
        unit = bytearray(draw.randbytes(9))
        before = buckets.murmur3(bytes(unit), 7)
        for bit in range(0, 72, 5):
            unit[bit // 8] ^= 1 << bit % 8
            changed = before ^ buckets.murmur3(bytes(unit), 7)
            unit[bit // 8] ^= 1 << bit % 8
            trials += 1
            for position in range(32):
                flips[position] += changed >> position & 1
    assert all(0.45 < count / trials < 0.55 for count in flips)


def test_a_pseudonym_belongs_to_its_experiment_and_hides_the_unit():
    known = buckets.pseudonym("spring", "ada@example.org")
    assert re.fullmatch("[0-9a-f]{16}", known)
    assert (
        known
        == buckets.pseudonym("spring", b"ada@example.org")
        != buckets.pseudonym("summer", "ada@example.org")
    )
    assert len({buckets.pseudonym("spring", f"u{i}") for i in range(20_000)}) == 20_000


@given(percents())
def test_a_new_experiment_has_one_range_a_version(weights):
    owned = buckets.initial(weights)
    buckets.require_partition(owned)
    assert {v: buckets.size(r) for v, r in owned.items()} == {v: w * 100 for v, w in weights.items() if w}
    assert all(len(ranges) == 1 for ranges in owned.values())


@settings(max_examples=60, deadline=None)
@given(percents(), st.lists(percents(), min_size=1, max_size=4))
def test_a_move_takes_what_is_too_much_gives_what_is_lacking_and_touches_nothing_else(first, changes):
    """Verify for every step that each version loses or gains exactly 100 |b - a| buckets, and none does both."""
    owned, weights = buckets.initial(first), first
    for wanted in changes:
        after = buckets.move(owned, wanted)
        buckets.require_partition(after)
        assert after == buckets.move(owned, wanted)
        before_by, after_by = owners(owned), owners(after)
        moved = [b for b in range(BUCKETS) if before_by[b] != after_by[b]]
        lost = collections.Counter(before_by[b] for b in moved)
        gained = collections.Counter(after_by[b] for b in moved)
        for version in ARMS:
            change = wanted.get(version, 0) - weights.get(version, 0)
            assert (gained[version], lost[version]) == (max(change, 0) * 100, max(-change, 0) * 100)
        owned, weights = after, wanted


def test_ranges_stay_few_however_often_weights_change():
    """Verify that a bandit's thousand changes do not shatter the buckets into a route for each."""
    draw = random.Random(11)
    owned = buckets.initial(dict.fromkeys(ARMS, 20))
    most = 0
    for _ in range(1000):
        cuts = [0, *sorted(draw.randrange(101) for _ in ARMS[1:]), 100]
        owned = buckets.move(owned, {v: cuts[i + 1] - cuts[i] for i, v in enumerate(ARMS)})
        most = max(most, sum(len(ranges) for ranges in owned.values()))
    assert most <= 20


@pytest.mark.parametrize(
    ("owned", "message"),
    [
        pytest.param({"12": ((0, 9999),)}, "from 9999 on belong to nobody", id="one-is-missing"),
        pytest.param(
            {"12": ((0, 5000),), "13": ((4999, 10000),)}, r"\[4999, 10000\) of version 13", id="twice"
        ),
        pytest.param({"12": ((0, 5000), (5001, 10000))}, r"\[5001, 10000\)", id="a-hole"),
        pytest.param({"12": ((0, 10001),)}, "10001", id="too-many"),
        pytest.param({}, "from 0 on", id="none"),
    ],
)
def test_buckets_that_are_not_each_once_are_refused(owned, message):
    with pytest.raises(UsageError, match=message):
        buckets.require_partition(owned)


@pytest.mark.parametrize("weights", [{"12": 99}, {"12": 101, "13": -1}, {"12": 50.5, "13": 49.5}, {}])
def test_weights_that_are_no_percents_are_refused(weights):
    for refuse in (buckets.initial, lambda w: buckets.move({"12": ((0, BUCKETS),)}, w)):
        with pytest.raises(UsageError, match="whole percents that sum to 100"):
            refuse(weights)


@settings(max_examples=50, deadline=None)
@given(st.tuples(st.integers(0, BUCKETS), st.integers(0, BUCKETS)).filter(lambda p: p[0] != p[1]))
def test_a_pattern_matches_the_numbers_of_its_range_and_no_others(edges):
    low, high = sorted(edges)
    expression = re.compile(buckets.pattern(low, high))
    near = {*range(max(low - 20, 0), low + 20), *range(max(high - 20, 0), high + 20), *range(0, BUCKETS, 7)}
    for number in near - set(range(BUCKETS, BUCKETS + 20)):
        assert bool(expression.fullmatch(f"{number:04d}")) is (low <= number < high)
    assert not expression.fullmatch(str(low)) or low >= 1000
