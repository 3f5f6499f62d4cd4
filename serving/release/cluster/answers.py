"""What an API server's answers say: an object, a `Status`, or a line of a watch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from serving.release.backend import UnreachableError

Object = dict[str, Any]

#: Answers that another try may change: overload, a leader that is elected anew, a cache that is too old.
PASSING = frozenset({410, 429, 500, 502, 503, 504})


class ConflictError(UnreachableError):
    """Somebody wrote the object since it was read; read it again, or let the caller try all of it again."""


class ExpiredError(UnreachableError):
    """What was asked to go on from is forgotten by the API server; list everything again."""


@dataclass(frozen=True)
class Change:
    """One line of a watch.

    Attributes:
        kind: BOOKMARK tells that nothing else happened up to its version; its object is empty but for that.
    """

    kind: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Object

    @property
    def version(self) -> str:
        """To go on from after it."""
        return str(self.object["metadata"]["resourceVersion"])


def decoded(what: str, content: bytes) -> Object:
    """The object that an answer is.

    Raises:
        UnreachableError: it is none.
    """
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        # a portal in between that asks for a login answers 200 with a page
        raise UnreachableError(
            f"{what}: what answered is no Kubernetes API ({content[:60]!r}); check the address in the kubeconfig"
        )
    return found


def change(what: str, line: bytes) -> Change:
    """A line of a watch.

    Raises:
        ExpiredError: the watch cannot go on from where it was.
        UnreachableError: the API server ended it with another error.
    """
    found = decoded(what, line)
    kind, told = found.get("type"), found.get("object")
    if kind in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK") and isinstance(told, dict):
        return Change(kind, told)
    told = told if isinstance(told, dict) else {}
    error = ExpiredError if told.get("code") == 410 else UnreachableError
    raise error(f"{what}: the watch ended: {told.get('message', kind)}; list again")


def message(content: bytes) -> str:
    """What a `Status` says, else the beginning of whatever came."""
    try:
        found = json.loads(content)
        return str(found["message"])
    except (ValueError, KeyError, TypeError):
        return content[:120].decode(errors="replace").strip() or "nothing"


def remedy(status: int) -> str:
    if status == 401:
        return "; the API server does not know who asks: renew the token, or the kubeconfig"
    if status == 403:
        return "; give who asks that right: the chart's Role windlass-operator has what the engine needs"
    return ""
