"""A collector's store on disk without its process: entries go into segments, consolidation runs when it is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from monitoring.collector import wal
from monitoring.collector.consolidation import consolidate
from monitoring.collector.follower import lines
from monitoring.collector.manifest import Manifest
from monitoring.collector.options import Options
from monitoring.collector.reading import Events
from windlass.settings import Settings

NOON = 1_700_049_600.0  # 2023-11-15 12:00 UTC
HOUR, DAY = 3600.0, 86_400.0


class EventStore:
    """One home; each `add` is what one request acknowledged, in a segment of its own."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.settings = settings
        self.options = Options(**options)
        self.folder = settings.home / "events"
        self.next = 0

    def add(self, *entries: Mapping[str, Any]) -> None:
        self.segment(wal.frame(lines([dict(e) for e in entries])))

    def segment(self, data: bytes) -> None:
        (self.folder / "wal").mkdir(parents=True, exist_ok=True)
        wal.path(self.folder / "wal", self.next).write_bytes(data)
        self.next += 1

    def consolidate(self, now: float = NOON) -> Manifest:
        return consolidate(self.settings, self.options, self.next, now=now)

    def consolidate_until(self, complete: float) -> Manifest:
        """Consolidate where everything that was received up to then has been added, at that very moment."""
        return consolidate(self.settings, self.options, self.next, now=complete, complete=complete)

    def events(self) -> Events:
        return Events(self.settings)

    def stored(self, model: str = "m") -> list[str]:
        """Request ids in the files, read without the reading code."""
        import pyarrow.parquet as pq

        found: list[str] = []
        for part in orjson.loads((self.folder / "manifest.json").read_bytes())["parts"]:
            if part["kind"] == "predictions" and part["model"] == model:
                found += pq.ParquetFile(self.folder / part["path"]).read()["request_id"].to_pylist()
        return sorted(found)


def prediction(request_id: str, **fields: Any) -> dict[str, Any]:
    """An entry as the intake makes it."""
    return {
        "type": "prediction", "request_id": request_id, "model": "m", "version": "1", "at": NOON, "received": NOON,
        "mirrored": False, "entities": {"carrier": "AA"}, "request": {"distance": 10}, "features": [1.0, None],
        "score": 0.5, "latency_ms": 1.5, "source": "online", "answered_by": "model", **fields,
    }  # fmt: skip


def label(request_id: str, value: int | None, **fields: Any) -> dict[str, Any]:
    """A label's entry."""
    found = {"type": "label", "request_id": request_id, "at": NOON + HOUR, "received": NOON + HOUR, **fields}
    return found if value is None else {**found, "label": value}


def request(identity: str, **fields: Any) -> dict[str, Any]:
    """A request's half."""
    return {
        "type": "request", "source": "/s", "id": identity, "model": "m", "version": "unknown", "at": NOON,
        "received": NOON, "rows": [{"features": [1.0, 2.0], "entities": {}, "request": {}}], **fields,
    }  # fmt: skip


def response(identity: str, **fields: Any) -> dict[str, Any]:
    """A response's half."""
    return {
        "type": "response", "source": "/s", "id": identity, "model": "m", "version": "3", "at": NOON + 1,
        "received": NOON, "scores": [0.25], "mirrored": False, "latency_ms": 2.0, "feature_source": None,
        "answered_by": None, **fields,
    }  # fmt: skip


def home(path: Path) -> Settings:
    """Settings of a home that has no workloads but ours."""
    return Settings(home=path, project=path)
