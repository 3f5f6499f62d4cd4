"""Evidence that goes on: over a change of process, and over a change of the proxies' names."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

import local_http
import pytest

from serving.release.evidence import ArmEvidence, Evidence, Pairs
from serving.release.journal import evidence_json
from serving.release.prometheus.client import Prometheus
from serving.release.prometheus.templates import envoy_gateway
from windlass.operator import evidence
from windlass.operator.evidence import Places, ReleaseEvidence

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Scraped:
    """A Prometheus' answers: counters by label value, as scraped every second."""

    def __init__(self) -> None:
        self.samples: dict[tuple[str, str], list[tuple[float, int]]] = {}
        self.label, self.metric, self.outcome = "version", "windlass_requests_total", "code"

    def scrape(self, seconds: float, **counts: int) -> None:
        """Version -> answers so far; `v2_500` counts failures."""
        for name, count in counts.items():
            version, _, code = name.partition("_")
            key = (version.removeprefix("v").replace("-", "/"), code or "200")
            self.samples.setdefault(key, []).append((START.timestamp() + seconds, count))

    def answer(self, query: str, time: float) -> Any:
        if "up[" in query:
            return {"resultType": "vector", "result": [{"metric": {}, "value": [time, "1"]}]}
        window = float(re.search(r"\[(\d+)ms\]", query)[1]) / 1000  # type: ignore[index] # every such query has it
        wanted = re.search(self.label + r'=~"([^"]*)"', query)[1]  # type: ignore[index] # every such query has it
        values = [value.replace("\\", "") for value in wanted.split("|")]
        result = []
        for (version, code), samples in self.samples.items():
            inside = [[moment, str(count)] for moment, count in samples if time - window <= moment <= time]
            if version in values and inside:
                metric = {"__name__": self.metric, self.label: version, self.outcome: code, "pod": "p"}
                result.append({"metric": metric, "values": inside})
        return {"resultType": "matrix", "result": result}


@pytest.fixture
def scraped() -> Scraped:
    return Scraped()


@pytest.fixture
def prometheus(scraped: Scraped) -> Iterator[Prometheus]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
            data = scraped.answer(query["query"], float(query["time"]))
            body = json.dumps({"status": "success", "data": data}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with local_http.serving(Handler) as url:
        yield Prometheus(url)


def counted(found: Evidence) -> dict[str, tuple[int, int]]:
    return {version: (arm.requests, arm.errors) for version, arm in sorted(found.arms.items())}


def watching(prometheus: Prometheus, since: datetime, base: Evidence | None, **more: Any) -> ReleaseEvidence:
    return ReleaseEvidence(
        prometheus, "flights", ("1", "2"), since, base, scrape_interval_s=1.0, durations=False, **more
    )


def test_another_process_goes_on_from_the_journal(prometheus: Prometheus, scraped: Scraped) -> None:
    """Verify that what was counted before a restart is neither lost nor counted again."""
    scraped.scrape(-1, v1=1000, v2=0)
    scraped.scrape(1, v1=1090, v2=10)
    first = watching(prometheus, START, None).look(at(2))
    assert counted(first) == {"1": (90, 0), "2": (10, 0)}
    record = {"kind": "decision", "evidence": evidence_json.to_json(first, {})}
    base = evidence.newest([{"kind": "release"}, record, {"kind": "confirmed", "seq": 1}])
    assert base is not None and counted(base) == counted(first) and base.at == at(2)
    scraped.scrape(3, v1=1180, v2=20, v2_500=4)
    second = watching(prometheus, base.at, base)
    assert counted(second.look(at(4))) == {"1": (180, 0), "2": (24, 4)}
    scraped.scrape(5, v1=1200, v2=22, v2_500=4)
    assert counted(second.look(at(6))) == {"1": (200, 0), "2": (26, 4)}


def test_a_journal_without_evidence_begins_at_the_start() -> None:
    """Verify that a release that was only started has no evidence to go on from."""
    assert evidence.newest([]) is None
    assert evidence.newest([{"kind": "release"}, {"kind": "decision", "evidence": None}]) is None


def look(seconds: float, *, silent: bool = False, **requests: int) -> Evidence:
    arms = {version.removeprefix("v"): ArmEvidence(requests=n, units=7) for version, n in requests.items()}
    return Evidence(at(seconds), arms, silent={"prometheus": "it is down"} if silent else {})


@pytest.mark.parametrize(
    ("looks", "goes_on_from"),
    [
        pytest.param([look(0, v1=5), look(1, v1=6)], 1, id="the-newest"),
        pytest.param([look(0, v1=5), look(1, silent=True, v1=5), look(2, silent=True, v1=5)], 0, id="silent-since"),
        pytest.param([look(0, v1=5), look(1, silent=True, v1=8)], 1, id="silent-of-one-version-alone"),
        pytest.param([look(0, silent=True), look(1, silent=True, v1=0)], None, id="silent-from-the-start"),
        pytest.param([look(0, v1=0), look(1, silent=True, v1=0)], 0, id="nothing-answered-yet"),
    ],
)  # fmt: skip
def test_counting_goes_on_from_where_it_got_to(looks: list[Evidence], goes_on_from: int | None) -> None:
    """Verify that what was answered while Prometheus was silent is counted by whoever takes over meanwhile."""
    found = evidence.newest([{"kind": "decision", "evidence": evidence_json.to_json(e, {})} for e in looks])
    assert found == (None if goes_on_from is None else looks[goes_on_from])


def test_two_sources_make_one_look() -> None:
    """Verify who speaks for what, and that what both miss is told by both."""
    counted = Evidence(
        at(9),
        {"1": ArmEvidence(requests=90, errors=2, units=3)},
        silent={"prometheus": "late", "predictions": "late"},
    )
    joined = Evidence(
        at(8),
        {"1": ArmEvidence(units=40, requests=1), "2": ArmEvidence(units=60)},
        {"brier": (0.5,)},
        Pairs(2, 1),
        {"predictions": "away"},
        {"reward": "nonsense"},
        {"feedback": at(7)},
    )
    found = evidence.merged(counted, joined)
    assert found.arms == {"1": ArmEvidence(requests=90, errors=2, units=40), "2": ArmEvidence(units=60)}
    assert (found.at, found.paired, found.pairs) == (at(9), {"brier": (0.5,)}, Pairs(2, 1))
    assert found.silent == {"prometheus": "late", "predictions": "late; away"}
    assert (found.faults, found.reached) == ({"reward": "nonsense"}, {"feedback": at(7)})


def test_proxies_that_change_names_change_no_counts(prometheus: Prometheus, scraped: Scraped) -> None:
    """Verify that what was counted under a place stays its version's when another version gets the place."""
    scraped.label, scraped.metric = "envoy_cluster_name", "envoy_cluster_upstream_rq_xx"
    scraped.outcome = "envoy_response_code_class"
    places: dict[str, tuple[str, ...]] = {"1": ("b/0",), "2": ("b/1",)}

    def now() -> Places:
        return dict(places)

    found = watching(prometheus, START, None, queries=lambda known: envoy_gateway(known or {}), places=now)
    scraped.samples = {}
    for seconds, one, other in ((-1.0, 100, 0), (1.0, 190, 10)):
        scraped.samples.setdefault(("b/0", "2"), []).append((START.timestamp() + seconds, one))
        scraped.samples.setdefault(("b/1", "2"), []).append((START.timestamp() + seconds, other))
    assert counted(found.look(at(2))) == {"1": (90, 0), "2": (10, 0)}
    places.update({"1": ("b/1",), "2": ("b/0",)})
    scraped.samples["b/0", "2"].append((START.timestamp() + 2.5, 200))
    scraped.samples["b/1", "2"].append((START.timestamp() + 2.5, 12))
    assert counted(found.look(at(3))) == {"1": (100, 0), "2": (12, 0)}  # under the old names
    scraped.samples["b/0", "2"].append((START.timestamp() + 4, 250))
    scraped.samples["b/1", "2"].append((START.timestamp() + 4, 17))
    assert counted(found.look(at(5))) == {"1": (105, 0), "2": (62, 0)}


class Split:
    """A Prometheus of servers that answer 100 requests a second, half for each version, and are scraped every 15 s.

    Args:
        unscraped: pod -> from when to when Prometheus fails at it.
    """

    def __init__(self, unscraped: dict[str, tuple[int, int]]) -> None:
        self.pods = {"one": ("1", 3, 50), "two": ("2", 9, 25), "beside": ("2", 12, 25)}
        self.unscraped = unscraped

    def answer(self, query: str, time: float) -> Any:
        if query.startswith("count("):
            return {"resultType": "vector", "result": [{"metric": {}, "value": [time, "1"]}]}
        window = float(re.search(r"\[(\d+)ms\]", query)[1]) / 1000  # type: ignore[index] # every such query has it
        now, result = time - START.timestamp(), []
        for pod, (version, phase, rps) in self.pods.items():
            away = self.unscraped.get(pod, (0, 0))
            moments = [m for m in range(phase - 900, int(now) + 1, 15) if now - window <= m]
            well = {m: not away[0] <= m < away[1] for m in moments}
            if query.startswith("up{"):
                labels, values = {"__name__": "up"}, {m: int(well[m]) for m in moments}
                wanted = re.search('pod=~"([^"]*)"', query)[1]  # type: ignore[index] # every such query has it
                if not re.fullmatch(wanted, pod):
                    continue
            else:
                labels = {"__name__": "windlass_requests_total", "version": version, "code": "200"}
                values = {m: max(0, m) * rps for m in moments if well[m]}
            if values:
                samples = [[START.timestamp() + m, str(value)] for m, value in values.items()]
                result.append({"metric": {**labels, "pod": pod}, "values": samples})
        return {"resultType": "matrix", "result": result}


@pytest.mark.parametrize(
    ("unscraped", "from_s"),
    [
        pytest.param({"two": (100, 280), "beside": (100, 280)}, 0, id="a-version"),
        pytest.param({"two": (100, 280)}, 0, id="one-of-two-pods"),
        pytest.param({"two": (100, 400)}, 300, id="one-of-two-pods-when-another-process-took-over"),
        pytest.param({"two": (-900, 400)}, 0, id="one-of-two-pods-never-before"),
    ],
)
def test_a_gap_in_the_scrapes_is_no_wrong_split(
    scraped: Scraped, prometheus: Prometheus, unscraped: dict[str, tuple[int, int]], from_s: int
) -> None:
    """Verify with an exact half for each version that requests of both, or of none, are counted."""
    scraped.answer = Split(unscraped).answer  # type: ignore[method-assign] # another answer from here on
    found = ReleaseEvidence(
        prometheus,
        "flights",
        ("1", "2"),
        at(from_s),
        None,
        durations=False,
        shares=True,
        pods=("on", "tw", "bes"),
    )
    units: list[tuple[int, int]] = []
    for seconds in range(from_s + 5, 700, 5):
        arms = found.look(at(seconds)).arms
        units.append((arms["1"].units or 0, arms["2"].units or 0))
    assert all(abs(one - two) <= 1 for one, two in units)
    counted = {from_s + 5 * n: one for n, (one, _) in enumerate(units, 1)}
    away, back = next(iter(unscraped.values()))
    assert counted[back - 5] == counted[max(from_s, away) + 65]
    assert counted[695] > counted[500] + 9000
