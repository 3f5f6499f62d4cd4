"""The parts that fail on purpose do fail, in the way they say, and only then."""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, datetime

import pytest

from serving.release import spec
from serving.release.backend import RejectedError, UnreachableError
from serving.release.evidence import ArmEvidence, Evidence
from serving.release.journal.store import Entry
from serving.release.simulation import faults
from serving.release.simulation.boundaries import Boundaries
from serving.release.simulation.faults import Fault
from serving.release.simulation.gateway import Gateway, Wire
from serving.release.simulation.leadership import FencedError, Leadership
from serving.release.simulation.metrics import Source
from serving.release.simulation.store import Disk, MemoryStore
from serving.release.statistics.moments import Moments
from serving.release.traffic import Traffic, all_to
from windlass.errors import WindlassError

START = datetime(2030, 1, 1, tzinfo=UTC)
SPLIT = Traffic({"12": 90, "13": 10})


@pytest.fixture
def wire():
    return Wire(routes={"flights": all_to("12")}, champions={"flights": "12"})


@pytest.fixture
def gateway(wire):
    return Gateway(wire, Boundaries(), Leadership().take())


@pytest.mark.parametrize(
    ("mode", "error", "shown"),
    [
        pytest.param("conflict", WindlassError, {"12": 100}, id="conflict"),
        pytest.param("rejected", RejectedError, {"12": 100}, id="rejected"),
        pytest.param("disobeyed", RejectedError, {"12": 100}, id="disobeyed"),
        pytest.param("unreachable", UnreachableError, {"12": 100}, id="unreachable"),
        pytest.param("partial", UnreachableError, {"12": 95, "13": 5}, id="half-done"),
        pytest.param("unanswered", UnreachableError, {"12": 90, "13": 10}, id="done-but-unanswered"),
    ],
)
def test_how_a_router_fails(wire, gateway, mode, error, shown):
    wire.mode = mode
    with pytest.raises(error):
        gateway.set_traffic("flights", SPLIT)
    assert wire.routes["flights"].weights == shown


def test_a_stale_read_shows_what_was_before(wire, gateway):
    gateway.set_traffic("flights", SPLIT)
    assert gateway.traffic("flights") == SPLIT
    wire.mode = "stale"
    assert gateway.traffic("flights") == all_to("12")


def test_whoever_leads_no_longer_changes_nothing(wire):
    leadership, disk = Leadership(), Disk()
    old = leadership.take()
    gateway, store = Gateway(wire, Boundaries(), old), MemoryStore(disk, Boundaries(), old)
    leadership.take()
    with pytest.raises(FencedError, match="epoch 1 is over, 2 leads"):
        gateway.set_traffic("flights", SPLIT)
    with pytest.raises(FencedError):
        gateway.set_champion("flights", "13")
    with pytest.raises(FencedError):
        store.append(Entry("flights", 1, "flights-13"), {"kind": "confirmed", "seq": 1})
    assert (wire.routes["flights"], wire.champions["flights"], disk.journals) == (all_to("12"), "12", {})


def test_a_journal_holds_text_and_no_nan():
    disk = Disk()
    store, entry = MemoryStore(disk, Boundaries(), Leadership().take()), Entry("flights", 1, "flights-13")
    store.append(entry, {"kind": "confirmed", "seq": 1})
    assert list(store.records(entry)) == [{"kind": "confirmed", "seq": 1}]
    with pytest.raises(ValueError, match="JSON"):
        store.append(entry, {"kind": "confirmed", "seq": math.nan})
    disk.full = True
    with pytest.raises(WindlassError, match="no space left"):
        store.append(entry, {"kind": "confirmed", "seq": 2})
    assert [json.loads(line)["seq"] for line in disk.journals[entry]] == [1]


def seen(requests):
    arm = ArmEvidence(requests, 1, outcomes={"reward": Moments(n=requests, y=2.0, yy=2.0)})
    return Evidence(START, {"12": arm, "13": arm}, {"brier": (0.0, 1.0)})


@pytest.fixture
def source(document):
    return Source(spec.parse(document))


def read(source, kind, number=0):
    source.read(seen(10), None)
    source.read(seen(20), None)
    return source.read(seen(30), None if kind is None else Fault(kind, 1, 2, number))


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        pytest.param(
            "nan", lambda e: math.isnan(e.paired["brier"][-1]) and "errorRate" in e.faults, id="nan"
        ),
        pytest.param("negative", lambda e: e.arms["13"].errors == -1, id="negative"),
        pytest.param("reset", lambda e: e.arms["13"].requests == 10, id="reset"),
        pytest.param("late", lambda e: e == seen(20), id="late"),
        pytest.param("reorderedMetrics", lambda e: e == seen(20), id="reordered"),
        pytest.param("duplicatedMetrics", lambda e: e == seen(20), id="duplicated"),
        pytest.param("partialMetrics", lambda e: list(e.arms) == ["13"], id="partial"),
        pytest.param("misspelled", lambda e: list(e.silent) == ["envoy"] and not e.arms, id="misspelled"),
        pytest.param("silent", lambda e: set(e.silent) == {"envoy", "predictions", "feedback"}, id="silent"),
        pytest.param("nonsense", lambda e: e.arms["13"].errors > e.arms["13"].requests, id="nonsense"),
    ],
)
def test_how_a_source_fails(source, kind, what):
    found, clean = read(source, kind)
    assert what(found)
    assert not clean


def test_a_source_that_works_says_what_happened(source):
    assert read(source, None) == (seen(30), True)


def test_a_schedule_is_over_when_it_says_and_spares_what_it_is_told_to():
    found = faults.schedule(random.Random(3), 1, 900, frozenset({"outage"}))
    assert {fault.kind for fault in found} == set(faults.KINDS) - {"outage"}
    assert max(fault.end for fault in found) <= 900
    assert found == faults.schedule(random.Random(3), 1, 900, frozenset({"outage"}))
