"""`windlass release`: apply a release, see it, steer it, roll back."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Handler = Callable[[argparse.Namespace], int]


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "release",
        help="apply, watch, steer and roll back releases",
        description="A release moves traffic to a new version step by step, as long as its checks allow.",
        epilog="example: windlass release apply -f release.yaml\n         windlass release rollback flights",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(metavar="ACTION", title="actions", required=True)
    lint = _add(actions, "lint", "check a Release document without applying it", _lint)
    apply = _add(actions, "apply", "start a release on the running platform", _apply)
    for action in (lint, apply):
        action.add_argument("-f", "--file", type=Path, required=True, help="the Release document (YAML)")
    status = _add(actions, "status", "where releases stand", _status)
    status.add_argument("model", nargs="?", help="the registered model's name (default: all)")
    explain = _add(actions, "explain", "which check decided, on what evidence", _explain)
    explain.add_argument("--release", help="the release's name (default: the model's newest)")
    steering = {
        "pause": "keep the weights as they are; guardrails stay on watch",
        "resume": "go on after a pause",
        "abort": "end the release, all traffic to the champion",
        "promote": "give the candidate all traffic without waiting for the checks",
    }
    models = [explain]
    for name, text in steering.items():
        action = _add(actions, name, text, _command)
        action.set_defaults(command=name)
        models.append(action)
    rollback = _add(
        actions,
        "rollback",
        "all traffic back to the previous version, now, also after a promotion",
        _rollback,
    )
    rollback.add_argument("--to", metavar="VERSION", help="version to go back to (default: the previous one)")
    for action in [*models, rollback]:
        action.add_argument("model", help="the registered model's name")


def _add(actions: Any, name: str, text: str, handler: Handler) -> Any:
    action = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    action.add_argument("--json", action="store_true", help="print one JSON object")
    action.set_defaults(handler=handler)
    return action


def _lint(arguments: argparse.Namespace) -> int:
    from serving.release import operations

    release = operations.read(arguments.file)
    weights = " -> ".join(f"{step.weight} %" for step in release.strategy.steps)
    _print(
        arguments,
        {"valid": True, "release": release.name, "model": release.model, "candidate": release.candidate},
        f"{arguments.file}: release {release.name} of {release.model} version {release.candidate}, {weights}, "
        f"{len(release.checks)} checks: fine",
    )
    return 0


def _apply(arguments: argparse.Namespace) -> int:
    from serving.release import operations
    from windlass import settings
    from windlass.clock import SystemClock

    done = operations.apply(settings.load(), operations.read(arguments.file), SystemClock())
    when = (
        "the platform starts it"
        if done["platform_runs"]
        else "it starts with `windlass up`, no platform runs now"
    )
    _print(arguments, done, f"release {done['release']} of {done['model']} is handed over: {when}")
    return 0


def _command(arguments: argparse.Namespace) -> int:
    from serving.release import operations
    from windlass import settings
    from windlass.clock import SystemClock

    done = operations.command(settings.load(), arguments.model, arguments.command, SystemClock())
    when = (
        "at the platform's next look"
        if done["platform_runs"]
        else "once `windlass up` runs, no platform runs now"
    )
    _print(arguments, done, f"{done['command']} of release {done['release']}: {when}")
    return 0


def _rollback(arguments: argparse.Namespace) -> int:
    from serving.release import operations
    from windlass import settings
    from windlass.clock import SystemClock

    done = operations.rollback(settings.load(), arguments.model, arguments.to, SystemClock())
    _print(
        arguments, done, f"{done['model']}: all traffic on version {done['to']} after {done['seconds']:.3f} s"
    )
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from serving.release import operations
    from windlass import settings

    found = operations.status(settings.load(), arguments.model)
    lines = [_line(release) for release in found["releases"]] or ["no release yet"]
    _print(arguments, found, "\n".join(lines))
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    from serving.release import operations
    from windlass import settings

    found = operations.explain(settings.load(), arguments.model, arguments.release)
    lines = [_line(found), ""]
    lines += [f"{turn['at']}  {turn['action']:<9} {turn['reason']}" for turn in found["decisions"]]
    lines += ["", f"checks at the last of {found['looks']} looks:"]
    lines += [f"  {v['check']:<14} {v['outcome']:<12} {v['reason']}" for v in found["verdicts"]]
    _print(arguments, found, "\n".join(lines))
    return 0


def _line(release: dict[str, Any]) -> str:
    weights = ", ".join(f"{version}: {weight} %" for version, weight in release["weights"].items())
    return (
        f"{release['model']}: {release['release']} (version {release['candidate']} against {release['champion']}) "
        f"{release['phase']}, step {release['step']} of {release['steps']}, {weights}; {release['reason']}"
    )


def _print(arguments: argparse.Namespace, content: dict[str, Any], text: str) -> None:
    print(json.dumps(content) if arguments.json else text)
