"""What the demo leaves behind: the summary, the series of the report, the table on the screen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from windlass import atomic
from windlass.contract import Workload
from windlass.demo import scores
from windlass.demo.record import Record
from windlass.demo.replay import Traffic
from windlass.demo.sampling import Request
from windlass.demo.story import Story
from windlass.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from components.registry import Registry

SECOND_HALF = "2013-07"


def build(
    told: Story,
    home: Settings,
    workload: Workload,
    rows: pd.DataFrame,
    requests: Sequence[Request],
    traffic: Traffic,
    registry: Registry,
    record: Record,
    vectors: NDArray[np.float32],
    controls: Sequence[tuple[float, Path]],
    champion: str,
    first: str,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (summary, series); the former lacks `wall_seconds` and `peak_rss_mb`."""
    from components import export

    outcomes = traffic.outcomes
    count = len(requests)
    live = np.array([outcomes.score.get(i, np.nan) for i in range(count)])
    labels = np.array([np.nan if r.label is None else float(r.label) for r in requests])
    at = np.array([r.at for r in requests])
    months = [str(m) for m in rows[workload.source.event_time].dt.tz_convert("UTC").dt.strftime("%Y-%m")]

    def scorer(path: Path) -> scores.Scorer:
        session = export.load(path)
        return lambda matrix: export.score(session, matrix)

    january = home.bundles_dir / workload.name / first / "model.onnx"
    stood = [
        scores.Control(-np.inf, scorer(january)),
        *(scores.Control(since, scorer(p)) for since, p in controls),
    ]
    frozen = stood[0].score(vectors)
    control = scores.control_scores(stood, at, vectors)
    seconds = np.array([outcomes.seconds[i] for i in range(count) if outcomes.status.get(i) == 200]) * 1000
    summary = {
        "workload": workload.name,
        "seed": told.seed,
        "requests": len(outcomes.status),
        "failed_requests": outcomes.failed,
        "failures": outcomes.failures,
        "latency_ms": {"p50": _percentile(seconds, 50), "p99": _percentile(seconds, 99)},
        "versions": [
            _version(v) for v in sorted(registry.versions(workload.name), key=lambda v: int(v.version))
        ],
        "months": scores.by_month(months, labels, live, frozen, control),
        "second_half": scores.pooled(months, SECOND_HALF, labels, live, frozen, control),
        "triggers": record.triggers,
        "sampled_every": told.sampled_every,
        "releases": record.releases,
        "rollbacks": record.rollbacks,
    }
    series = {
        "drift": record.drift,
        "weights": record.weights,
        "confidence": record.confidence(),
        "latency": _latency(rows, workload, outcomes.seconds, outcomes.status),
        "lineage": _lineage(record, registry, workload.name, champion),
    }
    return summary, series


def write(
    out: Path, summary: Mapping[str, Any], decisions: Sequence[Mapping[str, Any]], series: Mapping[str, Any]
) -> None:
    """Write summary, series and report; each is there whole or not at all."""
    from monitoring.report import render

    atomic.write_text(out / "series.json", json.dumps(series, allow_nan=False) + "\n")
    render(dict(summary), decisions, dict(series), out / "report.html")
    atomic.write_text(out / "summary.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")


def table(summary: Mapping[str, Any], out: Path) -> str:
    """The end of the story, for a terminal."""
    lines = ["", f"{'month':<9}{'rows':>8}{'late':>8}{'live':>8}{'frozen':>8}{'control':>9}   (AUC)"]
    for month in summary["months"]:
        figures = [month["auc_live"], month["auc_frozen"], month["auc_control"]]
        late = "-" if month["late_rate"] is None else f"{month['late_rate']:.1%}"
        a, f, c = ("-" if x is None else f"{x:.3f}" for x in figures)
        lines.append(f"{month['month']:<9}{month['rows']:>8,}{late:>8}{a:>8}{f:>8}{c:>9}")
    half = summary["second_half"]
    if half["auc_live"] is not None and half["auc_frozen"] is not None:
        gain = half["auc_live"] - half["auc_frozen"]
        lines.append(
            f"from {half['from']} on: live {half['auc_live']:.3f}, frozen {half['auc_frozen']:.3f} ({gain:+.3f}), "
            f"control {half['auc_control']:.3f}"
        )
    lines.append("")
    for release in summary["releases"]:
        hidden = f" [sabotaged: {release['sabotage']}]" if release["sabotage"] else ""
        outcome = release["outcome"].replace("_", " ")
        lines.append(
            f"version {release['version']:>2} {outcome:<12} after {release['requests_to_verdict']:>5} requests: "
            f"{release['reason']}{hidden}"
        )
    accepted = sum(t["accepted"] for t in summary["triggers"])
    lines += [
        "",
        f"{summary['requests']:,} requests, {summary['failed_requests']} failed; "
        f"p50 {summary['latency_ms']['p50']:.1f} ms, p99 {summary['latency_ms']['p99']:.1f} ms; "
        f"{len(summary['triggers'])} signals, {accepted} accepted; "
        f"{summary['wall_seconds']:.0f} s, {summary['peak_rss_mb']:,} MB",
        f"report: {out / 'report.html'}",
    ]
    return "\n".join(lines)


def _version(v: Any) -> dict[str, Any]:
    return {
        "version": v.version,
        "trained_from": v.trained_from,
        "trained_to": v.trained_to,
        "offline_auc": v.offline_auc,
        "state": v.state,
        "rebuild_of": v.tags.get("windlass.rebuild_of"),
    }


def _latency(
    rows: pd.DataFrame, workload: Workload, seconds: Mapping[int, float], status: Mapping[int, int]
) -> dict[str, Any]:
    answered = sorted(i for i, code in status.items() if code == 200)
    values = np.array([seconds[i] for i in answered]) * 1000
    days = (
        rows[workload.source.event_time].dt.strftime("%Y-%m-%d").to_numpy()[answered]
        if answered
        else np.array([])
    )
    by_day = [
        {
            "day": str(day),
            "p50": _percentile(values[days == day], 50),
            "p99": _percentile(values[days == day], 99),
        }
        for day in sorted(set(days))
    ]
    bounds = [0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 25, 50, 100, 150, 200, 500]
    counts, below = [], 0
    for bound in bounds:
        total = int((values <= bound).sum())
        counts.append({"le": bound, "count": total - below})
        below = total
    return {"by_day": by_day, "histogram": counts}


def _lineage(record: Record, registry: Registry, model: str, champion: str) -> list[dict[str, Any]]:
    info = registry.info(model, champion)
    released = next((r for r in record.releases if r["version"] == champion), None)
    gate = next(
        (d for d in record.decisions if d["decision"].startswith(f"gate of version {champion}:")), None
    )
    chain = [
        {
            "kind": "data",
            "title": f"{info.trained_from[:10]} to {info.trained_to[:10]}",
            "detail": info.tags.get("data_hash", "")[:16],
            "at": None,
        },
        {"kind": "run", "title": info.run_id, "detail": "pipeline run, named by its trigger", "at": None},
        {
            "kind": "version",
            "title": f"{model} version {champion}",
            "detail": f"offline AUC {info.offline_auc:.4f}",
            "at": None,
        },
    ]
    if gate is not None:
        detail = ", ".join(f"{name} {v['value']}" for name, v in gate["inputs"].items())
        chain.append(
            {"kind": "gate", "title": gate["decision"].split(": ")[1], "detail": detail, "at": gate["at"]}
        )
    if released is not None:
        chain.append(
            {
                "kind": "release",
                "title": released["strategy"],
                "detail": released["reason"],
                "at": released["at"],
            }
        )
        chain.append(
            {
                "kind": "outcome",
                "title": released["outcome"],
                "detail": "serves all traffic",
                "at": released["at"],
            }
        )
    return chain


def _percentile(values: NDArray[np.float64], q: float) -> float | None:
    return round(float(np.percentile(values, q)), 3) if len(values) else None
