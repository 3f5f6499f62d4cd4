"""The real Envoy before real servers: shares, mirrors, changes under load, refused configurations."""

from __future__ import annotations

import collections
import json
import random
import threading
import time
from dataclasses import replace

import pytest

from serving.release.envoy.access_log import AccessLog
from serving.release.envoy.backend import EnvoyBackend, RejectedError
from windlass.errors import PortInUseError, UsageError, WindlassError


def eventually(condition, seconds=60.0):
    """Wait for what another process does; the assertion is the caller's."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_the_number_in_the_header_picks_the_version(proxy):
    """Verify that shares follow a seeded header exactly, value by value, not on average."""
    proxy.backend.set_weights("flights", {"12": 70, "13": 30})
    caller = proxy.caller()
    draw = random.Random(7)
    for _ in range(400):
        number = draw.randrange(2**32)
        expected = "12" if number % 100 < 70 else "13"
        answer = caller.ask(x_windlass_random=str(number))
        assert (answer.status, answer.body, answer.headers["x-windlass-version"]) == (200, expected, expected)


def test_without_the_header_envoy_draws(proxy):
    proxy.backend.set_weights("flights", {"12": 50, "13": 50})
    caller = proxy.caller()
    counts = collections.Counter(caller.ask().body for _ in range(400))
    # the binomial leaves 100..300 with chance 1e-23
    assert set(counts) == {"12", "13"} and 100 < counts["13"] < 300


def test_a_header_that_is_not_trusted_does_not_pick(proxy):
    proxy.backend.endpoints = replace(proxy.backend.endpoints, trust_random_header=False)
    proxy.backend.set_weights("flights", {"12": 50, "13": 50})
    caller = proxy.caller()
    assert {caller.ask(x_windlass_random="0").body for _ in range(100)} == {"12", "13"}


def test_weights_change_under_load_without_a_failed_request(proxy):
    statuses: collections.Counter[int] = collections.Counter()
    stop = threading.Event()

    def load() -> None:
        caller = proxy.caller()
        while not stop.is_set():
            statuses[caller.ask().status] += 1

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for share in (1, 10, 50, 90, 0, 100, 0, 30):
            split = {"12": 100 - share, "13": share}
            proxy.backend.set_weights("flights", split, mirror_to="13" if share < 50 else None)
            assert proxy.backend.weights("flights") == {v: w for v, w in split.items() if w}
            before = statuses.total()
            assert eventually(lambda before=before: statuses.total() > before + 5)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}


def test_the_split_is_in_force_when_set_weights_returns(proxy):
    """Verify that not one request after a rollback reaches the version that lost its traffic."""
    caller = proxy.caller()
    for _ in range(20):
        proxy.backend.set_weights("flights", {"13": 100})
        assert caller.ask().body == "13"
        proxy.backend.set_weights("flights", {"12": 100})
        assert caller.ask().body == "12"


def test_every_request_is_scored_by_both_versions(proxy):
    """Verify that a mirrored request is counted once on each side, whoever answered it, under one id."""
    proxy.backend.set_weights("flights", {"12": 80, "13": 20}, mirror_to="13")
    caller = proxy.caller()
    served = {f"r-{i}": caller.ask(x_request_id=f"r-{i}", x_windlass_random=str(i)).body for i in range(100)}
    assert collections.Counter(served.values()) == {"12": 80, "13": 20}
    for version, other in (("12", "13"), ("13", "12")):
        copies = lambda v=version: proxy.servers[v].requests(mirrored=True)  # noqa: E731
        expected = {request for request, by in served.items() if by == other}
        assert eventually(lambda c=copies, e=expected: len(c()) >= len(e))
        assert sorted(r["x-request-id"] for r in copies()) == sorted(expected)
        direct = proxy.servers[version].requests(mirrored=False)
        assert {r["x-request-id"] for r in direct} == {r for r, by in served.items() if by == version}


def test_nobody_chooses_a_mirror_from_outside(proxy):
    proxy.backend.set_collector(proxy.servers["collector"].address)
    proxy.backend.set_weights("flights", {"12": 100}, mirror_to="13")
    caller = proxy.caller()
    caller.ask(x_windlass_mirror="collector")
    caller.ask("/v2/models/flights/versions/12/infer", x_windlass_mirror="collector")
    assert eventually(lambda: len(proxy.servers["13"].requests(mirrored=True)) == 1)
    assert proxy.servers["collector"].seen == []


def test_a_dead_mirror_costs_no_caller_an_answer(proxy):
    proxy.backend.set_server("flights", "14", "127.0.0.1:1")
    proxy.backend.set_weights("flights", {"12": 100}, mirror_to="14")
    caller = proxy.caller()
    assert [caller.ask().body for _ in range(20)] == ["12"] * 20


@pytest.mark.parametrize(
    ("path", "served"),
    [
        pytest.param("/v1/models/flights:predict", "13", id="v1"),
        pytest.param("/v2/models/flights/infer", "13", id="v2"),
        pytest.param("/v2/models/flights", "13", id="v2-metadata"),
        pytest.param("/v2/models/flights/versions/12/infer", "12", id="explicit-version"),
        pytest.param("/feedback", "collector", id="feedback"),
        pytest.param("/report/drift.html", "collector", id="report"),
        pytest.param("/v1/models/flightsy:predict", None, id="other-model-with-the-same-beginning"),
        pytest.param("/", None, id="nothing"),
    ],
)
def test_one_port_serves_everything(proxy, path, served):
    proxy.backend.set_collector(proxy.servers["collector"].address)
    proxy.backend.set_weights("flights", {"13": 100})
    answer = proxy.caller().ask(path)
    assert (answer.status, answer.body) == ((200, served) if served else (404, ""))


@pytest.mark.parametrize("given", ["abc-1", "7f0a6c1e-8a2b-4c3d-9e4f-0123456789ab"])
def test_a_request_id_is_kept_bit_by_bit(proxy, given):
    answer = proxy.caller().ask(x_request_id=given)
    assert answer.headers["x-request-id"] == given
    assert proxy.servers["12"].seen[-1]["x-request-id"] == given


def test_a_request_without_an_id_gets_one(proxy):
    caller = proxy.caller()
    first, second = caller.ask(), caller.ask()
    assert len({first.headers["x-request-id"], second.headers["x-request-id"]}) == 2


def test_the_access_log_tells_who_answered_what(proxy):
    proxy.backend.set_server("flights", "14", "127.0.0.1:1")
    proxy.backend.set_weights("flights", {"12": 50, "14": 50})
    caller = proxy.caller()
    caller.ask(x_request_id="good", x_windlass_random="0", x_windlass_at="1360000000.5")
    caller.ask(x_request_id="bad", x_windlass_random="99")
    caller.ask("/nowhere")
    log = AccessLog(proxy.backend.endpoints.access_log)
    found = []
    assert eventually(lambda: found.extend(log.poll()) or len(found) >= 2)
    good, bad = found
    assert (good.request_id, good.model, good.version, good.code) == ("good", "flights", "12", 200)
    assert (good.event_at, good.failed) == (1360000000.5, False)
    assert 0 < good.upstream_ms <= good.duration_ms
    assert (bad.request_id, bad.version, bad.code, bad.failed) == ("bad", "14", 503, True)
    assert log.malformed == 0


def test_a_refused_configuration_leaves_the_old_one_in_force(proxy):
    """Verify that what Envoy rejects is raised with its reason and is not what a restarted Envoy would find."""
    backend = proxy.backend
    backend.set_weights("flights", {"12": 60, "13": 40})
    on_disk = json.loads((backend.directory / "rds.json").read_text())["resources"]
    # a header value that no HTTP message can carry: only Envoy itself notices
    desired = backend._files.desired()
    route = desired.models["flights"]
    odd = replace(route, servers={**route.servers, "1\n4": proxy.servers["13"].address})
    backend._files.desire(replace(desired, models={"flights": odd}))
    with pytest.raises(RejectedError, match=r"what was stays: traffic \{'12': 60, '13': 40\}"):
        backend.set_weights("flights", {"1\n4": 100})
    assert backend.weights("flights") == {"12": 60, "13": 40}
    kept = json.loads((backend.directory / "rds.json").read_text())["resources"]
    weighted = [r for r in kept[0]["virtual_hosts"][0]["routes"] if r["name"] == "flights"]
    assert weighted == [r for r in on_disk[0]["virtual_hosts"][0]["routes"] if r["name"] == "flights"]
    # and the proxy takes the next good one
    backend.remove_server("flights", "1\n4")
    backend.set_weights("flights", {"12": 50, "13": 50})
    assert proxy.backend.weights("flights") == {"12": 50, "13": 50}


@pytest.mark.parametrize(
    ("weights", "mirror", "message"),
    [
        pytest.param({"12": 60, "13": 30}, None, "sum to 100", id="sum-90"),
        pytest.param({"12": 110, "13": -10}, None, "sum to 100", id="negative"),
        pytest.param({"12": 50, "99": 50}, None, "version 99 of flights has no server", id="unknown-version"),
        pytest.param({"12": 100}, "99", "version 99 of flights has no server", id="unknown-mirror"),
    ],
)
def test_weights_that_cannot_be_meant_change_nothing(proxy, weights, mirror, message):
    with pytest.raises(UsageError, match=message):
        proxy.backend.set_weights("flights", weights, mirror_to=mirror)
    assert proxy.backend.weights("flights") == {"12": 100}


def test_another_process_sees_and_moves_the_same_proxy(proxy):
    other = EnvoyBackend.attach(proxy.backend.directory)
    other.set_weights("flights", {"13": 100})
    assert other.running()
    assert proxy.backend.weights("flights") == {"13": 100}
    assert (other.desired("flights").stable, other.desired("flights").previous) == ("13", "12")
    assert proxy.caller().ask().body == "13"


def test_a_restarted_proxy_has_the_same_split(proxy):
    proxy.backend.set_weights("flights", {"12": 25, "13": 75}, mirror_to="13")
    proxy.backend.stop()
    proxy.backend.start()
    assert proxy.backend.weights("flights") == {"12": 25, "13": 75}
    assert proxy.caller().ask(x_windlass_random="30").body == "13"


def test_weights_for_a_proxy_that_is_down_are_kept_for_its_start(proxy):
    attached = EnvoyBackend.attach(proxy.backend.directory, confirm_within=0.2)
    proxy.backend.stop()
    with pytest.raises(WindlassError, match="written but not confirmed"):
        attached.set_weights("flights", {"13": 100})
    proxy.backend.start()
    assert proxy.backend.weights("flights") == {"13": 100}


def test_a_server_that_moved_is_found_at_its_new_address(proxy):
    proxy.backend.set_server("flights", "12", proxy.servers["13"].address)
    assert proxy.caller().ask().body == "13"


def test_a_version_with_traffic_is_not_forgotten(proxy):
    proxy.backend.set_weights("flights", {"12": 100}, mirror_to="13")
    for version in ("12", "13"):
        with pytest.raises(WindlassError, match="still gets traffic"):
            proxy.backend.remove_server("flights", version)
    proxy.backend.set_weights("flights", {"12": 100})
    proxy.backend.remove_server("flights", "13")
    assert proxy.backend.admin.clusters().keys() == {"flights@12", "flights@12/shadow"}


def test_a_model_that_has_no_weights_yet_disturbs_nobody(proxy):
    proxy.backend.set_server("other", "1", proxy.servers["13"].address)
    assert proxy.caller().ask("/v1/models/other:predict").status == 404
    proxy.backend.set_weights("other", {"1": 100})
    assert proxy.caller().ask("/v1/models/other:predict").body == "13"
    assert proxy.caller().ask().body == "12"


def test_a_port_that_is_taken_is_named(proxy, tmp_path):
    second = EnvoyBackend(tmp_path / "second", proxy.backend.endpoints)
    with pytest.raises(PortInUseError, match=str(proxy.backend.endpoints.listener)):
        second.start()


def test_attaching_to_nothing_says_so(tmp_path):
    with pytest.raises(WindlassError, match="windlass up"):
        EnvoyBackend.attach(tmp_path / "nothing")
