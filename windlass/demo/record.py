"""What the demo writes down as it goes: every decision, and the series that the report plots."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

from windlass.journal import Journal

POINTS = 150


class Record:
    """Collects decisions (a line each in `decisions.jsonl`) and time series."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._journal = Journal(path, durable=False)
        self.decisions: list[dict[str, Any]] = []
        self.triggers: list[dict[str, Any]] = []
        self.releases: list[dict[str, Any]] = []
        self.rollbacks: list[dict[str, Any]] = []
        self.drift: list[dict[str, Any]] = []
        self.weights: list[dict[str, Any]] = []
        self._confidence: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)

    def decide(self, at: datetime, what: str, inputs: dict[str, Any], rule: str) -> None:
        """Write one decision: when in event time, what, from which inputs, by which rule."""
        line = {"at": text(at), "decision": what, "inputs": inputs, "rule": rule}
        self.decisions.append(line)
        self._journal.append(line)

    def trigger(self, at: datetime, signal: str, accepted: bool, reason: str) -> None:
        self.triggers.append({"at": text(at), "signal": signal, "accepted": accepted, "reason": reason})

    def split(self, at: datetime, weights: dict[str, int]) -> None:
        self.weights.append({"at": text(at), "weights": dict(weights)})

    def verdict(self, release: str, check: str, point: dict[str, Any]) -> None:
        points = self._confidence[(release, check)]
        if not points or points[-1]["n"] != point["n"] or points[-1]["verdict"] != point["verdict"]:
            points.append({"release": release, "check": check, **point})

    def confidence(self) -> list[dict[str, Any]]:
        """The verdicts' intervals, thinned to what a plot can show; the last point always stays."""
        thinned: list[dict[str, Any]] = []
        for points in self._confidence.values():
            step = max(1, len(points) // POINTS)
            thinned += points[:-1:step]
            thinned.append(points[-1])
        return thinned

    def close(self) -> None:
        self._journal.close()


def text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
