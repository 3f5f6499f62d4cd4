"""`windlass release`: foresee, apply, watch, steer, explain and roll back releases.

What one does before a release is in `release_before.py`, what one reads of it in `release_after.py`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.release.people.running import Platform
    from windlass.settings import Settings

NO_ENGINE = "no engine runs here, so nothing moves: `windlass up` takes over"

Handler = Callable[[argparse.Namespace], int]


def register(subparsers: Any) -> None:
    from windlass.cli import release_after, release_before, release_on_cluster

    parser = subparsers.add_parser(
        "release",
        help="plan, apply, watch, steer, explain and roll back releases",
        description="A release moves traffic to a new version as far as its checks allow.",
        epilog="example: windlass release plan -f release.yaml\n"
        "         windlass release apply -f release.yaml && windlass release wait flights --timeout 1h\n"
        "         windlass release rollback flights\n"
        "on a cluster: windlass release rollback flights --namespace windlass",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(metavar="ACTION", title="actions", required=True)
    release_before.register(actions)
    release_after.register(actions)
    steering = {
        "pause": "keep the weights as they are; guardrails stay on watch",
        "resume": "go on after a pause",
        "abort": "end the release, all traffic to the champion",
        "promote": "give the candidate all traffic without waiting for the checks",
    }
    for name, text in steering.items():
        action = add(actions, name, text, _command, f"windlass release {name} flights")
        action.set_defaults(command=name)
        action.add_argument("model", help="the registered model's name")
        release_on_cluster.options(action, waits=True)
        if name == "promote":
            action.add_argument("--version", help="the candidate, where there are several")
    rollback = add(
        actions,
        "rollback",
        "all traffic back to the previous version, now, also after a promotion",
        _rollback,
        "windlass release rollback flights --to 12",
    )
    rollback.add_argument("model", help="the registered model's name")
    rollback.add_argument("--to", metavar="VERSION", help="version to go back to (default: the previous one)")
    release_on_cluster.options(rollback, waits=True)


def add(actions: Any, name: str, text: str, handler: Handler, example: str) -> Any:
    """One action of the group."""
    action = actions.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    action.add_argument("--json", action="store_true", help="print one JSON object")
    action.set_defaults(handler=handler)
    return action


def show(arguments: argparse.Namespace, content: dict[str, Any], text: str) -> None:
    """Print the one or the other."""
    print(json.dumps(content) if arguments.json else text)


def platform(configured: Settings) -> Platform:
    """What runs on this home: the layers below the platform cannot ask it themselves."""
    from serving.release.people.running import Platform
    from windlass.local import state

    described = state.running(configured)
    return Platform(described is not None, tuple((described or {}).get("models", ())))


def _command(arguments: argparse.Namespace) -> int:
    from windlass.cli import release_on_cluster

    version = getattr(arguments, "version", None)
    if release_on_cluster.is_meant(arguments):
        return release_on_cluster.command(arguments, _with(arguments.command, version))
    from serving.release.people import operations
    from windlass import settings
    from windlass.clock import SystemClock

    configured = settings.load()
    with release_on_cluster.hinted(configured, arguments.command):
        done = operations.command(
            configured, arguments.model, arguments.command, SystemClock(), version, platform(configured)
        )
    when = (
        "at the platform's next look"
        if done["platform_runs"]
        else "once `windlass up` runs, no engine runs now"
    )
    text = f"{done['command']} of release {done['release']}: {when}"
    if done["already"]:
        text = f"release {done['release']} is {done['phase'].lower()} already: nothing to {done['command']}"
    show(arguments, done, "\n".join([text, *(f"note: {note}" for note in done["notes"])]))
    return 0


def _with(command: str, version: str | None) -> str:
    return command if version is None else f"{command}:{version}"


def _rollback(arguments: argparse.Namespace) -> int:
    from windlass.cli import release_on_cluster

    if release_on_cluster.is_meant(arguments):
        return release_on_cluster.command(arguments, _with("rollback", arguments.to))
    # not by way of `operations`: what is needed at three in the morning imports nothing else
    from serving.release import rollback
    from windlass import settings
    from windlass.clock import SystemClock
    from windlass.local.plane import DataPlane

    configured = settings.load()
    with release_on_cluster.hinted(configured, "rollback"):
        done = rollback.rollback(
            configured, arguments.model, arguments.to, SystemClock(), DataPlane(configured)
        )
    when = (
        f"after {done['seconds']:.3f} s" if done["serving"] else "once `windlass up` runs, nothing serves now"
    )
    after = (
        ""
        if done["engine_runs"]
        else "; no engine runs: `windlass up` takes over, and moves the champion's alias"
    )
    show(arguments, done, f"{done['model']}: all traffic on version {done['to']} {when}{after}")
    return 0
