"""Traffic to routes and back, without a proxy: what is read is what was told, or is seen to differ."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.release import admission, buckets
from serving.release.envoy import lua as envoy_lua
from serving.release.envoy import routes as envoy_routes
from serving.release.envoy import wire as envoy_wire
from serving.release.envoy.config import ModelRoute, Routing
from serving.release.traffic import Assignment, Match, Segments, Traffic, Unit
from tests.unit.serving.release.test_buckets import ARMS, percents
from windlass.errors import UsageError

SERVERS = dict.fromkeys(ARMS, "127.0.0.1:1")
words = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=8).map(lambda t: f"x-{t}")
values = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=10)
cookie_values = st.text("abcXYZ0123456789!#/|~", min_size=1, max_size=10)
versions = st.sampled_from(ARMS)
units = st.builds(Unit, st.sampled_from(["header", "cookie"]), words)
matches = st.builds(Match, st.just("header"), words, values, versions) | st.builds(
    Match, st.just("cookie"), words, cookie_values, versions
)


@st.composite
def traffics(draw):
    """Every shape that is admitted."""
    weights = draw(percents())
    assignment = segments = None
    if draw(st.booleans()):
        owned = buckets.move(buckets.initial(draw(percents())), weights)
        assignment = Assignment(draw(units), draw(st.text(max_size=12)), owned, draw(versions))
    elif draw(st.booleans()):
        segments = Segments(draw(words), draw(st.dictionaries(values, percents(), min_size=1, max_size=3)))
    return Traffic(
        weights,
        mirror_to=draw(st.none() | versions),
        mirror_percent=draw(st.integers(0, 100)),
        matches=tuple(draw(st.lists(matches, max_size=3))),
        assignment=assignment,
        segments=segments,
    )


def config(traffic, model="flights"):
    """The route configuration for `traffic`, beside that of a model with a similar name."""
    models = {
        name: ModelRoute(SERVERS, t) for name, t in ((model, traffic), ("flight", Traffic({"12": 100})))
    }
    return json.loads(json.dumps(envoy_routes.routes(Routing(1, models))["resources"][0]))


@settings(max_examples=150, deadline=None)
@given(traffics())
def test_what_is_read_back_is_what_was_told(traffic):
    admission.require_meant("flights", traffic, SERVERS)
    meant = admission.canonical(traffic)
    assert admission.canonical(meant) == meant
    assert envoy_wire.traffic(config(meant), "flights") == meant
    assert envoy_wire.traffic(config(meant), "flight") == Traffic({"12": 100})
    assert envoy_wire.traffic(config(meant), "other") is None


FULL = Traffic(
    {"12": 60, "13": 40},
    mirror_to="13",
    mirror_percent=30,
    matches=(Match("header", "x-windlass-preview", "13", "13"),),
    assignment=Assignment(Unit("header", "x-user"), "s", buckets.initial({"12": 60, "13": 40}), "12"),
)
SEGMENTED = Traffic(
    {"12": 100}, segments=Segments("x-device", {"phone": {"12": 30, "13": 70}}), mirror_to="14"
)


def _swap(document, old, new):
    text = json.dumps(document)
    assert old in text
    return json.loads(text.replace(old, new))


@pytest.mark.parametrize(
    ("traffic", "tamper"),
    [
        pytest.param(FULL, lambda d: _swap(d, '"end": 6000', '"end": 5900'), id="a-range"),
        pytest.param(FULL, lambda d: _swap(d, '"numerator": 3000', '"numerator": 0'), id="no-copies"),
        pytest.param(FULL, lambda d: _swap(d, "@12/shadow", "@13/shadow"), id="a-mirror-to-itself"),
        pytest.param(FULL, lambda d: _swap(d, "@13/shadow", "@14/shadow"), id="another-mirror"),
        pytest.param(
            FULL, lambda d: _swap(d, 'NAME, SALT = \\"header', 'NAME, SALT = \\"cookie'), id="another-unit"
        ),
        pytest.param(FULL, lambda d: _swap(d, "0xcc9e2d51", "0xcc9e2d53"), id="another-hash"),
        pytest.param(FULL, lambda d: _swap(d, '"exact": "13"', '"exact": "12"'), id="another-preview"),
        pytest.param(SEGMENTED, lambda d: _swap(d, '"weight": 70', '"weight": 71'), id="a-segments-share"),
        pytest.param(
            SEGMENTED, lambda d: _swap(d, '"exact": "phone"', '"exact": "desk"'), id="a-segments-value"
        ),
        pytest.param(
            SEGMENTED, lambda d: _swap(d, '"value": "flights@14/shadow"', '"value": ""'), id="no-mirror"
        ),
    ],
)
def test_routes_that_somebody_else_wrote_are_seen(traffic, tamper):
    """Verify that a configuration with another effect is never read as the traffic that was told."""
    told = config(traffic)
    assert envoy_wire.traffic(copy.deepcopy(told), "flights") == traffic
    assert envoy_wire.traffic(tamper(told), "flights") != traffic


@given(units, st.text(max_size=20))
def test_the_lua_text_says_whose_it_is_and_carries_no_code_of_others(unit, salt):
    """Verify that a salt, whatever stands in it, is one quoted word in a text that is else always the same."""
    text = envoy_lua.script(unit, salt)
    assert envoy_lua.assigned_by(text) == (unit, salt)
    assert envoy_lua.assigned_by(text + "\n") is None
    assert text.split("\n", 2)[2] == envoy_lua.script(Unit("header", "x"), "").split("\n", 2)[2]


@pytest.mark.parametrize(
    ("traffic", "message"),
    [
        pytest.param(Traffic({"12": 60, "13": 30}), "sum to 100", id="sum-90"),
        pytest.param(Traffic({"12": 110, "13": -10}), "sum to 100", id="negative"),
        pytest.param(
            Traffic({"12": 50, "99": 50}), "version 99 of flights has no server", id="unknown-version"
        ),
        pytest.param(Traffic({"12": 100}, mirror_to="99"), "version 99", id="unknown-mirror"),
        pytest.param(Traffic({"12": 100}, mirror_percent=101), "101 percent", id="more-than-all-copied"),
        pytest.param(
            Traffic({"12": 100}, matches=(Match("header", "x-a", "1", "99"),)),
            "version 99",
            id="unknown-match",
        ),
        pytest.param(
            Traffic({"12": 100}, matches=(Match("header", "x a", "1", "12"),)), "'x a'", id="no-header-name"
        ),
        pytest.param(
            Traffic({"12": 100}, matches=(Match("header", "x-a", "", "12"),)), "x-a = '' of", id="empty-value"
        ),
        pytest.param(
            Traffic({"12": 100}, matches=(Match("cookie", "a", "1;b=2", "12"),)), "1;b=2", id="cookie-value"
        ),
        pytest.param(
            Traffic({"12": 100}, matches=(Match("header", "X-Windlass-Bucket", "1", "12"),)),
            "the proxy's own",
            id="own-header",
        ),
        pytest.param(
            Traffic({"12": 100}, segments=Segments("x-a", {"1": {"12": 99}})),
            "where x-a is 1",
            id="segment-sum",
        ),
        pytest.param(
            Traffic({"12": 100}, segments=Segments("x-a", {" b": {"12": 100}})),
            "x-a = ' b' of",
            id="segment-value",
        ),
        pytest.param(
            Traffic({"12": 100}, segments=Segments("x-a", {"1": {"99": 100}})),
            "version 99",
            id="segment-version",
        ),
        pytest.param(
            Traffic(
                {"12": 100},
                segments=Segments("x-a", {"1": {"12": 100}}),
                assignment=Assignment(Unit("header", "x-u"), "s", {"12": ((0, 10_000),)}, "12"),
            ),
            "give one of the two",
            id="segments-and-units",
        ),
        pytest.param(
            Traffic(
                {"12": 100}, assignment=Assignment(Unit("header", "x-u"), "s", {"12": ((0, 9_000),)}, "12")
            ),
            "belong to nobody",
            id="buckets-missing",
        ),
        pytest.param(
            Traffic(
                {"12": 90, "13": 10},
                assignment=Assignment(Unit("header", "x-u"), "s", {"12": ((0, 10_000),)}, "12"),
            ),
            "buckets.move",
            id="buckets-unlike-weights",
        ),
        pytest.param(
            Traffic(
                {"12": 100}, assignment=Assignment(Unit("header", "x-u"), "s", {"12": ((0, 10_000),)}, "99")
            ),
            "version 99",
            id="nobody-for-the-others",
        ),
    ],
)
def test_traffic_that_cannot_be_meant_is_refused(traffic, message):
    with pytest.raises(UsageError, match=message):
        admission.require_meant("flights", traffic, SERVERS)
