"""`windlass data`: versions of the training data, and the partitions they are made of."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from monitoring.data_versions.store import Load
    from monitoring.data_versions.version import Version
    from monitoring.retrain.signals import Signal
    from windlass.contract import Workload
    from windlass.settings import Settings


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "data",
        help="versions of the training data",
        description="Training data comes in partitions, a day or a month of rows. One that passes the workload's "
        "contract makes a new version of the data, kept by DVC (under `data-remote` in the home folder, or under "
        "WINDLASS_OBJECT_STORE), and may retrain the model; one that fails never enters.",
        epilog="example: windlass data add flights july.parquet",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(metavar="ACTION", title="actions", required=True)
    _add(actions)
    _list(actions)
    for name, help_text, handler in (
        ("show", "show one version and its partitions", _handle_show),
        ("checkout", "write all rows of a version into one file, and print its path", _handle_checkout),
    ):
        action = actions.add_parser(
            name,
            help=help_text,
            description=f"{help_text[0].upper()}{help_text[1:]}.",
            epilog=f"example: windlass data {name} flights 3f2a91bc",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        action.add_argument("workload", help="name of the workload")
        action.add_argument(
            "version", nargs="?", help="id of the version, or how it begins (default: the newest)"
        )
        action.add_argument("--json", action="store_true", help="print one JSON object")
        action.set_defaults(handler=handler)


def _add(actions: Any) -> None:
    parser = actions.add_parser(
        "add",
        help="take a partition that passes validation",
        description="Validates rows by the rules of a training run, and makes them part of the data: a new version. "
        "Rows that are there already make none. The version is a `newData` signal to the workload's retrain policy "
        "(of the trigger at WINDLASS_TRIGGER_URL, where that is set).",
        epilog="example: windlass data add flights july.parquet\n"
        "         windlass data add flights --from 2013-01-01 --to 2013-01-31\n"
        "A partition that fails is refused with every reason, exit code 2; the versions stay as they were.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workload", help="name of the workload")
    parser.add_argument(
        "file", nargs="?", type=Path, help="CSV or parquet file (default: the workload's own source)"
    )
    parser.add_argument("--from", dest="start", metavar="DATE", help="first day, where no file is given")
    parser.add_argument("--to", dest="end", metavar="DATE", help="last day, where no file is given")
    parser.add_argument(
        "--replace", action="store_true", help="put it in the place of the partition of the same days"
    )
    parser.add_argument("--no-signal", action="store_true", help="do not ask for a retraining")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=_handle_add)


def _list(actions: Any) -> None:
    parser = actions.add_parser(
        "list",
        help="list the versions of a workload's data",
        description="Lists the versions, the newest last, and whether the newest partition offered was refused.",
        epilog="example: windlass data list flights",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workload", help="name of the workload")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=_handle_list)


def _handle_add(arguments: argparse.Namespace) -> int:
    import json
    from datetime import UTC, datetime

    from monitoring.data_versions.signal import signal
    from monitoring.data_versions.store import DataVersions
    from windlass.cli import retrain

    # before anything is added: a signal that could be sent nowhere is found out now
    where = None if arguments.no_signal else retrain.elsewhere()
    configured, workload = _open(arguments)
    load, name = _source(workload, arguments)
    now = datetime.now(UTC)
    added = DataVersions(configured, workload).add(load, name, _check, now, replace=arguments.replace)
    result: dict[str, Any] = {**_summary(added.version), "new": added.new, "signal": None, "run": None}
    failed, said = False, ""
    news = signal(added.version, now)
    # also of a version that was made before: whoever made it may have died before it was told of
    if where is not None:
        decided = _send(where, workload, news)
        result["signal"] = {k: decided[k] for k in ("accepted", "reason", "rule", "trigger")}
        said = retrain.sent(decided)
    elif not arguments.no_signal and (added.new or not _told(configured, workload, news.cause)):
        told = retrain.offer(configured, workload, news)
        result |= {"signal": {k: told[k] for k in ("accepted", "reason", "rule", "trigger")}}
        result["run"] = told["run"]
        failed = told["accepted"] and told["run"] is None
        said = retrain.text(told)
    if arguments.json:
        print(json.dumps(result))
        return int(failed)
    version = added.version
    what = "made" if added.new else "holds these rows already:"
    print(f"{workload.name}: {what} data version {version.id}, {version.rows:,} rows {_span(version)}")
    if result["signal"] is not None:
        print(said)
    return int(failed)


def _send(where: tuple[str, str], workload: Workload, news: Signal) -> dict[str, Any]:
    """Tell a trigger elsewhere of a version; told twice, it counts once."""
    from monitoring.retrain.service import client, events

    data = {"workload": workload.name, "kind": news.kind, "cause": news.cause, "detail": dict(news.detail)}
    decided: dict[str, Any] = client.post(*where, events.TYPE, news.cause, data)["signals"][0]
    return decided


def _handle_list(arguments: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from monitoring.data_versions import version
    from monitoring.data_versions.store import DataVersions

    configured, workload = _open(arguments)
    known = DataVersions(configured, workload).known()
    refused = version.refusal(configured, workload.name)
    if arguments.json:
        print(
            json.dumps(
                {
                    "workload": workload.name,
                    "versions": [_summary(v) for v in known],
                    "refused": None if refused is None else asdict(refused),
                }
            )
        )
        return 0
    if not known:
        print(
            f"{workload.name} has no data version yet; `windlass data add {workload.name} FILE` makes the first"
        )
    for v in known:
        print(
            f"{v.id[: version.SHORT]}  made {v.at[:16]}  {v.rows:>9,} rows  {_span(v)}  "
            f"{len(v.partitions)} partitions, + {v.added}"
        )
    if refused is not None:
        print(f"the newest partition was refused ({refused.at[:16]}): {refused.reason}")
    return 0


def _handle_show(arguments: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from monitoring.data_versions import version

    found = _found(arguments)[2]
    if arguments.json:
        print(json.dumps({**_summary(found), "partitions": [asdict(p) for p in found.partitions]}))
        return 0
    parent = "none, the first" if found.parent is None else found.parent[: version.SHORT]
    print(f"data version {found.id} of {found.workload}, made {found.at[:16]}, parent {parent}")
    print(f"{found.rows:,} rows {_span(found)}")
    for p in found.partitions:
        mark = "  new here" if p.name == found.added else ""
        print(f"  {p.name:<24} {p.rows:>9,} rows  md5 {p.md5}{mark}")
    return 0


def _handle_checkout(arguments: argparse.Namespace) -> int:
    import json

    from monitoring.data_versions.store import DataVersions

    configured, workload, found = _found(arguments)
    path = DataVersions(configured, workload).checkout(found)
    print(json.dumps({**_summary(found), "file": str(path)}) if arguments.json else path)
    return 0


def _open(arguments: argparse.Namespace) -> tuple[Settings, Workload]:
    from windlass import catalog, settings

    configured = settings.load()
    return configured, catalog.load(arguments.workload, configured.project)


def _found(arguments: argparse.Namespace) -> tuple[Settings, Workload, Version]:
    from monitoring.data_versions import version
    from monitoring.data_versions.store import DataVersions

    configured, workload = _open(arguments)
    DataVersions(configured, workload).known()
    return configured, workload, version.find(configured, workload.name, arguments.version)


def _check(workload: Workload, frame: pd.DataFrame, name: str) -> tuple[datetime, datetime]:
    from components.validate import check_partition

    volume = check_partition(workload, frame, name)
    return volume.oldest, volume.newest


def _told(configured: Settings, workload: Workload, cause: str) -> bool:
    """Whether a signal of this cause was journaled."""
    from monitoring.retrain import journal
    from windlass.journal import read

    records = read(journal.path(configured))
    return any(r["workload"] == workload.name and r.get("cause") == cause for r in records)


def _source(workload: Workload, arguments: argparse.Namespace) -> tuple[Load, str]:
    """How the rows asked for are loaded, and where they come from."""
    from components.validate import rows_between
    from components.window import parse
    from windlass.errors import UsageError

    file, start, end = arguments.file, arguments.start, arguments.end
    if file is not None:
        if start is not None or end is not None:
            raise UsageError("a file is taken whole; leave --from and --to out, or leave the file out")
        # a name that was mistyped is no partition that was refused
        if not file.is_file():
            raise UsageError(f"data file {file}: there is no such file; name a CSV or parquet file")
        return lambda: workload.source.load(file), f"data file {file}"
    if start is None or end is None:
        raise UsageError(
            f"which rows of the built-in data of workload {workload.name!r}? Give --from and --to, or a file"
        )
    name = f"the built-in data of workload {workload.name!r}"
    window = parse(start, end)
    return lambda: rows_between(workload, workload.source.load(None), window, name), name


def _summary(version: Version) -> dict[str, Any]:
    return {
        "workload": version.workload,
        "version": version.id,
        "at": version.at,
        "parent": version.parent,
        "added": version.added,
        "rows": version.rows,
        "new_rows": version.new_rows,
        "from": version.start,
        "to": version.end,
    }


def _span(version: Version) -> str:
    return f"{version.start[:10]} to {version.end[:10]}"
