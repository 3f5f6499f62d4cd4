"""Envoy's access log as values: who answered which request, how, and how fast.

Mirrored copies are not in it: nobody waited for them. The model servers' prediction logs know them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.release.envoy_config import split_cluster

# The caller went away: its impatience, not the server's failure.
_CALLER_LEFT = frozenset({"DC", "DI", "DR"})


@dataclass(frozen=True)
class Access:
    """One request to a model.

    Attributes:
        at: wall-clock time (epoch seconds) of its arrival.
        code: HTTP status; 0 where the caller left before there was one.
        duration_ms: from the first byte read of the caller to the last one written.
        upstream_ms: the part of it that the server took; None where no server answered.
        flags: Envoy's response flags, empty where all went well.
        event_at: the header x-windlass-at, where the caller sent it.
    """

    request_id: str
    model: str
    version: str
    at: float
    code: int
    duration_ms: float
    upstream_ms: float | None
    flags: str
    event_at: float | None

    @property
    def failed(self) -> bool:
        """The service failed: 5xx, or no answer although the caller waited. A 4xx is the caller's mistake."""
        if self.code == 0:
            return not any(flag in _CALLER_LEFT for flag in self.flags.split(","))
        return self.code >= 500


def parse(record: Mapping[str, Any]) -> Access | None:
    """One decoded line; None for a request that is no model's (feedback, report, an unknown path).

    Raises:
        KeyError, TypeError, ValueError: the line is not of this log.
    """
    cluster = split_cluster(record["cluster"] or "")
    if cluster is None:
        return None
    upstream, event_at, flags = record["upstream_us"], record["event_at"], record["flags"]
    return Access(
        request_id=str(record["request_id"]),
        model=cluster[0],
        version=cluster[1],
        at=float(record["at"]),
        code=int(record["code"]),
        duration_ms=_milliseconds(record["duration_us"]) or 0.0,
        upstream_ms=_milliseconds(upstream),
        flags="" if flags in (None, "-") else str(flags),
        event_at=None if event_at in (None, "-") else float(event_at),
    )


class AccessLog:
    """The lines that Envoy appended since the last `poll`; a line still being written waits for the next one."""

    def __init__(self, path: Path, *, from_end: bool = False) -> None:
        self._path = path
        self._offset = path.stat().st_size if from_end and path.exists() else 0
        self.malformed = 0

    def poll(self) -> list[Access]:
        """Requests to models, in the order in which Envoy finished them."""
        found: list[Access] = []
        for line in self._lines():
            try:
                access = parse(json.loads(line))
            except (KeyError, TypeError, ValueError):
                self.malformed += 1
                continue
            if access is not None:
                found.append(access)
        return found

    def _lines(self) -> list[bytes]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        end = data.rfind(b"\n") + 1
        self._offset += end
        return data[:end].splitlines()


def _milliseconds(microseconds: Any) -> float | None:
    # Envoy gives -1 or "-" for a point in time that never came
    if microseconds in (None, "-") or float(microseconds) < 0:
        return None
    return float(microseconds) / 1000
