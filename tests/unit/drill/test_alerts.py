"""What two scrapes saw is judged by the real rules: a drill must not pass by a rule that rings anyway, or never."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from windlass.drill import alerts, pages
from windlass.drill.alerts import Phase
from windlass.drill.pages import Scrape, Series, Target
from windlass.errors import WindlassError

NOW = 1_800_000_000.0
OWN = {"instance": "127.0.0.1:1", "job": "windlass-serving"}


def series(name: str, **labels: str) -> Series:
    return Series(name, tuple(sorted({**labels, **OWN}.items())))


def scrape(values: Mapping[Series, float], counters: set[Series] | None = None) -> Scrape:
    return Scrape(NOW, dict(values), frozenset(counters or ()))


REQUESTS = series("windlass_requests_total", model="m", version="1", protocol="v1", code="200")
FAILED = series("windlass_requests_total", model="m", version="1", protocol="v1", code="503")
UP = series("up")
SUCCESS = series("windlass_analysis_last_success_timestamp_seconds", model="m")
REFUSED = series("windlass_retrain_data_refused", model="m")
CALM = {UP: 1.0, REQUESTS: 100.0, SUCCESS: NOW - 3600, REFUSED: 0.0}


def phase(first: Mapping[Series, float], second: Mapping[Series, float]) -> Phase:
    counters = {REQUESTS, FAILED}
    return Phase(scrape(first, counters), scrape(second, counters))


BEFORE = phase(CALM, {**CALM, REQUESTS: 200.0})


def test_a_timeline_goes_on_as_two_scrapes_saw_it() -> None:
    """Verify a gauge, a counter across both phases, one that begins, a restart, a series that ends, and a time."""
    gone, begins = series("windlass_window_rows", model="m"), FAILED
    before = phase({**CALM, gone: 5.0}, {**CALM, gone: 6.0, REQUESTS: 110.0})
    during = phase({**CALM, REQUESTS: 110.0}, {**CALM, REQUESTS: 4.0, begins: 3.0, REFUSED: 1.0})
    lines = {s: v.split() for s, v in alerts.timeline(before, during).items()}
    b = alerts.BEFORE
    assert lines[REFUSED][b - 1 : b + 1] == ["0", "1"]
    assert lines[REQUESTS][:2] == ["110", "120"]
    # started anew, it counted 4: so many a minute
    assert float(lines[REQUESTS][b]) == float(lines[REQUESTS][b - 1]) + 4
    assert lines[begins][b - 1 : b + 2] == ["_", "3", "6"]
    assert lines[gone][b - 1 : b + 2] == ["6", "stale", "_"]
    assert lines[SUCCESS][0] == "-3600"
    assert {len(values) for values in lines.values()} == {alerts.BEFORE + alerts.DURING}


@pytest.mark.parametrize(
    ("during", "fires"),
    [
        pytest.param(BEFORE, set(), id="nothing-happened"),
        pytest.param(
            phase(CALM, {**CALM, REQUESTS: 180.0, FAILED: 20.0}),
            {"WindlassErrorBudgetBurnFast", "WindlassErrorBudgetBurnSlow"},
            id="a-fifth-fails",
        ),
        pytest.param(
            phase(CALM, {**CALM, REQUESTS: 200.0, REFUSED: 1.0}),
            {"WindlassTrainingDataRefused"},
            id="a-gauge",
        ),
        pytest.param(
            phase({UP: 0.0}, {UP: 0.0}), {"WindlassMetricsAbsent", "WindlassAnalysisAbsent"}, id="gone"
        ),
        pytest.param(
            phase(CALM, {**CALM, REQUESTS: 200.0, SUCCESS: NOW - 3 * 86400}),
            {"WindlassAnalysisAbsent"},
            id="old",
        ),
    ],
)
def test_the_real_rules_decide(during: Phase, fires: set[str]) -> None:
    """Verify which alerts ring during a fault, that none does before it, and that labels are read."""
    found = alerts.evaluate(BEFORE, during)
    assert found.before == {}
    assert set(found.during) == fires
    if "WindlassTrainingDataRefused" in fires:
        (labels,) = found.during["WindlassTrainingDataRefused"]
        assert labels == {"model": "m", "severity": "ticket"}


def test_an_alert_that_rings_before_the_fault_is_seen() -> None:
    """Verify that the calm phase is judged as well."""
    refused = {**CALM, REFUSED: 1.0}
    found = alerts.evaluate(phase(refused, {**refused, REQUESTS: 200.0}), BEFORE)
    assert set(found.before) == {"WindlassTrainingDataRefused"}


def test_rules_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    """Verify that no alert is not what a broken file gives."""
    broken = tmp_path / "rules.yaml"
    broken.write_text("groups: [{name: g, rules: [{alert: A, expr: 'up =='}]}]")
    with pytest.raises(WindlassError, match="promtool does not evaluate"):
        alerts.evaluate(BEFORE, BEFORE, [broken])


def test_a_page_is_read_as_prometheus_reads_it() -> None:
    """Verify types, escapes, a label that the target has as well, and that a target that is silent is down."""
    page = (
        "# TYPE windlass_requests_total counter\n"
        'windlass_requests_total{model="a\\"b",job="own"} 3.0\n'
        "# TYPE windlass_pending_requests gauge\nwindlass_pending_requests 2\n"
    )
    found = pages.parse(page, OWN)
    assert [(s.name, v, counts) for s, v, counts in found] == [
        ("windlass_requests_total", 3.0, True),
        ("windlass_pending_requests", 2.0, False),
    ]
    assert str(found[0][0]) == (
        'windlass_requests_total{exported_job="own",instance="127.0.0.1:1",job="windlass-serving",model="a\\"b"}'
    )
    silent = pages.scrape([Target("windlass-serving", "http://127.0.0.1:9/metrics")], 0.5)
    assert {(s.name, v) for s, v in silent.samples.items()} == {("up", 0.0)}
    assert silent.value("windlass_requests_total") is None
