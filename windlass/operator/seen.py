"""A Release object as it was last seen: what the operator needs of it, and nothing of what it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serving.release.state import FINISHED
from windlass.operator.marks import BY, COMMAND, FINALIZER
from windlass.operator.reconciler import Object

#: The phase of a Release that can never start.
REFUSED = "Refused"
TERMINAL: tuple[str, ...] = (*FINISHED, REFUSED)


@dataclass(frozen=True)
class Seen:
    """One Release object.

    Attributes:
        version: its resourceVersion.
        created: its creationTimestamp, which sorts as text.
        deleting: whether somebody deleted it and our finalizer holds it.
        held: whether our finalizer is on it.
        command: what a person wants, None where nobody wants anything.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    version: str
    created: str
    deleting: bool
    held: bool
    command: str | None
    by: str
    spec: Mapping[str, Any] = field(repr=False)
    status: Mapping[str, Any] = field(repr=False)

    @property
    def model(self) -> str:
        return str(self.spec.get("model", ""))

    @property
    def phase(self) -> str:
        return str(self.status.get("phase", ""))

    @property
    def over(self) -> bool:
        """Whether its release has ended, or can never start."""
        return self.phase in TERMINAL

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be done for it, as far as can be seen on it."""
        return self.over and not self.held and not self.deleting and self.command is None

    @property
    def mark(self) -> str:
        """What it is called on what is made for it."""
        return f"{self.name}/{self.uid}"

    @property
    def document(self) -> dict[str, Any]:
        """What `spec.parse` reads."""
        return {
            "kind": "Release",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": dict(self.spec),
        }

    @property
    def news(self) -> tuple[Any, ...]:
        """What others change on it; our own status is not among it."""
        return (self.uid, self.generation, self.deleting, self.held, self.command, self.by)


def of_object(body: Object) -> Seen:
    """Read an object as the API server gives it."""
    metadata = body["metadata"]
    annotations = metadata.get("annotations") or {}
    command = str(annotations.get(COMMAND, "")).strip()
    return Seen(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        version=metadata["resourceVersion"],
        created=metadata.get("creationTimestamp", ""),
        deleting="deletionTimestamp" in metadata,
        held=FINALIZER in metadata.get("finalizers", ()),
        command=command or None,
        by=str(annotations.get(BY, "")).strip() or "a person",
        spec=body.get("spec") or {},
        status=body.get("status") or {},
    )


def newer(one: Seen, other: Seen) -> bool:
    """Whether `one` was written after `other`; a watch may bring what we know already, or knew before."""
    try:
        return int(one.version) > int(other.version)
    except ValueError:
        return one.version != other.version
