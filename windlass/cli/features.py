"""`windlass features`: compute feature rows, and check that servers saw what they should have seen."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from windlass.features.parity import ParityReport
    from windlass.settings import Settings

LIMIT = 10_000


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "features", help="compute features; check online against offline", description=__doc__
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    check = commands.add_parser(
        "check",
        help="recompute logged predictions' features point in time and compare",
        description="Recomputes the feature vectors of logged predictions from the offline store, through Feast's "
        "point-in-time join, and compares them with what the model servers used: whole numbers exactly, others to "
        "1e-6. Exit code 1 if any differs.",
        epilog="example: windlass features check --limit 1000 --json\n"
        "Left out: mirrored copies, answers from a cache or from defaults, and versions whose release was rolled back\n"
        "(`--version` compares those of one version all the same).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("workload", nargs="?", help="only this workload (default: all in the log)")
    check.add_argument(
        "--log", type=Path, metavar="FILE", help="a prediction log (default: all of this project)"
    )
    check.add_argument(
        "--limit",
        type=int,
        default=LIMIT,
        metavar="N",
        help=f"compare N, evenly over the log (default: {LIMIT:,})",
    )
    check.add_argument("--version", metavar="V", help="only predictions of this version")
    check.add_argument(
        "--json", action="store_true", help="print the result as JSON and nothing else on stdout"
    )
    check.set_defaults(handler=handle_check)
    build = commands.add_parser(
        "build",
        help="compute the offline feature rows of a workload",
        description="Computes the rows of every feature view and keeps them by month; what has not changed is not "
        "computed again. As training does, it reads the newest data version where the workload has any (`windlass data "
        "list`), and its own source where it has none. With an object store set, versions are fetched from there, and "
        "rows are published there, or fetched.",
        epilog="example: windlass features build flights",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    build.add_argument("workload", help="name of the workload")
    read = build.add_mutually_exclusive_group()
    read.add_argument(
        "--data", type=Path, metavar="FILE", help="a file to read instead of the newest data version"
    )
    read.add_argument(
        "--own-source",
        action="store_true",
        help="read the workload's own source, whatever versions there are",
    )
    build.add_argument(
        "--json", action="store_true", help="print the result as JSON and nothing else on stdout"
    )
    build.set_defaults(handler=handle_build)
    materialize = commands.add_parser(
        "materialize",
        help="fill the online store from the offline rows",
        description="Writes the newest row of every key of every feature view to the online store, by Feast's "
        "materialization. Servers may read meanwhile. `windlass up` does it itself; on a cluster a CronJob does "
        "(`features.workloads` of the chart).",
        epilog="example: windlass features build flights && windlass features materialize flights",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    materialize.add_argument("workload", help="name of the workload")
    materialize.add_argument(
        "--until",
        metavar="TIME",
        help="rows up to this time, UTC (default: now); later ones are not known yet",
    )
    materialize.add_argument(
        "--since",
        metavar="TIME",
        help="rows from this time on (default: as far back as the longest time to live reaches)",
    )
    materialize.add_argument(
        "--registry",
        metavar="ADDRESS",
        help="put a copy of Feast's registry there afterwards, for a feature server: s3://bucket/prefix/registry.db",
    )
    materialize.add_argument(
        "--stale-after",
        type=_duration,
        metavar="DURATION",
        help="what is written counts as stale after so long (3h): WindlassFeaturesStale rings where nobody has done it "
        "again by then (default: never)",
    )
    materialize.add_argument(
        "--json", action="store_true", help="print the result as JSON and nothing else on stdout"
    )
    materialize.set_defaults(handler=handle_materialize)
    push = commands.add_parser(
        "push",
        help="push rows of a stream view to the online store",
        description="Pushes rows of a file to the online store through the view's push source. The file (CSV or "
        "parquet) has the view's entity, `event_timestamp` and features as columns.",
        epilog="example: windlass features push flights origin_weather --data rows.csv",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    push.add_argument("workload", help="name of the workload")
    push.add_argument("view", help="name of the feature view")
    push.add_argument("--data", type=Path, required=True, metavar="FILE", help="the rows")
    push.add_argument(
        "--json", action="store_true", help="print the result as JSON and nothing else on stdout"
    )
    push.set_defaults(handler=handle_push)


def handle_check(arguments: argparse.Namespace) -> int:
    import json

    from windlass import catalog, settings
    from windlass.errors import UsageError
    from windlass.features import parity

    if arguments.limit < 1:
        raise UsageError(f"--limit {arguments.limit} compares nothing; give a number from 1 on")
    s = settings.load()
    if arguments.workload is not None:
        catalog.load(arguments.workload, s.project)
    records = [
        r
        for r in parity.records(s, arguments.log)
        if arguments.workload in (None, r["model"]) and arguments.version in (None, r["version"])
    ]
    excluded: dict[str, int] = {}
    if arguments.version is None:
        records, excluded = _without_rolled_back(s, records)
    chosen = parity.spread(records, arguments.limit)
    models = sorted({r["model"] for r in chosen})
    report = parity.total([parity.check(catalog.load(m, s.project), s, chosen) for m in models])
    result = {**report.document(), "excluded": excluded}
    print(json.dumps(result) if arguments.json else _summary(report, excluded))
    return 0 if report.parity else 1


def handle_build(arguments: argparse.Namespace) -> int:
    import json
    import sys

    from monitoring.data_versions import feature_source
    from windlass import catalog, data_version, settings
    from windlass.errors import DataError
    from windlass.features import offline

    s = settings.load()
    workload = catalog.load(arguments.workload, s.project)
    path = arguments.data
    if path is None and not arguments.own_source:
        path = feature_source.newest(s, workload)
    try:
        built = offline.build(workload, s, data=path, progress=lambda line: print(line, file=sys.stderr))
    except DataError as error:
        if path is not None:
            raise
        raise DataError(
            f"{error}. That is the own source of workload {workload.name!r}; `windlass data add {workload.name} FILE` "
            "makes a data version, which is read in its place on every machine with the same object store"
        ) from error
    version = data_version.of_file(path)
    if arguments.json:
        document = {"content_hash": built.content_hash, "rows": dict(built.rows), "reused": built.reused}
        print(json.dumps({**document, "data_version": version}))
    else:
        state = "unchanged" if built.reused else "computed"
        source = "its own source" if path is None else path if version is None else f"data version {version}"
        rows = f"{sum(built.rows.values()):,} rows in {len(built.rows)} views"
        print(f"{arguments.workload}: {rows} from {source}, {state}")
    return 0


def handle_materialize(arguments: argparse.Namespace) -> int:
    import json
    import sys
    import time
    from datetime import UTC, datetime

    from windlass import catalog, settings
    from windlass.clock import SystemClock
    from windlass.features import filling, store

    s = settings.load()
    workload = catalog.load(arguments.workload, s.project)
    started = time.monotonic()
    filled = filling.fill(
        workload,
        s,
        SystemClock(),
        until=None if arguments.until is None else _moment("--until", arguments.until),
        since=None if arguments.since is None else _moment("--since", arguments.since),
        stale_after=arguments.stale_after,
    )
    if arguments.registry is not None:
        store.publish_registry(s, arguments.registry)
    took = time.monotonic() - started
    since, until = (datetime.fromtimestamp(at, UTC) for at in (filled.since, filled.until))
    for view in workload.views:
        if not filled.rows[view.name]:
            told = f"warning: view {view.name!r} has no row from {since.isoformat()} to {until.isoformat()}"
            print(f"{told}; all of its values are missing to servers", file=sys.stderr)
    if arguments.json:
        document = {
            "workload": workload.name,
            "views": list(filled.rows),
            "rows": dict(filled.rows),
            "since": since.isoformat(),
            "until": until.isoformat(),
        }
        print(json.dumps({**document, "seconds": round(took, 1)}))
    else:
        views = f"{len(filled.rows)} views up to {until.isoformat(timespec='seconds')}"
        print(f"{workload.name}: {views}, {sum(filled.rows.values()):,} rows looked at, {took:.0f} s")
    return 0


def _moment(name: str, text: str) -> datetime:
    from datetime import UTC, datetime

    from windlass.errors import UsageError

    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{name} {text!r} is no time; write it like 2013-06-30T12:00") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _duration(text: str) -> timedelta:
    from serving.release import durations

    try:
        found = durations.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if not found:
        raise argparse.ArgumentTypeError("0 is stale at once; give a duration like 3h")
    return found


def handle_push(arguments: argparse.Namespace) -> int:
    import json

    from windlass import catalog, settings
    from windlass.features import stream

    s = settings.load()
    workload = catalog.load(arguments.workload, s.project)
    count = stream.push_file(workload, s, arguments.view, arguments.data)
    result = {"view": arguments.view, "rows": count}
    print(json.dumps(result) if arguments.json else f"{arguments.view}: pushed {count} rows")
    return 0


def _without_rolled_back(
    s: Settings, records: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Leave out versions that a release took off traffic: what they served wrongly was caught, not overlooked."""
    from serving.release.journal import history

    directory = s.journal_dir / "releases"
    gone: set[tuple[str, str]] = set()
    for model in history.models(directory):
        for _, _, path in history.files(directory, model):
            found = history.read(path)
            if found is None:
                continue
            version = (model, found.release.candidate)
            if found.state.phase in ("RolledBack", "Aborted"):
                gone.add(version)
            elif found.state.phase == "Promoted":
                gone.discard(version)
    kept: list[dict[str, Any]] = []
    excluded: dict[str, int] = {}
    for record in records:
        if (record["model"], record["version"]) in gone:
            excluded[record["version"]] = excluded.get(record["version"], 0) + 1
        else:
            kept.append(record)
    return kept, excluded


def _summary(report: ParityReport, excluded: dict[str, int]) -> str:
    if report.checked == 0:
        return "no prediction to compare; send some (`windlass predict`), or name a log with --log"
    verdict = "all equal" if report.parity else f"{report.mismatched:,} DIFFER"
    largest = f"largest difference {report.max_abs_difference:.3g}"
    lines = [f"{report.checked:,} predictions recomputed: {verdict}; {largest}"]
    lines += [f"  {name}: {count:,}" for name, count in report.by_feature.items()]
    lines += [f"  version {name}: {count:,}" for name, count in report.by_version.items()]
    if report.degraded:
        lines.append(f"{report.degraded:,} were answered from a cache or from defaults, and say so")
    if excluded:
        versions = ", ".join(f"{v} ({n:,})" for v, n in excluded.items())
        lines.append(f"left out, rolled back: {versions}")
    return "\n".join(lines)
