"""Analyses as a report takes them: windows of a model in which everything passes, but what is said."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from monitoring.report.watched.looks import NAMES

DAY = 86400.0
END = datetime(2026, 3, 1, tzinfo=UTC).timestamp()


def column(name: str, evidence: float | None, **more: Any) -> dict[str, Any]:
    rings = evidence is not None and evidence >= 1
    return {
        "column": name, "kind": "feature", "statistic": "location", "effect": 0.3, "lower": 0.2, "upper": 0.4,
        "threshold": 0.1, "evidence": evidence, "verdict": "FAIL" if rings else "PASS", "alarm": rings,
        "since": END if rings else None, **more,
    }  # fmt: skip


def figure(metric: str, kind: str, value: float | None) -> dict[str, Any]:
    known = value is not None
    return {
        "metric": metric,
        "kind": kind,
        "value": value,
        "lower": value - 0.02 if known else None,
        "upper": None if not known else value + 0.02,
    }  # type: ignore[operator]


def analysis(day: int, **verdicts: str) -> dict[str, Any]:
    """An analysis in which everything passes but what is said."""

    def check(name: str, **evidence: Any) -> dict[str, Any]:
        verdict = verdicts.get(name, "PASS")
        return {"name": name, "verdict": verdict, "reason": f"why {name} is {verdict}", "evidence": evidence}

    budgets = [
        {
            "slo": "availability",
            "target": 0.993,
            "source": "Prometheus",
            "remaining": -0.17,
            "verdict": "FAIL",
            "burn": {"1h": 0.5, "3d": 6.0},
            "reason": "availability: 82 of 10000 requests failed",
        },
        {
            "slo": "latency",
            "target": 0.99,
            "source": "nothing",
            "remaining": None,
            "verdict": "INCONCLUSIVE",
            "burn": {},
            "reason": "latency: no request was counted",
        },
    ]
    resources = {"cpu_seconds_per_1000": 1.9, "memory_bytes": 300 * 2**20}
    drifted = 3.0 if verdicts.get("featureDrift") == "FAIL" else 0.2
    return {
        "end": END + day * DAY,
        "checks": [
            check("freshness"),
            check("volume"),
            check("slo", period_days=30, budgets=budgets, resources=resources),
        ],
        "versions": [
            {
                "version": "3",
                "checks": [check(n) for n in NAMES if n not in ("freshness", "volume", "slo")],
                "detection": {
                    "columns": [
                        column("distance", drifted),
                        column("", 0.1, kind="prediction"),
                        column("empty", None),
                    ],
                    "quality": [
                        {
                            "column": "distance",
                            "check": "unit",
                            "share": 1.6,
                            "expected": 1.0,
                            "failed": drifted > 1,
                            "since": END,
                        },
                        {
                            "column": "delay",
                            "check": "nulls",
                            "share": 0.21,
                            "expected": 0.0,
                            "failed": drifted > 1,
                            "since": None,
                        },
                    ],
                    "false_alarms_per_month": 0.25,
                    "guarantee": "noise was learned",
                },
                "faults": [{"column": "carrier", "check": "category"}] if drifted > 1 else [],
                "performance": [
                    figure("auc", "measured", None if day == 0 else 0.74),
                    figure("auc", "estimated", 0.76),
                    figure("auc", "baseline", 0.77),
                    figure("brier", "measured", 0.16),
                ],
                "slices": {
                    "tested": 200,
                    "reason": "1 of 200 slices got worse than the rest",
                    "worse": [
                        {
                            "name": "origin=EWR",
                            "rows": 212,
                            "loss": 0.31,
                            "reference_loss": 0.18,
                            "beyond_rest": 0.12,
                            "lower": 0.06,
                        }
                    ],
                    "highest": [{"slice": "carrier=B6", "loss": 0.23, "rows": 104}],
                },
            }
        ],
    }


SUMMARY = {
    "workload": "flights",
    "triggers": [
        {
            "at": "2026-03-02T01:00:00+00:00",
            "signal": "featureDrift",
            "accepted": True,
            "reason": "nothing holds it back",
        },
        {
            "at": "2026-03-02T02:00:00+00:00",
            "signal": "dataQuality",
            "accepted": False,
            "reason": "repair the source",
        },
    ],
}
BAD = [analysis(0), analysis(1), analysis(2, featureDrift="FAIL", dataQuality="FAIL", skew="INCONCLUSIVE")]
