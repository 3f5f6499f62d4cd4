"""Histograms of latencies: exact where they answer, silent nowhere, small in a journal."""

from __future__ import annotations

import hashlib
import json
import math
from itertools import pairwise

import numpy as np
import pytest

from serving.release.statistics.histogram import EDGES, Histogram, with_edges

INF = math.inf


@pytest.fixture(scope="module")
def latencies():
    return np.random.default_rng(1).lognormal(2, 1.2, 2000).tolist()


def test_the_standard_edges_never_change():
    """Verify that the places to which journals refer stay what they were, on every machine."""
    digest = hashlib.sha256(json.dumps(EDGES).encode()).hexdigest()
    assert digest[:16] == "5256a855fa3e2b6b"
    assert all(1.047 < high / low < 1.051 for low, high in pairwise(EDGES))


@pytest.mark.parametrize("bound", [0.1, 7.5, 50.0, 10_000.0])
def test_the_answers_slower_than_a_bound_are_counted_exactly(latencies, bound):
    histogram = Histogram.of([*latencies, bound], with_edges(bound))
    assert histogram.above(bound) == sum(value > bound for value in latencies)
    assert histogram.n == len(latencies) + 1


def test_a_bound_that_is_no_edge_is_not_guessed(latencies):
    histogram = Histogram.of(latencies)
    with pytest.raises(ValueError, match=r"52 ms is no edge .*with_edges"):
        histogram.above(52)
    assert histogram.edge_for(52) == 53.6
    assert histogram.edge_for(53.6) == 53.6
    assert histogram.edge_for(100_001) == INF


@pytest.mark.parametrize("q", [0.001, 0.5, 0.9, 0.99, 1.0])
def test_a_quantile_is_the_edge_above_the_values_own(latencies, q):
    histogram = Histogram.of(latencies)
    exact = float(np.quantile(latencies, q, method="inverted_cdf"))
    assert histogram.quantile(q) == histogram.edge_for(exact)


def test_the_quantiles_of_nothing_and_beyond_the_last_edge():
    assert Histogram.empty().quantile(0.5) is None
    assert Histogram.of([1.0, 2e5]).quantile(0.9) == INF
    with pytest.raises(ValueError, match="outside"):
        Histogram.of([1.0]).quantile(0)


def test_ranks_lie_in_their_buckets():
    histogram = Histogram((1.0, 2.0), (2, 0, 1))
    assert [histogram.at_rank(rank) for rank in (1, 2, 3)] == [(0.0, 1.0), (0.0, 1.0), (2.0, INF)]
    for rank in (0, 4):
        with pytest.raises(ValueError, match="rank"):
            histogram.at_rank(rank)


def test_what_came_since_the_last_look_is_a_difference(latencies):
    before, new = Histogram.of(latencies[:700]), Histogram.of(latencies[700:])
    now = before.plus(latencies[700:])
    assert now == before + new == Histogram.of(latencies)
    assert now - before == new
    with pytest.raises(ValueError, match="backwards, from 2000 to 700"):
        before - now
    with pytest.raises(ValueError, match="different edges"):
        before + Histogram.empty(with_edges(50))


@pytest.mark.parametrize(
    "edges",
    [
        pytest.param(EDGES, id="standard"),
        pytest.param(with_edges(50, 75.5), id="with-a-checks-bounds"),
        pytest.param((5.0, 10.0, 25.0), id="of-another-program"),
        pytest.param((), id="one-open-bucket"),
    ],
)
def test_json_gives_it_back(latencies, edges):
    histogram = Histogram.of([0.0, *latencies, 2e5], edges)
    assert Histogram.from_json(json.loads(json.dumps(histogram.to_json()))) == histogram


def test_json_holds_only_what_is_there():
    histogram = Histogram.of([8.0] * 1_000_000, with_edges(50))
    assert histogram.to_json() == {"bounds": [50.0], "counts": {"92": 1_000_000}}


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"bounds": [], "counts": {"290": 1}}, id="a-bucket-that-is-not-there"),
        pytest.param({"bounds": [], "counts": {"-1": 1}}, id="a-negative-place"),
        pytest.param({"bounds": [], "counts": {"1": -1}}, id="a-negative-count"),
        pytest.param({"bounds": [-5.0], "counts": {}}, id="a-negative-bound"),
        pytest.param({"edges": [2.0, 1.0], "counts": {}}, id="falling-edges"),
        pytest.param({"edges": [1.0, 1.0], "counts": {}}, id="the-same-edge-twice"),
    ],
)
def test_json_that_cannot_be_is_refused(document):
    with pytest.raises(ValueError):
        Histogram.from_json(document)


def test_prometheus_counts_are_cumulative():
    histogram = Histogram.of_cumulative({INF: 10.0, 5.0: 2.0, 50.0: 9.0})
    assert histogram == Histogram((5.0, 50.0), (2, 7, 1))
    assert histogram.above(50) == 1
    assert Histogram.of_cumulative({0.5: 0.0, 5.0: 0.0, INF: 2.0}).counts == (0, 0, 2)


@pytest.mark.parametrize(
    "cumulative",
    [
        pytest.param({}, id="nothing"),
        pytest.param({5.0: 1.0}, id="no-total"),
        pytest.param({5.0: 3.0, INF: 2.0}, id="falling"),
        pytest.param({5.0: math.nan, INF: 2.0}, id="nan"),
        pytest.param({5.0: -1.0, INF: 2.0}, id="negative"),
        pytest.param({5.0: 1.5, INF: 2.0}, id="not-whole"),
        pytest.param({5.0: 1.0, INF: INF}, id="infinite"),
    ],
)
def test_buckets_that_make_no_sense_are_refused(cumulative):
    with pytest.raises(ValueError):
        Histogram.of_cumulative(cumulative)


@pytest.mark.parametrize("value", [-0.1, math.nan, INF])
def test_a_latency_that_makes_no_sense_is_refused(value):
    with pytest.raises(ValueError, match="makes no sense"):
        Histogram.of([1.0, value])


def test_counts_and_edges_must_match():
    with pytest.raises(ValueError, match="2 edges need 3 counts, not 2"):
        Histogram((1.0, 2.0), (1, 1))


def test_a_bucket_that_is_told_to_be_empty_is_empty():
    assert Histogram.from_json({"bounds": [], "counts": {"3": 0}}).n == 0
