"""`windlass retrain`: a person's signal, through the same rules and the same pipeline as any other."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from monitoring.retrain.journal import Trigger
    from monitoring.retrain.signals import Signal
    from windlass.contract import Workload
    from windlass.settings import Settings


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "retrain",
        help="ask for a retraining, under the workload's policy",
        description="Journals a manual signal. If the retrain policy accepts it, the training pipeline runs under the "
        "trigger's id; a candidate that passes its gates is handed to a release.",
        epilog="example: windlass retrain flights\n"
        "A signal that the policy holds back exits with 0 (see `accepted` and `reason`): the command decided.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workload", help="name of the workload")
    parser.add_argument(
        "--from", dest="start", metavar="DATE", help="first day of the data (default: the champion's)"
    )
    parser.add_argument(
        "--to", dest="end", metavar="DATE", help="last day of the data (default: the newest there is)"
    )
    parser.add_argument("--trials", type=int, metavar="N", help="models to try")
    parser.add_argument(
        "--override", action="store_true", help="go on although a cool-down or an escalation holds it back"
    )
    parser.add_argument(
        "--no-release", action="store_true", help="do not hand a candidate that passed to a release"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json
    from datetime import UTC, datetime

    from monitoring.retrain.signals import Signal
    from windlass import catalog, settings

    configured = settings.load()
    workload = catalog.load(arguments.workload, configured.project)
    detail = {**_span(configured, workload, arguments), "trials": arguments.trials}
    now = datetime.now(UTC)
    signal = Signal("manual", f"manual/{now.isoformat()}", now, detail, override=arguments.override)
    result = offer(configured, workload, signal, release=not arguments.no_release)
    print(json.dumps(result) if arguments.json else text(result))
    failed = result["accepted"] and result["run"] is None
    return 1 if failed else 0


def offer(
    configured: Settings, workload: Workload, signal: Signal, *, release: bool = True
) -> dict[str, Any]:
    """Journal a signal and, where the policy accepts it, run the pipeline to its end; what was decided and made."""
    from datetime import UTC, datetime

    from monitoring.retrain import journal

    runs = Runs(configured, workload, release=release)
    trigger = journal.Trigger(workload.name, workload.retrain, journal.path(configured), runs.submit)
    now = datetime.now(UTC)
    settle(configured, workload.name, trigger, now)
    recovered = trigger.recover(now)
    runs.close(trigger)
    decision = trigger.offer(signal, now, live_release=_live(configured, workload.name))
    runs.close(trigger)
    return {
        "workload": workload.name,
        "accepted": decision.accepted,
        "reason": decision.reason,
        "rule": decision.rule,
        "trigger": decision.trigger,
        "recovered": list(recovered),
        "run": runs.results.get(decision.trigger or "") if decision.accepted else None,
    }


class Runs:
    """Pipeline runs by trigger id. `submit` is idempotent: a run that has finished is found, not repeated."""

    def __init__(self, configured: Settings, workload: Workload, *, release: bool) -> None:
        self._settings = configured
        self._workload = workload
        self._release = release
        self.results: dict[str, dict[str, Any]] = {}
        self._errors: dict[str, str] = {}

    def submit(self, trigger: str, signal: Any) -> str:
        """Run the pipeline to its end; a failure is an outcome of the trigger, not one of the trigger's journal."""
        import sys

        from monitoring.data_versions.signal import data
        from pipelines import local
        from windlass.errors import WindlassError

        detail = signal.detail
        try:
            request = local.Request(
                self._workload.name,
                detail["from"],
                detail["to"],
                data(self._settings, self._workload, detail),
                detail.get("trials"),
                trigger,
            )
            self.results[trigger] = local.train(self._settings, request)
        except WindlassError as error:
            print(f"windlass: the run {trigger} failed: {error}", file=sys.stderr)
            self._errors[trigger] = str(error)
        return trigger

    def close(self, trigger: Trigger) -> None:
        """Journal how the runs ended, and hand over the release of a candidate that passed."""
        from datetime import UTC, datetime

        now = datetime.now(UTC)
        finished = {t.id for t in trigger.history() if t.finished}
        for name, error in self._errors.items():
            if name not in finished:
                trigger.resolved(name, now, helped=False, reason=f"the run failed: {error}")
        for name, result in self.results.items():
            if name in finished:
                continue
            trigger.finished(name, now, version=result["version"])
            if not result["passed"]:
                failed = ", ".join(gate["check"] for gate in result["gates"] if not gate["passed"])
                trigger.resolved(name, now, helped=False, reason=f"gates failed: {failed}")
            elif result.get("champion") is None:
                trigger.resolved(name, now, helped=True, reason="the first champion")
            elif self._release and result.get("release"):
                withheld = self._withheld(result["version"])
                if withheld is None:
                    self._apply(result)
                    continue
                result["release_withheld"] = withheld
                trigger.resolved(name, now, helped=False, reason=withheld, version=result["version"])

    def _withheld(self, version: str) -> str | None:
        """Why a candidate is not released again without a person; None where nothing speaks against it.

        The same data and settings give the same model, and the registry its old number, or another one where it was
        judged against another champion: what users were taken off must not come back by a schedule.
        """
        from components.registry import Registry
        from serving.release import rollback

        model = self._workload.name
        gone = rollback.withdrawn(self._settings, model)
        if not gone:
            return None
        known = {v.version: v.tags.get("candidate_content") for v in Registry(self._settings).versions(model)}
        content = known.get(version)
        for old in sorted(gone):
            if old == version or (content is not None and known.get(old) == content):
                what = "it" if old == version else f"version {old}, the same model,"
                return (
                    f"version {version} is not released by itself: {what} was rolled back; a person may apply its "
                    "release"
                )
        return None

    def _apply(self, result: dict[str, Any]) -> None:
        from pathlib import Path

        from serving.release.people import operations
        from windlass.cli.release import platform
        from windlass.clock import SystemClock

        result["release_applied"] = operations.apply(
            self._settings, operations.read(Path(result["release"])), SystemClock(), platform(self._settings)
        )


def settle(configured: Settings, model: str, trigger: Trigger, now: datetime) -> None:
    """Journal what came of earlier retrainings: whether their candidate's release was promoted."""
    from monitoring.retrain.journal import path
    from serving.release.journal import history
    from windlass.journal import read

    open_triggers = {t.id for t in trigger.history() if t.finished and t.helped is None}
    versions = {
        str(r.get("version")): r["id"]
        for r in read(path(configured))
        if r["event"] == "finished" and r["id"] in open_triggers
    }
    for _, _, file in history.files(configured.journal_dir / "releases", model):
        found = history.read(file)
        if found is None or found.state.live or found.release.candidate not in versions:
            continue
        helped = found.state.phase == "Promoted"
        reason = f"release {found.release.name}: {found.state.phase}"
        trigger.resolved(versions.pop(found.release.candidate), now, helped=helped, reason=reason)


def _live(configured: Settings, model: str) -> bool:
    from serving.release.journal import history

    newest = history.newest(configured.journal_dir / "releases", model)
    return newest is not None and newest.state.live


def _span(configured: Settings, workload: Workload, arguments: argparse.Namespace) -> dict[str, str]:
    """The data to train on: as asked for, else from where the champion began up to the newest row."""
    from components import window
    from components.registry import Registry

    start, end = arguments.start, arguments.end
    if start is None:
        registry = Registry(configured)
        champion = registry.champion(workload.name)
        if champion is not None:
            start = registry.info(workload.name, champion).trained_from
    if start is None or end is None:
        rows = workload.prepare(workload.source.load(None))
        times = rows[workload.source.event_time]
        start = start or f"{times.min():%Y-%m-%d}"
        end = end or f"{times.max():%Y-%m-%d}"
    window.parse(start, end)
    return {"from": start, "to": end}


def text(result: dict[str, Any]) -> str:
    """What `offer` returned, for people."""
    if not result["accepted"]:
        return f"not retrained: {result['reason']}"
    run = result["run"]
    if run is None:
        return f"accepted as {result['trigger']}, but the run failed; what it said is above"
    verdict = "passed its gates" if run["passed"] else "failed a gate: the champion stays"
    lines = [
        f"{run['model']} version {run['version']} {verdict} (AUC {run['metrics']['auc']:.4f}, run {result['trigger']})"
    ]
    if "release_applied" in run:
        applied = run["release_applied"]
        when = "the platform starts it" if applied["platform_runs"] else "it starts with `windlass up`"
        lines.append(f"release {applied['release']} is handed over: {when}")
    if "release_withheld" in run:
        lines.append(f"{run['release_withheld']}: `windlass release apply -f {run['release']}`")
    return "\n".join(lines)
