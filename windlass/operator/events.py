"""Kubernetes Events of a Release: what the journal's records say to people, and the operator's own words.

An Event's name is made of what it tells, so that telling it again after a crash changes nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from serving.release.cluster.kinds import RELEASE
from serving.release.people.events import Event
from windlass.operator.seen import Seen

COMPONENT = "windlass.dev/operator"
#: What the API server takes of a note, in bytes.
LONGEST_NOTE = 1000


@dataclass(frozen=True)
class News:
    """An Event of an object; the same news of the same object have the same name."""

    seen: Seen
    type: Literal["Normal", "Warning"]
    reason: str
    note: str
    at: datetime

    @classmethod
    def of(cls, seen: Seen, event: Event) -> News:
        return cls(seen, event.type, event.reason, event.message, datetime.fromisoformat(event.at))

    @property
    def name(self) -> str:
        told = "\n".join((self.seen.uid, self.reason, self.note, self.at.isoformat()))
        return f"{self.seen.name}.{hashlib.sha256(told.encode()).hexdigest()[:16]}"

    def document(self, instance: str) -> dict[str, Any]:
        """All but kind and name; `instance` is who tells."""
        return {
            "eventTime": self.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": COMPONENT,
            "reportingInstance": instance[:128],
            "action": self.reason,
            "reason": self.reason,
            "type": self.type,
            "note": _note(self.note),
            "regarding": {
                "apiVersion": RELEASE.api_version,
                "kind": RELEASE.kind,
                "namespace": self.seen.namespace,
                "name": self.seen.name,
                "uid": self.seen.uid,
            },
        }


def _note(text: str) -> str:
    plain = text.encode()
    return text if len(plain) <= LONGEST_NOTE else plain[: LONGEST_NOTE - 3].decode(errors="ignore") + "…"
