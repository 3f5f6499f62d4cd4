"""The real Envoy carries out everything that a `Traffic` can say, and shows it."""

from __future__ import annotations

import collections
import itertools
import random
import socket
import threading
import time
from dataclasses import replace

import pytest

from serving.release import buckets
from serving.release.backend import RejectedError, UnreachableError
from serving.release.envoy.access_log import AccessLog
from serving.release.envoy.admin import AdminError
from serving.release.envoy.config import STREAK
from serving.release.traffic import PREVIEW_HEADER, Assignment, Match, Segments, Traffic, Unit, all_to

USER = Unit("header", "x-user")


def eventually(condition, seconds=60.0):
    """Wait for what another process does; the assertion is the caller's."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def assigned(weights, salt="s", unit=USER, otherwise="12", owned=None):
    owned = buckets.initial(weights) if owned is None else owned
    return Traffic(weights, assignment=Assignment(unit, salt, owned, otherwise))


def owner(traffic, unit):
    held = buckets.bucket(traffic.assignment.salt, unit)
    return next(v for v, rs in traffic.assignment.buckets.items() for low, high in rs if low <= held < high)


def logged(proxy, count):
    log, found = AccessLog(proxy.backend.endpoints.access_log), []
    assert eventually(lambda: found.extend(log.poll()) or len(found) >= count)
    assert log.malformed == 0
    return found


# --- what is shown


@pytest.mark.parametrize(
    "traffic",
    [
        pytest.param(all_to("13"), id="everything-to-one"),
        pytest.param(Traffic({"12": 90, "13": 10}, mirror_to="13", mirror_percent=7), id="a-mirror"),
        pytest.param(Traffic({"13": 100}, mirror_to="13"), id="a-mirror-with-nothing-to-do"),
        pytest.param(Traffic({"12": 50, "13": 50}, mirror_to="12", mirror_percent=0), id="a-mirror-at-nought"),
        pytest.param(
            Traffic(
                {"12": 100},
                matches=(
                    Match("header", PREVIEW_HEADER, "13", "13"),
                    Match("cookie", "tester", "yes", "13"),
                    Match("header", "X-Odd", 'a "q" \\ b', "12"),
                ),
            ),
            id="matches",
        ),
        pytest.param(
            assigned(
                {"12": 99, "13": 1}, salt='é"\\\n', unit=Unit("cookie", "uid"), otherwise="13",
                owned={"13": ((0, 1), (9901, 10_000)), "12": ((1, 9901),)},
            ),
            id="units",
        ),
        pytest.param(
            Traffic({"12": 100}, segments=Segments("x-device", {"phone": {"12": 1, "13": 99}, "a/b": {"13": 100}})),
            id="segments",
        ),
    ],
)  # fmt: skip
def test_what_the_wire_shows_is_what_was_told(proxy, traffic):
    """Verify the read-back, and that a proxy started anew carries out the same."""
    proxy.backend.set_traffic("flights", traffic)
    assert proxy.backend.traffic("flights") == traffic
    proxy.backend.set_traffic("flights", traffic)
    proxy.backend.stop()
    proxy.backend.start()
    assert proxy.backend.traffic("flights") == traffic
    assert proxy.backend.traffic("other") is None


def test_a_proxy_that_is_down_is_unreachable_and_not_without_traffic(proxy):
    proxy.backend.stop()
    with pytest.raises(UnreachableError, match="windlass up"):
        proxy.backend.traffic("flights")


def test_a_refused_assignment_leaves_everything_as_it_was(proxy):
    """Verify that the old matches, units and copies still hold after Envoy said no."""
    before = replace(
        assigned({"12": 50, "13": 50}), mirror_to="13", matches=(Match("header", PREVIEW_HEADER, "13", "13"),)
    )
    proxy.backend.set_traffic("flights", before)
    desired = proxy.backend._files.desired()
    route = desired.models["flights"]
    odd = replace(route, servers={**route.servers, "1\n4": proxy.servers["13"].address})
    proxy.backend._files.desire(replace(desired, models={"flights": odd}))
    with pytest.raises(RejectedError, match="assigned by header x-user is not in force"):
        proxy.backend.set_traffic("flights", assigned({"1\n4": 100}))
    assert proxy.backend.traffic("flights") == before
    assert proxy.caller().ask(x_windlass_preview="13").body == "13"


def test_every_kind_of_traffic_can_follow_every_other_under_load_without_a_failed_request(proxy):
    split = {"12": 50, "13": 50}
    kinds = (
        all_to("12"),
        assigned(split),
        Traffic({"12": 100}, segments=Segments("x-user", {"1": split})),
        replace(assigned({"12": 99, "13": 1}, salt="other"), mirror_to="13"),
        Traffic(split, mirror_to="13", mirror_percent=50, matches=(Match("header", "x-user", "1", "13"),)),
    )
    statuses: collections.Counter[int] = collections.Counter()
    stop = threading.Event()

    def load(user: str) -> None:
        caller = proxy.caller()
        while not stop.is_set():
            statuses[caller.ask(x_user=user).status] += 1

    threads = [threading.Thread(target=load, args=(str(number),)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for first, second in itertools.permutations(kinds, 2):
            for traffic in (first, second):
                proxy.backend.set_traffic("flights", traffic)
                assert proxy.backend.traffic("flights") == traffic
                before = statuses.total()
                assert eventually(lambda before=before: statuses.total() > before + 2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}


# --- matches


def test_a_matched_request_goes_where_it_asks_and_is_no_evidence(proxy):
    """Verify preview header and testers' cookie: they see the version, and nothing of theirs counts or is copied."""
    matches = (Match("header", PREVIEW_HEADER, "13", "13"), Match("cookie", "tester", "yes", "13"))
    proxy.backend.set_traffic("flights", Traffic({"12": 100}, mirror_to="13", matches=matches))
    caller = proxy.caller()
    asked = [
        ("13", "match", {"x_windlass_preview": "13"}),
        ("12", "weights", {"x_windlass_preview": "12"}),
        ("12", "weights", {"x_windlass_preview": "133"}),
        ("13", "match", {"cookie": "a=b; tester=yes; c=d"}),
        ("12", "weights", {"cookie": "tester=no; atester=yes"}),
        ("12", "weights", {}),
    ]
    assert [caller.ask(**headers).body for _, _, headers in asked] == [version for version, _, _ in asked]
    lines = logged(proxy, len(asked))
    assert [line.route for line in lines] == [route for _, route, _ in asked]
    assert [line.counted for line in lines] == [route == "weights" for _, route, _ in asked]
    assert eventually(lambda: len(proxy.servers["13"].requests(mirrored=True)) == 4)
    assert proxy.servers["12"].requests(mirrored=True) == []


def test_a_version_named_in_the_path_is_no_evidence(proxy):
    assert proxy.caller().ask("/v2/models/flights/versions/13/infer").body == "13"
    (line,) = logged(proxy, 1)
    assert (line.route, line.counted, line.version) == ("version", False, "13")


# --- mirrors


def test_a_share_of_the_requests_is_copied_whoever_answers_them(proxy):
    """Verify that version and copy are drawn independently: Envoy has one random number for both."""
    proxy.backend.set_traffic("flights", Traffic({"12": 70, "13": 30}, mirror_to="13", mirror_percent=30))
    caller = proxy.caller()
    answered = collections.Counter(caller.ask().body for _ in range(1500))
    admin = proxy.backend.admin
    assert eventually(lambda: admin.counted("flights", "13", copies=True).in_flight == 0)
    for version, other in (("12", "13"), ("13", "12")):
        copies = admin.counted("flights", other, copies=True).answered
        # eight standard deviations of about 15 and 10 around 30 percent of about 1050 and 450
        assert abs(copies - 0.3 * answered[version]) < (120 if version == "12" else 80)


@pytest.mark.parametrize(
    ("how", "fate"),
    [
        pytest.param({"status": 500}, "failed", id="wrong"),
        pytest.param(None, "failed", id="down"),
        pytest.param({"hold": True}, "in_flight", id="hanging"),
        pytest.param({}, "answered", id="well"),
    ],
)
def test_callers_do_not_notice_a_shadow_and_every_copy_is_accounted_for(proxy, how, fate):
    """Verify that each caller has an answer while not one copy has; sent = answered + failed + in flight."""
    if how is None:
        proxy.backend.set_server("flights", "14", "127.0.0.1:1")
    else:
        proxy.serve("14", **{**how, **({"hold": threading.Event()} if how.get("hold") else {})})
    proxy.backend.set_traffic("flights", Traffic({"12": 100}, mirror_to="14"))
    callers = [proxy.caller() for _ in range(2)]
    # more than a shadow may hold, so that its limits are met as well
    answers = [callers[i % 2].ask(x_request_id=f"r{i}") for i in range(500)]
    assert {(answer.status, answer.body) for answer in answers} == {(200, "12")}
    counted = lambda: proxy.backend.admin.counted("flights", "14", copies=True)  # noqa: E731
    assert eventually(lambda: counted().given == 500 and getattr(counted(), fate) > 0)
    if fate == "in_flight":
        assert (counted().answered, counted().failed) == (0, counted().overflowed)
        assert 128 <= counted().in_flight < 500
    else:
        assert eventually(lambda: getattr(counted(), fate) == 500)
    assert proxy.backend.admin.counted("flights", "12").answered == 500
    if fate == "answered":
        assert eventually(lambda: counted().latency_ms and counted().latency_ms[-1][1] == 500)


# --- units


def random_units(count):
    draw = random.Random(13)
    alphabet = "abcXYZ019 _-.@/=:;,\"'%äößéłж中文字🙂🚀\u00a0"
    units = ["0", "a" * 4000, "🙂", "é", "A", "a", '"', "=", "x" * 1023]
    while len(units) < count:
        unit = "".join(draw.choices(alphabet, k=draw.choice((1, 2, 3, 4, 5, 8, 13, 36, 120)))).strip(
            " \u00a0"
        )
        units += [unit] if unit else []
    return units


def test_envoy_and_python_hash_alike(proxy):
    """Verify bucket, pseudonym and version of 5,000 units, unicode and long ones among them, bit by bit."""
    traffic = assigned({"12": 37, "13": 63}, salt="sälty")
    proxy.backend.set_traffic("flights", traffic)
    caller = proxy.caller()
    units = random_units(5000)
    for unit in units:
        answer = caller.ask(x_user=unit.encode())
        seen = proxy.servers[answer.body].seen[-1]
        shown = (answer.body, int(seen["x-windlass-bucket"]), seen["x-windlass-unit"])
        assert shown == (
            owner(traffic, unit),
            buckets.bucket("sälty", unit),
            buckets.pseudonym("sälty", unit),
        )
    lines = logged(proxy, len(units))
    assert [(a.arm, a.bucket, a.unit) for a in lines] == [
        (owner(traffic, unit), buckets.bucket("sälty", unit), buckets.pseudonym("sälty", unit))
        for unit in units
    ]
    text = proxy.backend.endpoints.access_log.read_text()
    assert not any(unit in text for unit in units if len(unit) == 36)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no-header"),
        pytest.param({"x_user": ""}, id="an-empty-one"),
        pytest.param({"x_windlass_bucket": "9999"}, id="a-bucket-of-ones-own"),
        pytest.param({"x_windlass_bucket": "9999", "x_windlass_unit": "me"}, id="and-a-unit"),
        pytest.param({"x_windlass_mirror": "flights@13"}, id="a-mirror-of-ones-own"),
    ],
)
def test_without_a_unit_one_belongs_to_no_arm_whatever_one_sends(proxy, headers):
    proxy.backend.set_traffic("flights", assigned({"12": 1, "13": 99}, otherwise="12"))
    assert proxy.caller().ask(**headers).body == "12"
    (line,) = logged(proxy, 1)
    assert (line.route, line.counted, line.arm, line.bucket, line.unit) == (
        "unassigned",
        False,
        None,
        None,
        None,
    )
    assert not {"x-windlass-bucket", "x-windlass-unit", "x-windlass-mirror"} & set(
        proxy.servers["12"].seen[-1]
    )


def test_a_caller_cannot_leave_an_arm_by_a_header_of_ours(proxy):
    traffic = assigned({"12": 50, "13": 50})
    proxy.backend.set_traffic("flights", traffic)
    caller = proxy.caller()
    for unit in map(str, range(40)):
        for bucket in ("0000", "9999"):
            assert caller.ask(x_user=unit, x_windlass_bucket=bucket).body == owner(traffic, unit)


@pytest.mark.parametrize(
    ("sent", "unit"),
    [
        pytest.param("uid=ada", "ada", id="alone"),
        pytest.param("a=b; uid=ada; c=d", "ada", id="among-others"),
        pytest.param("xuid=eve; uid=ada", "ada", id="a-longer-name-before"),
        pytest.param("uid=ada; uid=eve", "ada", id="twice"),
        pytest.param('uid="ada l"', "ada l", id="quoted"),
        pytest.param("uid=a=b==", "a=b==", id="signs-in-it"),
        pytest.param("uid=", None, id="empty"),
        pytest.param("uid", None, id="no-value"),
        pytest.param("other=1", None, id="another-cookie"),
    ],
)
def test_a_cookie_can_be_the_unit(proxy, sent, unit):
    proxy.backend.set_traffic("flights", assigned({"12": 50, "13": 50}, unit=Unit("cookie", "uid")))
    assert proxy.caller().ask(cookie=sent).status == 200
    (line,) = logged(proxy, 1)
    assert line.unit == (None if unit is None else buckets.pseudonym("s", unit))


def test_a_unit_that_is_sent_twice_is_one_unit(proxy):
    proxy.backend.set_traffic("flights", assigned({"12": 50, "13": 50}))
    with socket.create_connection(("127.0.0.1", proxy.backend.endpoints.listener)) as connection:
        connection.sendall(
            b"GET /v2/models/flights HTTP/1.1\r\nhost: a\r\nX-User: ada\r\nx-user: eve\r\n\r\n"
        )
        connection.recv(1)
    (line,) = logged(proxy, 1)
    assert line.unit == buckets.pseudonym("s", "ada,eve")


def test_a_user_moves_only_with_their_bucket(proxy):
    """Verify over several changes of weights that exactly the users whose bucket moved get another version."""
    users = [f"user-{i}" for i in range(250)]
    traffic = assigned({"12": 90, "13": 10})
    proxy.serve("14")
    proxy.backend.set_traffic("flights", traffic)
    caller = proxy.caller()
    for weights in (
        {"12": 50, "13": 50},
        {"12": 40, "13": 30, "14": 30},
        {"12": 40, "14": 60},
        {"12": 70, "14": 30},
    ):
        owned = buckets.move(traffic.assignment.buckets, weights)
        traffic = assigned(weights, owned=owned)
        proxy.backend.set_traffic("flights", traffic)
        for _ in range(2):
            assert [caller.ask(x_user=user).body for user in users] == [
                owner(traffic, user) for user in users
            ]


def test_two_experiments_and_a_model_without_one_share_the_listener(proxy):
    for model in ("hotels", "cars"):
        for version in ("12", "13"):
            proxy.backend.set_server(model, version, proxy.servers[version].address)
    first, second = assigned({"12": 50, "13": 50}, salt="one"), assigned({"12": 20, "13": 80}, salt="two")
    proxy.backend.set_traffic("flights", first)
    proxy.backend.set_traffic("hotels", second)
    proxy.backend.set_traffic("cars", all_to("12"))
    caller = proxy.caller()
    for user in map(str, range(60)):
        assert caller.ask(x_user=user).body == owner(first, user)
        assert caller.ask("/v1/models/hotels:predict", x_user=user).body == owner(second, user)
        assert caller.ask("/v1/models/cars:predict", x_user=user).body == "12"
        assert "x-windlass-bucket" not in proxy.servers["12"].seen[-1]
    assert proxy.backend.traffic("flights") == first
    assert proxy.backend.traffic("hotels") == second


def test_both_arms_score_what_an_assigned_unit_asks(proxy):
    proxy.backend.set_traffic("flights", replace(assigned({"12": 50, "13": 50}), mirror_to="13"))
    caller = proxy.caller()
    answered = collections.Counter(caller.ask(x_user=str(i)).body for i in range(100))
    caller.ask()  # without a unit: no arm, no copy
    for version, other in (("12", "13"), ("13", "12")):
        copies = lambda v=version: proxy.servers[v].requests(mirrored=True)  # noqa: E731
        assert eventually(lambda c=copies, o=other: len(c()) >= answered[o])
        assert len(copies()) == answered[other]


# --- segments


def test_a_header_picks_the_weights(proxy):
    """Verify the contextual split: by segment the decided shares, for other values the general ones."""
    by_device = Segments("x-device", {"phone": {"12": 20, "13": 80}, "desk": {"13": 100}})
    proxy.backend.set_traffic("flights", Traffic({"12": 100}, segments=by_device))
    caller = proxy.caller()
    for number in range(100):
        drawn = {"x_windlass_random": str(number)}
        assert caller.ask(x_device="phone", **drawn).body == ("12" if number < 20 else "13")
        assert caller.ask(x_device="desk", **drawn).body == "13"
        assert caller.ask(x_device="phones", **drawn).body == "12"
    shown = collections.Counter((a.route, a.segment, a.counted) for a in logged(proxy, 300))
    assert shown == {
        ("segment", "phone", True): 100,
        ("segment", "desk", True): 100,
        ("weights", None, True): 100,
    }
    assert (proxy.backend.desired("flights").stable, proxy.backend.desired("flights").previous) == (
        "12",
        None,
    )


# --- failures


def test_a_version_that_envoy_does_not_know_has_no_counts(proxy):
    """Verify that what was never measured is not nought."""
    with pytest.raises(AdminError, match="no cluster flights@99"):
        proxy.backend.admin.counted("flights", "99")


def test_a_version_that_fails_is_counted_and_not_cut_off(proxy):
    """Verify that streaks of failures are seen, and that the only server of a version still gets each request."""
    server = proxy.serve("14", status=500)
    proxy.backend.set_traffic("flights", all_to("14"))
    caller = proxy.caller()
    counted = lambda: proxy.backend.admin.counted("flights", "14")  # noqa: E731
    asked = 0
    # a streak is begun anew by Envoy's main thread: what fails until that has its turn counts for none
    while counted().streaks < 3:
        assert {caller.ask().status for _ in range(STREAK)} == {500}
        asked += STREAK
        assert asked <= 20 * STREAK, counted()
    assert len(server.requests(mirrored=False)) == asked
    assert eventually(lambda: (counted().failed, counted().answered) == (asked, 0)), counted()
