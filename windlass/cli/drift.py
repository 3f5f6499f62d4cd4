"""`windlass drift`: has the live data moved away from what the model was trained on?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monitoring.analysis.events import Answers

DEFAULT_DAYS = 14
EARLIEST, LATEST = 1971, 2999
"""Years in which a window may lie: weeks before and after it are dates as well."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "drift",
        help="compare live predictions with the training reference",
        description="Feature drift, prediction drift, data quality and, where labels have come in, measured "
        "performance of a window of logged predictions against what the version was trained on: first by distance, "
        "as Evidently has it, then by the checks that alarms go by (`analysis`), as for the first time.",
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
        "--html",
        type=Path,
        metavar="FILE",
        help="also write Evidently's full report with its tests (takes some seconds)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict
    from datetime import UTC, datetime, timedelta

    from monitoring import drift, performance, quality, reference
    from monitoring.analysis import analysis, gathering
    from monitoring.analysis.events import open_answers
    from monitoring.analysis.inputs import AnalysisPolicy
    from windlass import catalog, settings
    from windlass.errors import WindlassError

    configured = settings.load()
    workload = catalog.load(arguments.workload, configured.project)
    answers = open_answers(configured, workload.name)
    version = arguments.version or _newest(answers, workload.name)
    trained = reference.of_version(configured, workload.name, version)
    since, until = _span(answers, arguments, version)
    # the analysis takes what came up to its end, the command what came before it
    end = datetime.fromtimestamp(until, UTC) - timedelta(microseconds=1)
    policy = AnalysisPolicy(span=timedelta(seconds=until - since))
    moment = gathering.Moment(datetime.now(UTC), end)
    warnings: list[str] = []
    inputs = gathering.gather(configured, workload, moment, policy, warnings, only=version)
    window = inputs.versions[0].window
    if len(window) and window.features.shape[1] != len(trained.features):
        raise WindlassError(
            f"version {version} of {workload.name} logged {window.features.shape[1]} features, its reference has "
            f"{len(trained.features)}; the logs in {configured.logs_dir} are of another model of that name"
        )
    # over all rows, also of a window that is too large to hold
    measured = inputs.versions[0].distances or drift.measure(trained, window.features, window.scores)
    checked = quality.measure(trained, window.features)
    judged = analysis.document(analysis.analyse(inputs, policy), now=moment.now)
    result: dict[str, Any] = {
        "workload": workload.name,
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
        "analysis": {
            **judged["versions"][0],
            "checks": [*judged["checks"], *judged["versions"][0]["checks"]],
        },
        "warnings": warnings,
    }
    if trained.evaluation is not None:
        decayed = performance.decay(trained.evaluation, performance.measure(*window.matured()))
        result["performance"] = _finite(
            {
                "verdict": decayed.verdict,
                "reason": decayed.reason,
                "training": asdict(trained.evaluation),
                "window": asdict(decayed.current),
            }
        )
    if arguments.html is not None:
        from monitoring import evidently_reports

        report = evidently_reports.report(
            trained, window.features, window.scores, html=arguments.html, tests=True
        )
        result["evidently"] = {"html": str(arguments.html.resolve()), "values": report.values}
    print(json.dumps(result) if arguments.json else _text(result))
    return 0


def _newest(answers: Answers, model: str) -> str:
    """The version that answered last."""
    import math

    from windlass.errors import WindlassError

    arrivals = answers.arrivals(-math.inf, math.inf)
    if not len(arrivals):
        raise WindlassError(
            f"no prediction of {model} was logged; `windlass up` serves it and `windlass predict {model} …` asks it"
        )
    newest = float(arrivals[-1])
    counts = answers.counts(newest, math.inf)
    return max(counts, key=lambda v: (counts[v], v))


def _span(answers: Answers, arguments: argparse.Namespace, version: str) -> tuple[float, float]:
    from windlass.errors import UsageError, WindlassError

    if arguments.end is not None:
        until = _seconds("--to", arguments.end, end=True)
    else:
        newest = answers.newest(version)
        if newest is None:
            raise WindlassError(
                f"version {version} of {arguments.workload} answered nothing that was logged; leave --version out "
                "for the one that answered last"
            )
        until = newest + 1e-6
    since = until - DEFAULT_DAYS * 86400 if arguments.start is None else _seconds("--from", arguments.start)
    if since >= until:
        raise UsageError(f"--from {arguments.start} does not lie before the end of the window; swap the two")
    return since, until


def _seconds(option: str, text: str, *, end: bool = False) -> float:
    from datetime import UTC, datetime, timedelta

    from windlass.errors import UsageError

    try:
        moment = datetime.fromisoformat(text)
        if not EARLIEST <= moment.year <= LATEST:
            raise ValueError(f"year {moment.year}")
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
    lines += [f"  {c['name']:<17}{c['verdict']:<13} {c['reason']}" for c in result["analysis"]["checks"]]
    lines.append(f"  slices: {result['analysis']['slices']['reason']}")
    for feature in result["features"]:
        if feature["value"] is not None:
            mark = "drifted" if feature["drifted"] else ""
            lines.append(
                f"  {feature['feature']:<32} {feature['value']:>7.3f}  {feature['method']:<13} {mark}"
            )
    if "evidently" in result:
        lines.append(f"Evidently's report: {result['evidently']['html']}")
    return "\n".join(lines)
