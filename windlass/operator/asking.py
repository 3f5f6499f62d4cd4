"""What a person asks of the operator from outside of the cluster: a command on a Release, and what became of it.

A command is the annotation of `orders.py`, put on by whoever may change Releases; the operator takes it off when it has
carried it out. What it says of a command that makes no sense is an Event.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from serving.release.backend import RejectedError
from serving.release.cluster.api import KubernetesApi, Object
from serving.release.cluster.kinds import EVENT, RELEASE
from windlass.errors import UsageError, WindlassError
from windlass.operator.marks import BY, COMMAND
from windlass.operator.seen import TERMINAL

LOOK_S = 0.5
_ANSWERS = ("CommandRefused", "CommandIgnored")
_WANTED = {
    "pause": "Paused",
    "resume": "Progressing",
    "abort": "Aborted",
    "promote": "Promoted",
    "rollback": "RolledBack",
}
"""The phase that a command leads to."""


@dataclass(frozen=True)
class Answer:
    """What became of a command.

    Attributes:
        release: the Release as it is now.
        ignored: why nothing was to be done, since it was so already; None where something was.
        heard: whether we may read what the operator says of commands: otherwise it may have refused this one.
    """

    release: Object
    ignored: str | None = None
    heard: bool = True


def releases(api: KubernetesApi, namespace: str, model: str | None = None) -> list[Object]:
    """The Releases of a namespace, of one model or of all, the oldest first.

    Raises:
        UnreachableError, RejectedError.
    """
    found = [o for o in api.all(RELEASE, namespace).items if model in (None, o["spec"].get("model"))]
    return sorted(found, key=lambda o: (o["metadata"]["creationTimestamp"], o["metadata"]["name"]))


def shown(objects: Sequence[Object]) -> list[Object]:
    """Of each model what waits or is judged, and the newest that is over."""
    over = {o["spec"].get("model"): o["metadata"]["uid"] for o in objects if phase(o) in TERMINAL}
    return [o for o in objects if phase(o) not in TERMINAL or o["metadata"]["uid"] in over.values()]


def phase(release: Object) -> str:
    return str((release.get("status") or {}).get("phase", ""))


def newest(api: KubernetesApi, namespace: str, model: str) -> Object:
    """The Release that a command about a model is for: the newest that has begun.

    Raises:
        UsageError: none has.
        UnreachableError, RejectedError.
    """
    known = releases(api, namespace, model)
    begun = [o for o in known if (o.get("status") or {}).get("startedAt")]
    if not begun:
        waiting = "".join(f"; {o['metadata']['name']} is {phase(o) or 'not seen yet'}" for o in known)
        raise UsageError(
            f"no release of model {model!r} has begun in namespace {namespace}{waiting}; "
            f"`kubectl -n {namespace} get releases` lists them"
        )
    live = [o for o in begun if phase(o) not in TERMINAL]
    return max(live or begun, key=lambda o: (o["status"]["startedAt"], o["metadata"]["creationTimestamp"]))


def command(
    api: KubernetesApi,
    namespace: str,
    release: Object,
    wanted: str,
    by: str,
    *,
    within_s: float,
    sleep: Callable[[float], None] = time.sleep,
    passed: Callable[[], float] = time.monotonic,
) -> Answer:
    """Put a command on a Release and wait until the operator has answered it.

    Args:
        wanted: as `orders.parse` reads it.
        by: who wants it.
        within_s: how long to wait; the command stays on the Release after that.

    Raises:
        UsageError: the operator refused it, or the Release is gone.
        WindlassError: it is not carried out yet.
        UnreachableError, RejectedError.
    """
    name = release["metadata"]["name"]
    before = {event["metadata"]["name"] for event in _answers(api, namespace, name) or ()}

    def asked(live: Object) -> Object:
        annotations = {**(live["metadata"].get("annotations") or {}), COMMAND: wanted, BY: by}
        return {**live, "metadata": {**live["metadata"], "annotations": annotations}}

    live = api.update(RELEASE, namespace, name, asked)
    begun = passed()
    while live is not None and _annotation(live) == wanted:
        if passed() - begun >= within_s:
            raise WindlassError(
                f"release {namespace}/{name}: {wanted} is on it and not carried out after {within_s:g} s "
                f"({_standing(live)}); it is as soon as it can be. Look at the operator: "
                f"`kubectl -n {namespace} get pods,leases`"
            )
        sleep(LOOK_S)
        live = api.get(RELEASE, namespace, name)
    if live is None:
        raise UsageError(f"release {namespace}/{name} is gone, and {wanted} with it")
    if _annotation(live):
        raise UsageError(
            f"release {namespace}/{name}: {_annotation(live)} was put on it in place of {wanted}, by "
            f"{live['metadata']['annotations'].get(BY, 'somebody else')}"
        )
    said = _answers(api, namespace, name)
    if said is None:
        return Answer(live, heard=False)
    said = [event for event in said if event["metadata"]["name"] not in before]
    for event in sorted(said, key=lambda e: str(e.get("eventTime")), reverse=True):
        if event["reason"] == "CommandRefused" or not _is_so(wanted, live):
            raise UsageError(f"release {namespace}/{name}: {wanted} is refused: {event.get('note')}")
        return Answer(live, str(event.get("note")))
    return Answer(live)


def _answers(api: KubernetesApi, namespace: str, name: str) -> list[dict[str, Any]] | None:
    """The operator's answers to commands; None where we may not read Events."""
    try:
        listed = api.all(EVENT, namespace, fields=f"regarding.kind=Release,regarding.name={name}").items
    except RejectedError:
        return None
    return [event for event in listed if event.get("reason") in _ANSWERS]


def _is_so(wanted: str, release: Object) -> bool:
    """Whether a command that changes nothing is one whose end is reached already."""
    name, _, version = wanted.partition(":")
    weights = (release.get("status") or {}).get("weights") or {}
    return phase(release) == _WANTED[name] and (not version or bool(weights.get(version)))


def _annotation(release: Object) -> str:
    return str((release["metadata"].get("annotations") or {}).get(COMMAND, "")).strip()


def _standing(release: Object) -> str:
    """Where it stands, in a few words."""
    status = release.get("status") or {}
    troubles = [
        str(c.get("message"))
        for c in status.get("conditions") or ()
        if (c.get("type"), c.get("status")) in (("Degraded", "True"), ("Available", "False"))
    ]
    return "; ".join([phase(release) or "no operator has said anything of it", *dict.fromkeys(troubles)])
