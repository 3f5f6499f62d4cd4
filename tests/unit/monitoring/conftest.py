"""A made-up but life-like story for the report: the shapes and sizes of a full replay."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

START = datetime(2013, 2, 1, 6, tzinfo=UTC)
FEATURES = (
    "carrier_late_share_6h", "carrier_delay_mean_6h", "carrier_flights_6h", "origin_delay_mean_1h",
    "origin_delay_mean_3h", "origin_departures_1h", "origin_cancelled_share_6h", "dest_delay_mean_6h",
    "dest_late_share_6h", "tail_last_arrival_delay", "tail_minutes_since_landing", "tail_legs_today",
    "weather_temp", "weather_dewp", "weather_wind_speed", "weather_wind_gust", "weather_precip",
    "weather_visib", "weather_pressure", "distance", "sched_elapsed", "sched_minute", "day_of_week",
    "carrier", "origin",
)  # fmt: skip


@dataclass(frozen=True)
class Story:
    summary: dict[str, Any]
    decisions: list[dict[str, Any]]
    series: dict[str, Any]


def iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


@pytest.fixture(scope="session")
def story() -> Story:
    return tell(random.Random(7))


def tell(draw: random.Random) -> Story:
    frozen = (0.742, 0.735, 0.741, 0.728, 0.719, 0.726, 0.704, 0.718, 0.698, 0.702, 0.713)
    gains = (0.0, 0.012, 0.021, 0.034, 0.041, 0.047, 0.056, 0.049, 0.058, 0.051, 0.055)
    late = (0.226, 0.251, 0.263, 0.231, 0.297, 0.304, 0.239, 0.131, 0.162, 0.158, 0.331)
    months = [
        {
            "month": f"2013-{i + 2:02d}",
            "rows": 5200 + draw.randrange(600),
            "late_rate": late[i],
            "auc_live": frozen[i] + gains[i],
            "auc_frozen": frozen[i],
            "auc_control": frozen[i] + gains[i] * 0.38,
        }
        for i in range(11)
    ]
    # version, released on day, offline AUC, state, release outcome, sabotage, reason
    plan = [
        ("1", 0, 0.741, "retired", None, None, ""),
        ("2", 31, 0.758, "retired", "promoted", None, "all checks passed at the last step"),
        ("3", 78, 0.761, "rolled_back", "rolled_back", "features",
         "featureSkew: 31 of 204 vectors differ from their point-in-time recomputation, lower bound 9.8 % above 1 %"),
        ("4", 92, 0.772, "retired", "promoted", None, "all checks passed at the last step"),
        ("5", 129, 0.772, "rolled_back", "rolled_back", "latency",
         "p99: 100 % of 63 requests above 50 ms, lower bound 74 % above 1 %"),
        ("6", 148, 0.781, "retired", "promoted", None, "all checks passed at the last step"),
        ("7", 215, 0.779, "rejected", "inconclusive", None, "brier undecided after 14 days: held, then aborted"),
        ("8", 262, 0.788, "champion", "promoted", None, "all checks passed at the last step"),
    ]  # fmt: skip
    weights = [{"at": iso(START), "weights": {"1": 100}}]
    champion = "1"
    confidence: list[dict[str, Any]] = []
    for version, day, _, _, outcome, sabotage, _ in plan[1:]:
        begin = START + timedelta(days=day)
        stages = [(0, 10), (30, 50), (70, 100)] if outcome == "promoted" else [(0, 10), (9, 0)]
        if outcome == "inconclusive":
            stages = [(0, 10), (72, 50), (336, 0)]
        for hours, share in stages:
            shares = {champion: 100 - share, version: share}
            weights.append({"at": iso(begin + timedelta(hours=hours)), "weights": shares})
        confidence += sequences(draw, version, begin, sabotage, outcome)
        champion = version if outcome == "promoted" else champion
    drift = [
        {
            "at": iso(START + timedelta(days=14 + 7 * week)),
            "feature": feature,
            "score": round(score(draw, feature, week), 4),
            "threshold": 0.1,
        }
        for week in range(46)
        for feature in FEATURES
    ]
    by_day = []
    for day in range(334):
        slow = 150.0 if day == 129 else 0.0
        by_day.append(
            {
                "day": iso(START + timedelta(days=day))[:10],
                "p50": 1.5 + draw.random() * 0.3,
                "p99": slow + 4.0 + draw.lognormvariate(0, 0.4),
            }
        )
    edges = [0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10, 25, 50, 100, 250]
    counts = [40, 8200, 21480, 17230, 7010, 3320, 2410, 1090, 640, 310, 140, 30, 12, 63]
    triggers = [
        ("2013-02-15T06:00:00Z", "featureDrift", True, "featureDrift: nothing holds it back"),
        (
            "2013-02-22T06:00:00Z",
            "featureDrift",
            False,
            "featureDrift/1 is answered by retrain-flights-0a1b2c3d4e5f already",
        ),
        ("2013-04-05T06:00:00Z", "predictionDrift", False, "cool-down until 2013-04-12T06:00Z"),
        ("2013-04-26T06:00:00Z", "performanceDecay", True, "performanceDecay: nothing holds it back"),
        ("2013-06-10T06:00:00Z", "featureDrift", False, "blackout: a release of the model is being judged"),
        ("2013-06-21T06:00:00Z", "featureDrift", True, "featureDrift: nothing holds it back"),
        ("2013-09-06T06:00:00Z", "predictionDrift", True, "predictionDrift: nothing holds it back"),
        ("2013-10-18T06:00:00Z", "featureDrift", True, "featureDrift: nothing holds it back"),
    ]
    summary = {
        "workload": "flights",
        "requests": 61975,
        "failed_requests": 0,
        "latency_ms": {"p50": 1.62, "p99": 6.4},
        "versions": [
            {
                "version": v,
                "trained_from": "2013-01-01",
                "trained_to": iso(START + timedelta(days=d))[:10],
                "offline_auc": a,
                "state": s,
            }
            for v, d, a, s, *_ in plan
        ],
        "months": months,
        "triggers": [{"at": a, "signal": s, "accepted": ok, "reason": r} for a, s, ok, r in triggers],
        "sampled_every": 5,
        "releases": [
            {
                "version": v,
                "strategy": "canary",
                "outcome": o,
                "reason": r,
                "requests_to_verdict": 180 + draw.randrange(1900),
                "sabotage": b,
            }
            for v, _, _, _, o, b, r in plan[1:]
        ],
        "rollbacks": [
            {"version": "3", "seconds": 0.21, "failed_requests": 0},
            {"version": "5", "seconds": 0.34, "failed_requests": 0},
        ],
        "wall_seconds": 214.0,
        "peak_rss_mb": 4122.0,
    }
    decisions = [
        {
            "at": iso(START + timedelta(hours=6 * i)),
            "decision": draw.choice(["hold", "advance", "promote", "refuse trigger"]),
            "rule": draw.choice(["minSamples", "allChecksPass", "cooldown", "guardrail"]),
            "inputs": {"release": "2", "n": 31 * i},
        }
        for i in range(700)
    ]
    lineage = [
        {
            "kind": "data",
            "title": "2013-01-01 to 2013-10-18",
            "detail": "268,114 flights, sha256 4be1…09",
            "at": None,
        },
        {
            "kind": "trigger",
            "title": "featureDrift",
            "detail": "9 of 25 features drifted: weather_temp 1.31",
            "at": "2013-10-18T06:00:00Z",
        },
        {
            "kind": "run",
            "title": "retrain-flights-7d20c41be93a",
            "detail": "7 steps, 3 reused",
            "at": "2013-10-19T06:00:00Z",
        },
        {
            "kind": "version",
            "title": "flights 8",
            "detail": "XGBoost, 212 trees, flights_v1",
            "at": "2013-10-19T06:00:00Z",
        },
        {
            "kind": "gate",
            "title": "6 of 6 gates passed",
            "detail": "AUC 0.788, champion 0.779",
            "at": "2013-10-19T06:00:00Z",
        },
        {
            "kind": "release",
            "title": "Canary 10 → 50 → 100 %",
            "detail": "1,204 requests to the verdict",
            "at": "2013-10-21T06:00:00Z",
        },
        {
            "kind": "outcome",
            "title": "Promoted",
            "detail": "brier −0.0043 (−0.0081 to −0.0006)",
            "at": "2013-10-24T04:00:00Z",
        },
    ]
    series = {
        "drift": drift,
        "weights": weights,
        "confidence": confidence,
        "latency": {
            "by_day": by_day,
            "histogram": [{"le": e, "count": c} for e, c in zip(edges, counts, strict=True)],
        },
        "lineage": lineage,
    }
    return Story(summary, decisions, series)


def score(draw: random.Random, feature: str, week: int) -> float:
    base = 0.03 + 0.03 * draw.random()
    season = max(0.0, math.sin(math.pi * week / 46)) * (0.6 if week < 20 else 0.35)
    if feature in ("weather_temp", "weather_dewp"):
        return base + 2 * season
    if feature.startswith("weather"):
        return base + 0.35 * season * draw.random()
    if "delay" in feature or "late" in feature:
        return base + (0.28 * draw.random() if 16 < week < 26 or week > 42 else 0.05)
    return base


def sequences(
    draw: random.Random, version: str, begin: datetime, sabotage: str | None, outcome: str | None
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    checks = [
        ("errors", 0.0, 0.01),
        ("p99", 0.004, 0.01),
        ("featureSkew", 0.0, 0.01),
        ("brier", -0.004, 0.01),
    ]
    for check, truth, bound in checks:
        truth = {("features", "featureSkew"): 0.17, ("latency", "p99"): 0.99}.get(
            (sabotage or "", check), truth
        )
        looks = 60 if outcome == "promoted" else 9 if outcome == "rolled_back" else 160
        wander = draw.gauss(0, 0.3)
        for look in range(1, looks + 1):
            n = look * (24 if outcome != "rolled_back" else 7)
            width = (0.55 if check == "brier" else 0.9) / math.sqrt(n) * (1.0 if truth > 0.05 else 0.35)
            wander = 0.93 * wander + draw.gauss(0, 0.08)
            estimate = truth + wander * width
            lower, upper = estimate - width, estimate + width
            if check != "brier":
                lower, estimate, upper = max(0.0, lower), max(0.0, estimate), min(1.0, upper)
            verdict = "FAIL" if lower > bound else "PASS" if upper < bound else "INCONCLUSIVE"
            found.append(
                {
                    "release": version, "check": check, "at": iso(begin + timedelta(hours=look)), "n": n,
                    "estimate": estimate, "lower": lower, "upper": upper, "bound": bound, "verdict": verdict,
                }
            )  # fmt: skip
    return found
