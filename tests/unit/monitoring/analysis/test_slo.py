"""Error budgets: counted from the log and from Prometheus' answers, and never good where nobody counted."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from typing import ClassVar

import numpy as np
import pytest
from local_http import serving

from monitoring.analysis import slo
from monitoring.analysis.serving_metrics import Metrics
from monitoring.analysis.slo import OBJECTIVES, Counted, Objective
from monitoring.verdict import Verdict
from windlass.errors import WindlassError

AVAILABILITY, LATENCY = OBJECTIVES
NOW = 1.7e9


@pytest.mark.parametrize(
    ("counted", "remaining", "verdict"),
    [
        pytest.param((10_000, 0), 1.0, "PASS", id="nothing-failed"),
        pytest.param((10_000, 35), 0.5, "PASS", id="half-is-spent"),
        pytest.param((10_000, 140), -1.0, "FAIL", id="twice-overspent"),
        pytest.param((10_000, 75), -0.0714, "INCONCLUSIVE", id="overspent-by-what-chance-does"),
        pytest.param((100, 0), 1.0, "INCONCLUSIVE", id="too-few-requests"),
        pytest.param((0, 0), None, "INCONCLUSIVE", id="no-request"),
    ],
)
def test_a_budget_is_what_the_objective_leaves(
    counted: tuple[float, float], remaining: float | None, verdict: Verdict
) -> None:
    found = slo.budget(AVAILABILITY, Counted("test", counted, {}))
    assert found.verdict == verdict
    assert found.remaining == (None if remaining is None else pytest.approx(remaining, abs=1e-3))


def test_nobody_counted_is_unknown() -> None:
    found = slo.budget(AVAILABILITY, None)
    assert (found.verdict, found.remaining, dict(found.burn)) == ("INCONCLUSIVE", None, {})


def test_the_burn_rate_is_one_where_the_period_just_uses_the_budget_up() -> None:
    found = slo.budget(
        LATENCY, Counted("test", (30_000, 300), {"1h": (1000, 10), "6h": (1000, 144), "3d": (0, 0)})
    )
    assert found.burn == {"1h": pytest.approx(1.0), "6h": pytest.approx(14.4), "3d": None}


def test_slow_answers_are_counted_in_the_log_by_their_age() -> None:
    at = NOW - np.array([60.0, 7200.0, 86_400.0, 31 * 86_400.0])
    found = slo.of_log(at, np.array([51.0, 50.0, 99.0, 99.0]), NOW, LATENCY)
    assert found is not None
    assert found.period == (3, 2)
    assert found.windows == {"1h": (1, 1), "6h": (2, 1), "3d": (3, 2)}


def test_the_log_knows_nothing_of_requests_without_an_answer() -> None:
    """Verify that the availability is not taken from answers, which are all good by nature."""
    assert slo.of_log(np.array([NOW]), np.array([1.0]), NOW, AVAILABILITY) is None
    assert slo.of_log(np.array([NOW]), np.array([np.nan]), NOW, LATENCY) is None


def test_one_unknown_budget_keeps_the_check_from_passing() -> None:
    good, unknown = slo.budget(LATENCY, Counted("log", (10_000, 1), {})), slo.budget(AVAILABILITY, None)
    bad = slo.budget(AVAILABILITY, Counted("test", (10_000, 500), {}))
    assert slo.judge((good, unknown), None).verdict == "INCONCLUSIVE"
    assert slo.judge((good, bad), None).verdict == "FAIL"
    assert slo.judge((good, good), None).verdict == "PASS"


class Answers(BaseHTTPRequestHandler):
    """Answers instant queries from a table; whatever is not in it has no series."""

    table: ClassVar[dict[str, float]] = {}

    def do_GET(self) -> None:
        query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        promql = query["query"][0]
        found = [{"metric": {}, "value": [NOW, str(self.table[promql])]}] if promql in self.table else []
        body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": found}}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def prometheus() -> Iterator[str]:
    Answers.table = {}
    with serving(Answers) as address:
        yield address


def test_requests_and_failures_are_asked_of_prometheus(prometheus: str) -> None:
    """Verify the queries: all requests of the model, and those that failed on our side; none of these is a zero."""
    of = 'windlass_requests_total{model="flights"'
    Answers.table = {
        f"sum(increase({of}}}[30d]))": 10_000.0,
        f'sum(increase({of},code=~"5.."}}[30d]))': 20.0,
        f"sum(increase({of}}}[1h]))": 100.0,
    }
    found = Metrics(prometheus, NOW).counted("flights", AVAILABILITY)
    assert found == Counted("Prometheus", (10_000, 20), {"1h": (100, 0)})
    assert slo.budget(AVAILABILITY, found).verdict == "PASS"


def test_slow_requests_are_those_above_the_bucket(prometheus: str) -> None:
    of = 'model="flights"'
    Answers.table = {
        f"sum(increase(windlass_request_seconds_count{{{of}}}[30d]))": 1000.0,
        f'sum(increase(windlass_request_seconds_bucket{{{of},le="0.05"}}[30d]))': 970.0,
    }
    assert Metrics(prometheus, NOW).counted("flights", LATENCY) == Counted("Prometheus", (1000, 30), {})
    del Answers.table[f'sum(increase(windlass_request_seconds_bucket{{{of},le="0.05"}}[30d]))']
    assert Metrics(prometheus, NOW).counted("flights", LATENCY) is None


def test_a_bucket_of_every_objective_is_exported_by_the_server() -> None:
    """Verify that the bound asked for is one of the model server's buckets: another would match nothing for ever."""
    from serving.runtime.counts import BUCKETS

    bounds = [o.within_ms / 1000 for o in OBJECTIVES if o.within_ms is not None]
    assert bounds
    assert set(bounds) <= set(BUCKETS)


def test_prometheus_without_series_of_the_model_counts_nothing(prometheus: str) -> None:
    metrics = Metrics(prometheus, NOW)
    assert metrics.counted("flights", AVAILABILITY) is None
    assert metrics.resources("flights").cpu_seconds_per_1000 is None


def test_a_prometheus_that_is_down_is_said() -> None:
    with pytest.raises(WindlassError, match="does not answer"):
        Metrics("http://127.0.0.1:9", NOW).counted("flights", AVAILABILITY)


def test_an_objective_of_one_in_a_thousand_needs_no_other_code() -> None:
    strict = Objective("latency", 0.999, within_ms=250.0)
    found = slo.budget(strict, Counted("test", (100_000, 50), {}))
    assert found.remaining == pytest.approx(0.5)
    assert "250 ms" in found.reason
    assert timedelta(days=30) == slo.PERIOD
