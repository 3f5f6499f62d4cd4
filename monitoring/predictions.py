"""What the model servers logged: one typed record a prediction, read incrementally from their log files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitoring.tail import RecordTail
from windlass.settings import Settings

_MISSING = float("nan")


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answered request, or its mirrored copy.

    Attributes:
        at: event time of the request, epoch seconds.
        features: the vector the model saw, in the model's order; NaN where a value was missing.
        source: "online", "cached" or "default": the rung of the ladder the features came from; "none" of an answer
            that needed none.
        mirrored: True for the copy sent to a version whose answer the caller never saw.
    """

    request_id: str
    model: str
    version: str
    at: float
    entities: Mapping[str, str]
    request: Mapping[str, Any]
    features: tuple[float, ...]
    score: float
    latency_ms: float
    source: str
    mirrored: bool


def parse(record: Mapping[str, Any]) -> Prediction:
    """Turn one decoded line of a prediction log into a record.

    Raises:
        KeyError, TypeError, ValueError: it is not a prediction.
    """
    request_id = record["request_id"]
    if not isinstance(request_id, str):
        raise TypeError(f"request_id is {request_id!r}, not a string")
    features = record["features"]
    if None in features:
        features = [_MISSING if value is None else value for value in features]
    return Prediction(
        request_id=request_id,
        model=record["model"],
        version=str(record["version"]),
        at=float(record["at"]),
        entities=record["entities"],
        request=record["request"],
        features=tuple(features),
        score=float(record["score"]),
        latency_ms=float(record.get("latency_ms", _MISSING)),
        source=record.get("source", "online"),
        mirrored=bool(record.get("mirrored", False)),
    )


def folder(settings: Settings) -> Path:
    """Where the model servers write their logs."""
    return settings.logs_dir / "predictions"


class PredictionTail(RecordTail[Prediction]):
    """The predictions logged since the last poll, over all files of a folder.

    Args:
        directory: usually `folder(settings)`.
        offsets: what `offsets` gave before a restart.
    """

    def __init__(self, directory: Path, *, offsets: Mapping[str, int] | None = None) -> None:
        super().__init__(directory, "*.jsonl", parse, offsets=offsets)
