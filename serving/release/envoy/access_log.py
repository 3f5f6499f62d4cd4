"""Envoy's access log as values: who answered which request, by which rule, how, and how fast.

It is also an experiment's exposure log: a unit's bucket and pseudonym stand in each of its lines, its name in none.
Mirrored copies are not in it: nobody waited for them. The model servers' prediction logs know them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from serving.release.envoy.config import split_cluster
from serving.release.envoy.routes import COUNTED, Kind, kind_of

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
        event_at: the header x-windlass-at, where the caller sent a number. Anybody can send one, so only a replay,
            whose caller is our own, may take it for the time of the request.
        route: why this version: "weights", "segment" (weights by a header's value), "arm" (its unit is assigned),
            "unassigned" (units are, but the request names none), "match" (the caller's header or cookie chose) or
            "version" (its path did).
        segment: the header's value where `route` is "segment".
        bucket: of the unit; None where `route` is not "arm".
        unit: the unit's pseudonym (`buckets.pseudonym`); None where `route` is not "arm".
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
    route: Kind = "weights"
    segment: str | None = None
    bucket: int | None = None
    unit: str | None = None

    @property
    def counted(self) -> bool:
        """Whether it is evidence: the caller did not choose the version, and where units are assigned it has one."""
        return self.route in COUNTED

    @property
    def arm(self) -> str | None:
        """The version that its unit is assigned to; None without an assignment or without a unit."""
        return self.version if self.route == "arm" else None

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
    cluster = _cluster(record["cluster"] or "")
    if cluster is None:
        return None
    flags = record["flags"]
    kind, detail = _route(record["route"])
    assigned = kind == "arm"
    return Access(
        request_id=str(record["request_id"]),
        model=cluster[0],
        version=cluster[1],
        at=float(record["at"]),
        code=int(record["code"]),
        duration_ms=_milliseconds(record["duration_us"]) or 0.0,
        upstream_ms=_milliseconds(record["upstream_us"]),
        flags="" if flags in (None, "-") else str(flags),
        event_at=_finite(record["event_at"]),
        route=kind,
        segment=detail if kind == "segment" else None,
        bucket=int(record["bucket"]) if assigned else None,
        unit=str(record["unit"]) if assigned else None,
    )


# few names, and each stands in every line
_cluster = lru_cache(1024)(split_cluster)
_route = lru_cache(1024)(kind_of)


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
                access = parse(orjson.loads(line))
            except (KeyError, TypeError, ValueError):
                self.malformed += 1
                continue
            if access is not None:
                found.append(access)
        return found

    def _lines(self) -> list[bytes]:
        try:
            with self._path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:
                    self._offset = 0  # it was cut: what it holds now was never read
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        end = data.rfind(b"\n") + 1
        self._offset += end
        return data[:end].splitlines()


def _finite(stated: Any) -> float | None:
    # whatever a caller writes into a header, its request was answered and counts
    try:
        value = float(stated)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _milliseconds(microseconds: Any) -> float | None:
    # Envoy gives -1 or "-" for a point in time that never came
    if microseconds in (None, "-") or float(microseconds) < 0:
        return None
    return float(microseconds) / 1000
