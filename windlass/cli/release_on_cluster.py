"""`windlass release … --namespace NS`: the same commands where releases are custom resources."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.release.cluster.api import KubernetesApi
    from windlass.settings import Settings

WITHIN_S = 60.0
"""An operator looks every 5 s; a rollback may wait for servers that were retired."""


def options(action: Any, *, waits: bool) -> None:
    """The arguments that name a cluster.

    Args:
        waits: whether the operator's answer is waited for.
    """
    action.add_argument(
        "-n", "--namespace", metavar="NS", help="a namespace of a cluster, instead of this machine's platform"
    )
    action.add_argument("--context", help="which cluster of the kubeconfig (default: the current one)")
    if waits:
        action.add_argument(
            "--timeout",
            type=_seconds,
            default=WITHIN_S,
            metavar="DURATION",
            help="how long the operator's answer is waited for, on a cluster (default: 60s)",
        )


def is_meant(arguments: argparse.Namespace) -> bool:
    """Whether a command is about a cluster.

    Raises:
        UsageError: a cluster is named and no namespace.
    """
    from windlass.errors import UsageError

    if arguments.namespace is None and arguments.context is not None:
        raise UsageError(f"--context {arguments.context} needs --namespace: name that of the releases")
    return arguments.namespace is not None


@contextlib.contextmanager
def hinted(configured: Settings, command: str) -> Iterator[None]:
    """Add to what a command of this machine fails with how it is given on a cluster, where no platform runs here."""
    from windlass.errors import UsageError, WindlassError

    try:
        yield
    except WindlassError as error:
        from windlass.local import state

        if state.running(configured) is not None:
            raise
        said = (
            f"{error}. No platform runs on this machine; of a cluster's release: add --namespace NS, or "
            f"`kubectl -n NS annotate release NAME windlass.dev/command={command}`"
        )
        raise (UsageError if isinstance(error, UsageError) else WindlassError)(said) from error


def command(arguments: argparse.Namespace, wanted: str) -> int:
    """Have an operator carry a command out, and say what became of it."""
    from windlass.cli import person
    from windlass.cli.release import show
    from windlass.operator import asking

    api, namespace = _api(arguments), arguments.namespace
    release = asking.newest(api, namespace, arguments.model)
    answer = asking.command(api, namespace, release, wanted, person.name(), within_s=arguments.timeout)
    found = _told(answer.release) | {"command": wanted, "ignored": answer.ignored}
    what = f"{wanted}: {answer.ignored}" if answer.ignored is not None else f"{wanted} is carried out"
    if not answer.heard:
        what = f"{wanted} is handled; whether it was refused is an Event, and you may not list events here"
    show(arguments, found, f"{what}\n{_line(found)}")
    return 0


def status(arguments: argparse.Namespace) -> int:
    """Where the releases of a namespace stand."""
    from windlass.cli.release import show
    from windlass.operator import asking

    known = asking.releases(_api(arguments), arguments.namespace, arguments.model)
    found = [_told(release) for release in asking.shown(known)]
    content = {"namespace": arguments.namespace, "releases": found}
    show(
        arguments,
        content,
        "\n".join(map(_line, found)) or f"no release yet in namespace {arguments.namespace}",
    )
    return 0


def _api(arguments: argparse.Namespace) -> KubernetesApi:
    from serving.release.cluster.api import KubernetesApi

    return KubernetesApi.connect(context=arguments.context)


def _told(release: dict[str, Any]) -> dict[str, Any]:
    """What the object says, by the names of `release status --json` where it is the same."""
    stated, said = release["spec"], release.get("status") or {}
    conditions = {c["type"]: c for c in said.get("conditions") or ()}
    degraded = conditions.get("Degraded", {})
    return {
        "release": release["metadata"]["name"],
        "namespace": release["metadata"]["namespace"],
        "model": stated.get("model"),
        "champion": said.get("champion") or stated.get("champion"),
        "candidates": stated.get("candidates") or [stated.get("candidate")],
        "phase": said.get("phase", "Pending"),
        "step": said.get("step"),
        "steps": said.get("steps"),
        "weights": said.get("weights") or {},
        "reason": said.get("message", "no operator has said anything of it yet"),
        "alert": degraded.get("message") if degraded.get("status") == "True" else None,
        "in_force": {"True": True, "False": False}.get(conditions.get("Available", {}).get("status", "")),
    }


def _line(found: dict[str, Any]) -> str:
    weights = ", ".join(f"{version}: {weight} %" for version, weight in found["weights"].items())
    against = "" if found["champion"] is None else f" against {found['champion']}"
    parts = [
        f"{found['model']}: {found['release']} (version {' and '.join(map(str, found['candidates']))}{against}) "
        f"{found['phase']}",
        *([f"step {found['step']} of {found['steps']}"] if found["step"] is not None else []),
        *([weights] if weights else []),
    ]
    lines = [f"{', '.join(parts)}; {found['reason']}"]
    if found["alert"] is not None:
        lines.append(f"  alert: {found['alert']}")
    if found["in_force"] is False:
        lines.append("  the last decision is not in force yet")
    return "\n".join(lines)


def _seconds(text: str) -> float:
    from serving.release import durations

    try:
        return durations.parse(text).total_seconds()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
