"""Mirrored requests: joined by id, whichever answer comes first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitoring.labels import Label
from monitoring.predictions import Prediction
from monitoring.release_evidence.losses import Losses
from monitoring.release_evidence.pairs import ScorePairs
from monitoring.release_evidence.times import PRESENT
from serving.release.evidence import DISTANCE_STEPS, Pairs
from serving.release.statistics.histogram import EDGES


def prediction(name, version, score, at=0.0):
    return Prediction(
        request_id=name,
        model="flights",
        version=version,
        at=at,
        entities={},
        request={},
        features=(),
        score=score,
        latency_ms=3.0,
        source="online",
        mirrored=version == "13",
    )


def pairs(joined=None):
    return ScorePairs("flights", "12", "13", 0.5, EDGES, joined=joined)


def test_pairs_are_compared_once_both_answers_are_there():
    found = pairs()
    found.add([prediction("a", "12", 0.2), prediction("b", "13", 0.9)])
    assert found.sums() == Pairs()
    found.add([prediction("b", "12", 0.4, 1.0), prediction("a", "13", 0.3, 1.0)])
    assert found.sums() == Pairs(2, 1, {100: 1, 500: 1})
    assert [found.latencies[v].n for v in ("12", "13")] == [2, 2]


def test_a_distance_is_at_most_one():
    found = pairs()
    found.add([prediction("a", "12", -3.0), prediction("a", "13", 40.0)])
    assert found.sums().distances == {DISTANCE_STEPS: 1}


def test_the_sums_do_not_depend_on_what_was_read_at_once():
    answers = [
        prediction(f"q{n}", version, (n * (7 if version == "12" else 5) % 10) / 10, at=n)
        for version in ("12", "13")
        for n in range(50)
    ]
    at_once, one_by_one = pairs(), pairs()
    at_once.add(answers)
    for answer in reversed(answers):
        one_by_one.add([answer])
    assert at_once.sums() == one_by_one.sums()
    assert at_once.sums().n == 50


def test_two_files_that_are_read_at_once_lose_no_partner(monkeypatch):
    """Verify that a restart, which reads one version's log after the other's, joins what a running platform joined."""
    monkeypatch.setattr("monitoring.release_evidence.pairs.MOST_WAITING", 5)
    found = pairs()
    found.add([prediction(f"q{n}", version, 0.5, at=0.0) for version in ("12", "13") for n in range(100)])
    assert found.sums().n == 100


# --- losses


def losses(since=0.0):
    return Losses(since, PRESENT)


def test_losses_come_in_the_order_in_which_their_labels_became_known():
    found = losses()
    for name in ("a", "b", "c"):
        found.add_pair(name, 0.4, 0.9)
    found.add_labels(
        [Label("c", 1, 1.0), Label("a", 0, 2.0), Label("alone", 1, 3.0), Label("b", None, 4.0, 1.0)]
    )
    assert found.differences() == pytest.approx([0.1**2 - 0.6**2, 0.9**2 - 0.4**2])


def test_what_was_handed_out_stays_at_its_place():
    found = losses()
    found.add_pair("z", 0.2, 0.4)
    found.add_labels([Label("z", 1, 9.0)])
    before = found.differences()
    found.add_pair("a", 0.9, 0.1)
    found.add_labels([Label("a", 1, 1.0)])
    assert found.differences()[: len(before)] == before
    assert len(found.differences()) == 2


def test_a_label_may_come_before_its_pair_and_counts_once():
    found = losses()
    found.add_labels([Label("a", 1, 5.0), Label("a", 0, 6.0)])
    found.add_pair("a", 0.0, 1.0)
    found.add_labels([Label("a", 1, 7.0)])
    assert found.differences() == (-1.0,)


def test_of_an_id_that_comes_again_the_first_pair_is_kept():
    found = losses()
    found.add_pair("a", 0.0, 1.0)
    found.add_pair("a", 1.0, 0.0)
    found.add_labels([Label("a", 1, 1.0)])
    assert found.differences() == (-1.0,)


def test_labels_go_by_their_arrival():
    found = losses(since=100.0)
    found.add_labels([Label("old", 1, 200.0, received=99.0), Label("new", 1, 5.0, received=101.0)])
    found.add_pair("old", 0.0, 1.0)
    found.add_pair("new", 0.0, 1.0)
    assert found.differences() == (-1.0,)


def test_the_oldest_pairs_are_forgotten(monkeypatch):
    monkeypatch.setattr("monitoring.release_evidence.losses.MOST_WAITING", 10)
    found = losses()
    for n in range(11):
        found.add_pair(f"q{n}", 0.0, 1.0)
    found.add_labels([Label(f"q{n}", 1, 1.0) for n in range(11)])
    assert len(found.differences()) == 10


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(prediction("a", "12", 0.9), id="the-same-version-twice"),
        pytest.param(prediction("a", "11", 0.9), id="another-version"),
        pytest.param(replace(prediction("a", "13", 0.9), model="taxis"), id="another-model"),
    ],
)
def test_what_is_no_pair_is_not_joined(other):
    found = pairs()
    found.add([prediction("a", "12", 0.2), other])
    assert found.sums() == Pairs()
