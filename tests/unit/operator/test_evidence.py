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

from serving.release.evidence import ArmEvidence, Evidence
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
        window = float(re.search(r"\[(\d+)ms\]", query)[1]) / 1000  # type: ignore[index]
        wanted = re.search(self.label + r'=~"([^"]*)"', query)[1]  # type: ignore[index]
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


def test_a_silent_look_does_not_hide_what_was_counted() -> None:
    """Verify that the newest evidence with counts is gone on from."""
    full = Evidence(START, {"1": ArmEvidence(requests=5)})
    silent = Evidence(at(1), silent={"prometheus": "it is down"})
    records = [{"kind": "decision", "evidence": evidence_json.to_json(e, {})} for e in (full, silent)]
    found = evidence.newest(records)
    assert found is not None and counted(found) == {"1": (5, 0)}


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
