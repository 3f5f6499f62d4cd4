"""`windlass drift`: has the live data moved away from what the model was trained on?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monitoring.joined import Joined, Window

DEFAULT_DAYS = 14


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "drift",
        help="compare live predictions with the training reference",
        description="Feature drift, prediction drift, data quality and, where labels have come in, measured "
        "performance of a window of logged predictions against what the version was trained on.",
        epilog="example: windlass drift flights --html drift.html\n"
        "The verdicts are PASS, FAIL and INCONCLUSIVE (too few rows); the exit code is 0 for each of them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workload", help="name of the workload")
    parser.add_argument("--version", help="model version (default: the one that answered last)")
    parser.add_argument(
        "--from",
        dest="start",
        metavar="TIME",
        help=f"start of the window (default: {DEFAULT_DAYS} days before its end)",
    )
    parser.add_argument(
        "--to", dest="end", metavar="TIME", help="end of the window (default: the newest prediction)"
    )
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="also write Evidently's full report (takes some seconds)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict
    from datetime import UTC, datetime

    from monitoring import drift, live, performance, quality, reference
    from windlass import catalog, settings
    from windlass.errors import WindlassError

    configured = settings.load()
    catalog.load(arguments.workload, configured.project)
    joined = live.load(configured)
    version = arguments.version or live.newest_version(joined, arguments.workload)
    trained = reference.of_version(configured, arguments.workload, version)
    since, until, window = _window(joined, arguments, version)
    if len(window) and window.features.shape[1] != len(trained.features):
        raise WindlassError(
            f"version {version} of {arguments.workload} logged {window.features.shape[1]} features, its reference has "
            f"{len(trained.features)}; the logs in {configured.logs_dir} are of another model of that name"
        )
    measured = drift.measure(trained, window.features, window.scores)
    checked = quality.measure(trained, window.features)
    result: dict[str, Any] = {
        "workload": arguments.workload,
        "version": version,
        "from": datetime.fromtimestamp(since, UTC).isoformat(),
        "to": datetime.fromtimestamp(until, UTC).isoformat(),
        **drift.as_json(measured),
        "quality": {
            "verdict": checked.verdict,
            "reason": checked.reason,
            "failed": [asdict(f) for f in checked.features if f.failed],
        },
        "performance": None,
    }
    if trained.evaluation is not None:
        judged = performance.decay(trained.evaluation, performance.measure(*window.matured()))
        result["performance"] = _finite(
            {
                "verdict": judged.verdict,
                "reason": judged.reason,
                "training": asdict(trained.evaluation),
                "window": asdict(judged.current),
            }
        )
    if arguments.html is not None:
        from monitoring import evidently_reports

        report = evidently_reports.report(trained, window.features, window.scores, html=arguments.html)
        result["evidently"] = {"html": str(arguments.html.resolve()), "values": report.values}
    print(json.dumps(result) if arguments.json else _text(result))
    return 0


def _window(joined: Joined, arguments: argparse.Namespace, version: str) -> tuple[float, float, Window]:
    from windlass.errors import UsageError

    everything = joined.window(arguments.workload, versions=[version])
    newest = float(everything.at.max()) + 1e-6 if len(everything) else 0.0
    until = newest if arguments.end is None else _seconds("--to", arguments.end, end=True)
    since = until - DEFAULT_DAYS * 86400 if arguments.start is None else _seconds("--from", arguments.start)
    if since >= until:
        raise UsageError(f"--from {arguments.start} does not lie before the end of the window; swap the two")
    return since, until, joined.window(arguments.workload, since=since, until=until, versions=[version])


def _seconds(option: str, text: str, *, end: bool = False) -> float:
    from datetime import UTC, datetime, timedelta

    from windlass.errors import UsageError

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option} {text!r} is not a date or time; use ISO 8601, for example 2013-03-31"
        ) from None
    if end and len(text) == len("2013-03-31"):
        moment += timedelta(days=1)  # a bare date means the whole day, as for `windlass train`
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _finite(value: Any) -> Any:
    """NaN has no place in JSON: a measure that is not defined is null."""
    import math

    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(result: dict[str, Any]) -> str:
    lines = [
        f"{result['workload']} version {result['version']}, {result['rows']:,} rows from {result['from'][:16]} "
        f"to {result['to'][:16]}",
        f"features     {result['verdict']:<13} {result['reason']}",
    ]
    score = result["prediction"]
    distance = "" if score is None or score["value"] is None else f"distance {score['value']:.3f}"
    lines.append(f"predictions  {result['prediction_verdict']:<13} {distance}")
    lines.append(f"quality      {result['quality']['verdict']:<13} {result['quality']['reason']}")
    if result["performance"] is not None:
        lines.append(f"performance  {result['performance']['verdict']:<13} {result['performance']['reason']}")
    for feature in result["features"]:
        if feature["value"] is not None:
            mark = "drifted" if feature["drifted"] else ""
            lines.append(
                f"  {feature['feature']:<32} {feature['value']:>7.3f}  {feature['method']:<13} {mark}"
            )
    if "evidently" in result:
        lines.append(f"Evidently's report: {result['evidently']['html']}")
    return "\n".join(lines)
