"""`windlass report`: one page about what the loop did."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from windlass.settings import Settings


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "report",
        help="write the report page",
        description="Writes one self-contained page: of a demo's folder, or of what this platform has logged, released "
        "and registered. The platform serves its own at its report_url.",
        epilog="example: windlass report flights\n         windlass report --from demo-out",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "workload", nargs="?", help="name of the workload (not needed with --from, or if there is one only)"
    )
    parser.add_argument(
        "--from",
        dest="folder",
        type=Path,
        metavar="DIR",
        help="folder with summary.json, decisions.jsonl, series.json",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="page to write (default: report.html in DIR or in the platform's home)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json

    from monitoring.report import render
    from windlass import settings

    configured = settings.load()
    if arguments.folder is not None:
        summary, decisions, series = _folder(arguments.folder)
        out = arguments.out or arguments.folder / "report.html"
    else:
        summary, decisions, series = _platform(configured, _workload(configured, arguments.workload))
        out = arguments.out or configured.home / "report.html"
    render(summary, decisions, series, out)
    result = {"report": str(out.resolve()), "bytes": out.stat().st_size}
    print(json.dumps(result) if arguments.json else f"report: {result['report']}")
    return 0


def _folder(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    import json

    from windlass.errors import UsageError
    from windlass.journal import read

    if not (folder / "summary.json").is_file():
        raise UsageError(f"{folder / 'summary.json'} is missing; `windlass demo --out {folder}` writes it")
    try:
        summary = json.loads((folder / "summary.json").read_text())
        series = (
            json.loads((folder / "series.json").read_text()) if (folder / "series.json").is_file() else {}
        )
        decisions = list(read(folder / "decisions.jsonl"))
    except ValueError as error:
        raise UsageError(f"a file in {folder} is not JSON ({error}); run the demo again") from error
    return summary, decisions, series


def _workload(configured: Settings, name: str | None) -> str:
    from windlass import catalog
    from windlass.errors import UsageError

    known = catalog.names(configured.project)
    if name is None and len(known) == 1:
        return known[0]
    if name is None:
        raise UsageError(f"name a workload: {', '.join(known) or 'there is none yet'}")
    return catalog.load(name, configured.project).name


def _platform(configured: Settings, name: str) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    from dataclasses import asdict

    from components.registry import Registry
    from monitoring import live
    from monitoring.analysis import store

    joined = live.load(configured)
    registry = Registry(configured)
    released = _releases(configured, name)
    summary = {
        "workload": name,
        "requests": len(joined.window(name)),
        "failed_requests": None,
        "latency_ms": live.overall_latency(joined, name),
        "versions": [
            {
                "version": v.version,
                "trained_from": v.trained_from,
                "trained_to": v.trained_to,
                "offline_auc": v.offline_auc,
                "state": v.state,
            }
            for v in sorted(registry.versions(name), key=lambda v: int(v.version))
        ],
        "months": live.months(joined, name),
        "triggers": live.triggers(configured, name),
        "releases": released["releases"],
        "rollbacks": [],
    }
    champion = registry.champion(name)
    analyses = live.analyses(configured, name)
    series = {
        "analyses": analyses,
        "analysis_status": asdict(store.status(configured, name)),
        # the analyses' own map takes the place of this one
        "drift": [] if analyses else _drift(configured, joined, name, champion),
        "weights": released["weights"],
        "confidence": released["confidence"],
        "latency": live.latency(joined, name),
        "lineage": _lineage(configured, name, champion),
    }
    return summary, released["decisions"], series


def _drift(configured: Settings, joined: Any, name: str, champion: str | None) -> list[dict[str, Any]]:
    from datetime import timedelta

    from monitoring import live, reference
    from windlass.errors import WindlassError

    if champion is None:
        return []
    try:
        trained = reference.of_version(configured, name, champion)
    except WindlassError:
        return []  # the page says "no data" there; `windlass drift` says why
    return live.drift_series(joined, name, trained, champion, timedelta(days=7))


def _lineage(configured: Settings, name: str, champion: str | None) -> list[dict[str, Any]]:
    from windlass.local import lineage

    if champion is None:
        return []
    chain = lineage.of_version(configured, name, champion).chain
    return [
        {"kind": k.kind, "title": _title(k.kind, k.id), "detail": _detail(k.detail), "at": k.at}
        for k in chain
    ]


def _title(kind: str, name: str) -> str:
    return f"version {name}" if kind in ("version", "replacedBy", "rebuiltAs") else name


def _detail(detail: Mapping[str, Any]) -> str:
    """The plain values of a link's detail, in a line; lists and evidence stand in `windlass lineage`."""
    shown = {k: v for k, v in detail.items() if isinstance(v, str | bool | int | float) and v != ""}
    return ", ".join(
        f"{k.replace('_', ' ')} {format(v, '.4g') if isinstance(v, float) else str(v)[:80]}"
        for k, v in shown.items()
    )


OUTCOMES = {"Promoted": "promoted", "RolledBack": "rolled_back", "Aborted": "inconclusive"}


def _releases(configured: Settings, name: str) -> dict[str, list[dict[str, Any]]]:
    """What the release journals tell: outcomes, weights over time, every check's looks."""
    from serving.release.journal import history
    from serving.release.release import strategy_name

    found: dict[str, list[dict[str, Any]]] = {
        "releases": [],
        "weights": [],
        "confidence": [],
        "decisions": [],
    }
    for _, _, path in history.files(configured.journal_dir / "releases", name):
        past = history.read(path)
        if past is None:
            continue
        candidate = ", ".join(past.release.candidates)
        for record in history.decisions(path):
            if record["acts"]:
                found["weights"].append({"at": record["at"], "weights": record["weights"]})
                found["decisions"].append(
                    {
                        "at": record["at"],
                        "decision": f"release {candidate}: {record['action']}",
                        "rule": record["check"] or record["reason"],
                        "inputs": {"requests": record["requests"]},
                    }
                )
            found["confidence"] += [
                {
                    # journals of the first rules name no version: there is one
                    "release": verdict.get("version") or candidate,
                    "check": verdict["check"],
                    "at": record["at"],
                    "n": verdict["n"],
                    "estimate": verdict["estimate"],
                    "lower": verdict["lower"],
                    "upper": verdict["upper"],
                    "bound": verdict["bound"],
                    "verdict": verdict["outcome"],
                }
                for verdict in record["verdicts"]
            ]
        last = past.last or {}
        found["releases"].append(
            {
                "version": candidate,
                "strategy": strategy_name(past.release.strategy),
                "outcome": OUTCOMES.get(past.state.phase, past.state.phase.lower()),
                "reason": last.get("reason"),
                "requests_to_verdict": sum(past.state.seen(version).n for version in past.release.candidates),
                "sabotage": None,
            }
        )
    return found
