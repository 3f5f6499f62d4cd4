"""`windlass retrain`: a person's signal, through the same rules and the same pipeline as any other."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    parser.add_argument(
        "--data-repaired",
        action="store_true",
        help="the data is in order again: no alert about its quality holds retraining back any longer",
    )
    parser.add_argument(
        "--give-up",
        metavar="TRIGGER",
        help="close an open trigger that nothing comes of any more, as in vain",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json
    from datetime import UTC, datetime

    from components import window
    from monitoring.retrain.signals import Signal
    from windlass import catalog, settings
    from windlass.errors import UsageError

    configured = settings.load()
    workload = catalog.load(arguments.workload, configured.project)
    if arguments.trials is not None and arguments.trials < 1:
        raise UsageError(f"--trials {arguments.trials} leaves nothing to train; use 1 or more")
    if arguments.start is not None or arguments.end is not None:
        # what the other end is, the run finds out
        window.parse(arguments.start or "0001-01-01", arguments.end or "9998-12-31")
    release = False if arguments.no_release else None
    stated = {"from": arguments.start, "to": arguments.end, "trials": arguments.trials, "release": release}
    detail = {name: value for name, value in stated.items() if value is not None}
    now = datetime.now(UTC)
    signal = Signal("manual", f"manual/{now.isoformat()}", now, detail, override=arguments.override)
    result = offer(configured, workload, signal, repaired=arguments.data_repaired, given_up=arguments.give_up)
    print(json.dumps(result) if arguments.json else text(result))
    failed = result["accepted"] and result["run"] is None
    return 1 if failed else 0


def offer(
    configured: Settings,
    workload: Workload,
    signal: Signal,
    *,
    repaired: bool = False,
    given_up: str | None = None,
) -> dict[str, Any]:
    """Journal a signal and, where the policy accepts it, run the pipeline to its end; what was decided and made.

    Args:
        repaired: a person says that the data is in order again: alerts about its quality count as ended.
        given_up: an open trigger that a person gives up.

    Raises:
        UsageError: there is no such open trigger.
    """
    import sys
    from datetime import UTC, datetime

    from monitoring.retrain import clock, journal
    from monitoring.retrain.following import follow
    from monitoring.retrain.service.core import Watched
    from windlass import retrain_policy as policy
    from windlass.errors import UsageError, WindlassError
    from windlass.local.retraining.surroundings import OnThisMachine, Surroundings

    workload = policy.in_force(workload, configured.project)
    here = OnThisMachine(configured, workload)
    around = Surroundings(configured, workload, here)
    trigger = journal.Trigger(workload.name, workload.retrain, journal.path(configured), around.submit)
    now = datetime.now(UTC)
    trigger.watch(clock.read())
    if repaired:
        trigger.repaired(now)
    if given_up is not None:
        open_ = [t.id for t in trigger.history() if t.helped is None]
        if given_up not in open_:
            known = ", ".join(open_) or "none"
            raise UsageError(f"trigger {given_up!r} of {workload.name!r} is not open; open: {known}")
        trigger.resolved(given_up, now, helped=False, reason="given up by a person")
    recovered = trigger.recover(now)
    try:
        follow(trigger, around, now)
    except WindlassError as error:
        print(f"windlass: {error}", file=sys.stderr)
    decision = trigger.offer(signal, now, **Watched(trigger, around).standing())
    ended = None
    if decision.accepted and decision.trigger is not None:
        ended = here.runs.wait(decision.trigger, lambda line: print(line, file=sys.stderr))
        if ended.error is not None:
            print(f"windlass: the run {decision.trigger} failed: {ended.error}", file=sys.stderr)
        try:
            follow(trigger, around, datetime.now(UTC))
        except WindlassError as error:
            # another trigger's trouble is not this one's
            if not any(t.id == decision.trigger and t.finished for t in trigger.history()):
                raise
            print(f"windlass: {error}", file=sys.stderr)
    run: dict[str, Any] | None = None
    if ended is not None and ended.result is not None:
        run = dict(ended.result)
        version = str(run["version"])
        if version in around.handed_over:
            run["release_applied"] = around.handed_over[version]
        elif run["passed"] and (withheld := around.withheld(version)) is not None:
            run["release_withheld"] = withheld
    return {
        "workload": workload.name,
        "accepted": decision.accepted,
        "reason": decision.reason,
        "rule": decision.rule,
        "held": decision.held,
        "trigger": decision.trigger,
        "recovered": list(recovered),
        "run": run,
    }


def text(result: dict[str, Any]) -> str:
    """What `offer` returned, for people."""
    if not result["accepted"]:
        later = "; it is decided again when that is over" if result["held"] else ""
        return f"not retrained: {result['reason']}{later}"
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
