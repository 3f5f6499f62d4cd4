"""During and after a release: where it stands, how it looks, waiting for it, why it ended so."""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.release.people.waiting import Found

ANOTHER_CLOCK = timedelta(days=7)
"""An engine whose newest word is this far from now lives in a time of its own, as a demo's does."""


def register(actions: Any) -> None:
    from windlass.cli import release_on_cluster, release_replay
    from windlass.cli.release import add

    status = add(actions, "status", "where releases stand", _status, "windlass release status flights --json")
    status.add_argument("model", nargs="?", help="the registered model's name (default: all)")
    release_on_cluster.options(status, waits=False)
    watch = add(
        actions,
        "watch",
        "live view: traffic, checks with intervals, next step",
        _watch,
        "windlass release watch flights",
    )
    watch.add_argument("--once", action="store_true", help="draw it once and end")
    watch.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="between two looks")
    wait = add(
        actions,
        "wait",
        "wait for a release to end: exit code 0 promoted, 1 refused, 3 rolled back, 4 inconclusive, 5 timed out",
        _wait,
        "windlass release wait flights --timeout 2h",
    )
    wait.add_argument(
        "--timeout", type=_duration, metavar="DURATION", help="for example 30m (default: no limit)"
    )
    explain = add(
        actions,
        "explain",
        "which check decided, on what evidence",
        _explain,
        "windlass release explain flights",
    )
    report = add(
        actions,
        "report",
        "write a release's report page",
        _report,
        "windlass release report flights --out page.html",
    )
    report.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="page to write (default: under reports/ of the platform's home)",
    )
    for action in (watch, wait, explain, report):
        action.add_argument("model", help="the registered model's name")
        action.add_argument("--release", help="the release's name (default: the model's newest)")
    release_replay.register(actions)


def _duration(text: str) -> timedelta:
    from serving.release import durations

    try:
        return durations.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


# --- where it stands


def _status(arguments: argparse.Namespace) -> int:
    from windlass.cli import release_on_cluster

    if release_on_cluster.is_meant(arguments):
        return release_on_cluster.status(arguments)
    from serving.release.people import operations
    from windlass import settings
    from windlass.cli.release import NO_ENGINE, platform, show

    configured = settings.load()
    found = operations.status(configured, arguments.model, platform(configured))
    lines = [line for release in found["releases"] for line in _standing(release)]
    told = {release["model"] for release in found["releases"]}
    lines += [
        f"{place['model']}: {note}"
        for place in found["handed_over"]
        if place["model"] not in told
        for note in operations.news(configured, place["model"], None)
    ]
    moves = any(release["outcome"] is None for release in found["releases"])
    if not found["platform_runs"] and (moves or any(place["inbox"] for place in found["handed_over"])):
        lines.append(NO_ENGINE)
    show(arguments, found, "\n".join(lines or ["no release yet"]))
    return 0


def _standing(release: dict[str, Any]) -> list[str]:
    weights = ", ".join(f"{version}: {weight} %" for version, weight in release["weights"].items())
    versions = " and ".join(release["candidates"])
    lines = [
        f"{release['model']}: {release['release']} (version {versions} against {release['champion']}) "
        f"{release['phase']}, step {release['step']} of {release['steps']}, {weights}; {release['reason']}"
    ]
    if release["alert"] is not None:
        lines.append(f"  alert: {release['alert']}")
    if not release["in_force"]:
        lines.append("  the last decision is not in force yet")
    lines += [f"  queued: {name}" for name in release["queued"]]
    lines += [f"  {note}" for note in release["notes"]]
    return lines


def _explain(arguments: argparse.Namespace) -> int:
    from serving.release.people import explanation, operations, waiting
    from windlass import settings
    from windlass.cli.release import show

    configured = settings.load()
    found = waiting.locate(configured, arguments.model, arguments.release)
    told = found.told
    if told is None and arguments.release is None:
        told = operations.newest(configured, arguments.model)
    if told is None:
        handed = found.handed
        sentence = "" if handed is None else handed.sentence
        content = {
            "release": found.name,
            "model": arguments.model,
            "place": found.place,
            "sentence": sentence,
        }
        show(arguments, content, f"{arguments.model}: {sentence}")
        return 0
    notes = [f"note: {note}" for note in operations.news(configured, arguments.model, told)]
    if arguments.json:
        print(json.dumps(operations.explained(configured, told)))
    else:
        print("\n".join([*notes, explanation.text(told)]))
    return 0


# --- live


def _watch(arguments: argparse.Namespace) -> int:
    from serving.release.people import operations, waiting
    from windlass import settings
    from windlass.cli.release import NO_ENGINE, platform
    from windlass.errors import UsageError

    if not arguments.interval > 0:
        raise UsageError(f"--interval {arguments.interval:g} is not above 0; give seconds")
    configured = settings.load()
    found = waiting.locate(configured, arguments.model, arguments.release)
    if arguments.json:
        told = found.told
        standing = None if told is None else operations.standing(configured, told)
        content = {
            "release": found.name,
            "place": found.place,
            "reason": None if found.handed is None else found.handed.reason,
            "standing": standing,
            "platform_runs": platform(configured).engine,
        }
        print(json.dumps(content))
        return 0
    live, shown = sys.stdout.isatty(), ""
    reader = waiting.Reader(configured, arguments.model, found.name)
    try:
        while True:
            found = reader.where() or found
            frame = _frame(found, live)
            over = found.place == "refused" or (found.told is not None and not found.told.state.live)
            if not over and not platform(configured).engine:
                frame += f"\n  {NO_ENGINE}"
            if live:
                # home, draw, and clear what a longer frame left: no flicker of an empty screen
                print("\x1b[H" + frame.replace("\n", "\x1b[K\n") + "\x1b[K\x1b[J", flush=True)
            elif frame != shown:
                print(frame + "\n", flush=True)
            shown = frame
            if arguments.once or over:
                return 0
            time.sleep(arguments.interval)
    except KeyboardInterrupt:
        return 0  # how one leaves a live view


def _frame(found: Found, live: bool) -> str:
    import shutil

    from serving.release.people import view
    from windlass.clock import SystemClock

    if found.told is None:
        return f"release {found.name}" if found.handed is None else found.handed.sentence
    now, told = SystemClock().now(), found.told.told
    if not live or abs(now - told) > ANOTHER_CLOCK:
        now = told  # a frame for each change where nobody sees the clock run, or where the engine has its own
    width = shutil.get_terminal_size((view.WIDTH, 40)).columns if live else view.WIDTH
    return view.frame(found.told, now, width=width, color=live)


def _wait(arguments: argparse.Namespace) -> int:
    from serving.release.people import explanation, operations, waiting
    from windlass import settings
    from windlass.cli.release import NO_ENGINE, platform, show

    configured = settings.load()
    begun = time.monotonic()

    def say(found: Found) -> None:
        if arguments.json:
            return
        told = found.told
        where = f"in the {found.place}" if told is None else explanation.waits_for(told) or told.state.phase
        if found.place == "refused" and found.handed is not None:
            where = f"refused: {found.handed.reason}"
        elif (told is None or told.state.live) and not platform(configured).engine:
            where += f" ({NO_ENGINE})"
        print(f"{found.name}: {where}", file=sys.stderr, flush=True)

    came = waiting.wait(
        configured,
        arguments.model,
        arguments.release,
        arguments.timeout,
        sleep=time.sleep,
        passed=lambda: time.monotonic() - begun,
        say=say,
        on_wire=lambda told: operations.on_wire(configured, told, platform(configured)),
    )
    told, handed = came.found.told, came.found.handed
    sentence = None if handed is None else handed.sentence
    if told is not None:
        sentence = explanation.sentence(told) + ("" if came.pending is None else f" But {came.pending}.")
    runs = platform(configured).engine
    content = {
        "release": came.found.name,
        "model": arguments.model,
        "outcome": came.word,
        "reason": None if handed is None else handed.reason,
        "pending": came.pending,
        "exit_code": came.exit_code,
        "place": came.found.place,
        "phase": None if told is None else told.state.phase,
        "sentence": sentence,
        "waited_seconds": time.monotonic() - begun,
        "platform_runs": runs,
    }
    down = f" ({NO_ENGINE})" if came.word == "timed_out" and not runs else ""
    show(arguments, content, f"{came.word.replace('_', ' ')}: {sentence}{down}")
    return came.exit_code


# --- afterwards


def _report(arguments: argparse.Namespace) -> int:
    from windlass import settings
    from windlass.cli.release import show
    from windlass.local import release_report

    page = release_report.write(settings.load(), arguments.model, arguments.release, arguments.out)
    done = {"model": arguments.model, "report": str(page.resolve()), "bytes": page.stat().st_size}
    show(arguments, done, f"report: {done['report']}")
    return 0
