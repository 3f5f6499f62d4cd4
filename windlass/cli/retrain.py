"""`windlass retrain`: a person's signal, through the same rules and the same pipeline as any other."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monitoring.retrain.signals import Signal
    from windlass.contract import Workload
    from windlass.settings import Settings


URL, TOKEN, TOKEN_FILE = "WINDLASS_TRIGGER_URL", "WINDLASS_TRIGGER_TOKEN", "WINDLASS_RETRAIN_TOKEN_FILE"
"""Where the trigger is, its senders' token, and the file with it."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "retrain",
        help="ask for a retraining, under the workload's policy",
        description="Journals a manual signal. If the retrain policy accepts it, the training pipeline runs under the "
        "trigger's id; a candidate that passes its gates is handed to a release. With --url it is sent to the trigger "
        "that runs there, which runs what it accepts.",
        epilog="example: windlass retrain flights\n"
        "on a cluster: kubectl -n windlass exec deploy/windlass-retrain -- python3 -m windlass retrain flights\n"
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
    words = parser.add_mutually_exclusive_group()
    words.add_argument(
        "--data-repaired",
        action="store_true",
        help="ask for no retraining, but say that the data is in order: no alert about its quality holds any back",
    )
    words.add_argument(
        "--give-up",
        metavar="TRIGGER",
        help="ask for no retraining, but close an open trigger that nothing comes of any more, as in vain",
    )
    parser.add_argument(
        "--url",
        help=f"a retrain trigger that runs elsewhere (default: {URL}, else this machine's own journal)",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"the token of that trigger's senders (default: {TOKEN_FILE}, or the token itself in {TOKEN})",
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

    if arguments.trials is not None and arguments.trials < 1:
        raise UsageError(f"--trials {arguments.trials} leaves nothing to train; use 1 or more")
    if arguments.start is not None or arguments.end is not None:
        # what the other end is, the run finds out
        window.parse(arguments.start or "0001-01-01", arguments.end or "9998-12-31")
    release = False if arguments.no_release else None
    stated = {"from": arguments.start, "to": arguments.end, "trials": arguments.trials, "release": release}
    detail = {name: value for name, value in stated.items() if value is not None}
    word = arguments.data_repaired or arguments.give_up is not None
    if word and (detail or arguments.override):
        raise UsageError(
            "--data-repaired and --give-up ask for no retraining, so nothing goes with them; ask for one afterwards"
        )
    where = elsewhere(arguments.url, arguments.token_file)
    if where is not None:
        return _send(arguments, where, detail)
    configured = settings.load()
    workload = catalog.load(arguments.workload, configured.project)
    now = datetime.now(UTC)
    if word:
        said = say(configured, workload, give_up=arguments.give_up)
        print(json.dumps({"workload": workload.name, "words": [said]}) if arguments.json else said)
        return 0
    signal = Signal("manual", f"manual/{now.isoformat()}", now, detail, override=arguments.override)
    result = offer(configured, workload, signal)
    print(json.dumps(result) if arguments.json else text(result))
    failed = result["accepted"] and result["run"] is None
    return 1 if failed else 0


def elsewhere(url: str | None = None, path: Path | None = None) -> tuple[str, str] | None:
    """Address and token of a trigger that runs elsewhere; None where this machine's journal is meant.

    Args:
        url: as a person states it; None for what the environment says.
        path: of a file with the token; None for the same.

    Raises:
        UsageError: a trigger elsewhere is meant, and cannot be known, or its token cannot.
    """
    import os

    from windlass.errors import UsageError

    url = url or os.environ.get(URL)
    if not url:
        if path is not None:
            raise UsageError(f"--token-file {path} is of a trigger elsewhere; name it by --url")
        if os.environ.get("WINDLASS_NAMESPACE"):
            raise UsageError(
                "WINDLASS_NAMESPACE is set: releases are a cluster's here, and what this trained would get none; "
                f"send it to the trigger: --url http://127.0.0.1:8080 in its pod, or set {URL}"
            )
        return None
    path = path or (Path(os.environ[TOKEN_FILE]) if os.environ.get(TOKEN_FILE) else None)
    if path is None:
        token = os.environ.get(TOKEN, "")
    else:
        try:
            token = path.read_text()
        except OSError as error:
            raise UsageError(
                f"token file {path}: {error.strerror}; name the file of that trigger's token"
            ) from error
    if not token.strip():
        raise UsageError(f"nobody says which token {url} takes; give --token-file, or set {TOKEN_FILE}")
    return url, token.strip()


def _send(arguments: argparse.Namespace, where: tuple[str, str], detail: dict[str, Any]) -> int:
    """Send what is wanted to a trigger elsewhere, which does what it accepts."""
    import json
    import uuid

    from monitoring.retrain.service import client, events
    from windlass.cli import person

    identity, name = str(uuid.uuid4()), arguments.workload
    if arguments.data_repaired or arguments.give_up is not None:
        data = {"workload": name, "word": "dataRepaired", "by": person.name()}
        if arguments.give_up is not None:
            data |= {"word": "giveUp", "trigger": arguments.give_up}
        told = client.post(*where, events.WORD, identity, data)
        line = "\n".join(told.get("words") or ())
    else:
        data = {"workload": name, "kind": "manual", "detail": detail, "override": arguments.override}
        told = client.post(*where, events.TYPE, identity, data)
        line = sent(told["signals"][0])
    print(json.dumps({"workload": name, **told}) if arguments.json else line)
    return 0


def sent(decided: Mapping[str, Any]) -> str:
    """What a trigger elsewhere decided, for people."""
    if not decided["accepted"]:
        later = "; it is decided again when that is over" if decided["held"] else ""
        return f"not retrained: {decided['reason']}{later}"
    return f"accepted as {decided['trigger']}: its run is submitted, and what passes is released"


def say(configured: Settings, workload: Workload, *, give_up: str | None = None) -> str:
    """Journal a person's word that asks for no retraining; what it did, as a sentence.

    Args:
        give_up: an open trigger to close; None for the data's being in order again.

    Raises:
        UsageError: there is no such open trigger.
    """
    from datetime import UTC, datetime

    from monitoring.retrain import clock, journal
    from windlass.errors import WindlassError

    def submit(name: str, signal: Signal) -> None:
        raise WindlassError(f"{name} is not submitted by a word")

    trigger = journal.Trigger(workload.name, workload.retrain, journal.path(configured), submit)
    now = datetime.now(UTC)
    trigger.watch(clock.read())
    if give_up is not None:
        trigger.give_up(give_up, now, "a person")
        return f"{give_up} is given up"
    return f"{workload.name}: {trigger.repaired(now)} alerts about its data count as ended"


def offer(configured: Settings, workload: Workload, signal: Signal) -> dict[str, Any]:
    """Journal a signal and, where the policy accepts it, run the pipeline to its end; what was decided and made."""
    import sys
    from datetime import UTC, datetime

    from monitoring.retrain import clock, journal
    from monitoring.retrain.following import follow
    from monitoring.retrain.service.core import Watched
    from windlass import retrain_policy as policy
    from windlass.errors import WindlassError
    from windlass.local.retraining.surroundings import OnThisMachine, Surroundings

    workload = policy.in_force(workload, configured.project)
    here = OnThisMachine(configured, workload)
    around = Surroundings(configured, workload, here)
    trigger = journal.Trigger(workload.name, workload.retrain, journal.path(configured), around.submit)
    now = datetime.now(UTC)
    trigger.watch(clock.read())
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
