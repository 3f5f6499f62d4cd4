"""Mirrored requests: joined by id, whichever answer comes first, and accounted for across restarts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitoring.predictions import Prediction
from serving.release.envoy_admin import AdminError, Counted
from serving.release.statistics.histogram import EDGES
from windlass.errors import WindlassError
from windlass.local.copies import Copies, Sent
from windlass.local.pairs import ScorePairs


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


def pairs():
    return ScorePairs("flights", "12", "13", 0.5, EDGES)


def test_pairs_are_compared_once_both_answers_are_there():
    found = pairs()
    found.add([prediction("a", "12", 0.2), prediction("b", "13", 0.9)])
    assert found.distances == []
    found.add([prediction("b", "12", 0.4, 1.0), prediction("a", "13", 0.3, 1.0)])
    assert found.distances == pytest.approx([0.1, 0.5])
    assert found.disagreements == [0.0, 1.0]
    assert [found.latencies[v].n for v in ("12", "13")] == [2, 2]


def test_what_was_seen_never_changes_its_order():
    found = pairs()
    found.add([prediction("z", "12", 0.2), prediction("z", "13", 0.2)])
    before = list(found.distances)
    found.add([prediction("a", "12", 0.9), prediction("a", "13", 0.1)])
    assert found.distances[: len(before)] == before


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
    assert found.distances == []


class Proxy:
    def __init__(self):
        self.counts: Counted | None = Counted(answered=100, failed=3)

    def __call__(self):
        if self.counts is None:
            raise AdminError("down")
        return self.counts


def test_copies_are_counted_from_the_releases_beginning(tmp_path):
    proxy = Proxy()
    copies = Copies(proxy, tmp_path / "copies.json")
    assert copies.sent() == Sent(0, 0)
    proxy.counts = Counted(answered=150, failed=5)
    assert copies.sent() == Sent(50, 2)


def test_a_restart_of_the_engine_loses_no_copy(tmp_path):
    proxy = Proxy()
    Copies(proxy, tmp_path / "copies.json").sent()
    proxy.counts = Counted(answered=150, failed=5)
    assert Copies(proxy, tmp_path / "copies.json").sent() == Sent(50, 2)


def test_a_restart_of_the_proxy_loses_none_that_was_seen(tmp_path):
    proxy = Proxy()
    copies = Copies(proxy, tmp_path / "copies.json")
    copies.sent()
    proxy.counts = Counted(answered=150, failed=5)
    copies.sent()
    proxy.counts = Counted(answered=10, failed=1)
    assert copies.sent() == Sent(60, 3)
    proxy.counts = Counted(answered=12, failed=1)
    assert Copies(proxy, tmp_path / "copies.json").sent() == Sent(62, 3)


def test_a_proxy_that_does_not_answer_is_no_zero(tmp_path):
    proxy = Proxy()
    proxy.counts = None
    with pytest.raises(WindlassError, match="copies cannot be read"):
        Copies(proxy, tmp_path / "copies.json").sent()
