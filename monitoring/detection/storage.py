"""Baselines on disk: one `.npz` file of arrays and one JSON text, nothing that could run when it is read.

It lies beside the version's reference, or wherever the analysis keeps it: learning a baseline of a large reference
takes seconds, reading it milliseconds.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.detection.baseline import Baseline, Measure
from monitoring.detection.decay import Ranking
from monitoring.detection.design import Design
from monitoring.detection.noise import Noise
from monitoring.detection.scales import ColumnScale
from monitoring.detection.statistics import Statistic
from monitoring.detection.view import View
from windlass import atomic
from windlass.errors import WindlassError

FILE = "detection.npz"
FORMAT = 2
CLASSES: dict[str, type[Any]] = {
    c.__name__: c for c in (Baseline, Measure, View, ColumnScale, Design, Noise, Statistic, Ranking)
}

Arrays = dict[str, NDArray[Any]]


def save(baseline: Baseline, path: Path) -> None:
    """Write a baseline, completely or not at all."""
    arrays: Arrays = {}
    document = {"format": FORMAT, "baseline": _packed(baseline, arrays)}
    arrays["document"] = np.frombuffer(json.dumps(document, allow_nan=False).encode(), dtype=np.uint8)
    with atomic.replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        WindlassError: there is none, or it is something else.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise WindlassError(f"{path} is missing; learn the baseline of the version anew") from None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays: Arrays = {name: stored[name] for name in stored.files}
        document = json.loads(arrays.pop("document").tobytes())
        if document["format"] != FORMAT:
            raise WindlassError(
                f"{path} has format {document['format']!r}, this version reads {FORMAT}; learn the baseline anew"
            )
        found = _unpacked(document["baseline"], arrays)
    except (KeyError, TypeError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise WindlassError(f"{path} is damaged ({error!r}); learn the baseline anew") from error
    if not isinstance(found, Baseline):
        raise WindlassError(f"{path} holds no baseline; learn it anew")
    return found


def _packed(value: Any, arrays: Arrays) -> Any:
    """The value as JSON; arrays are moved to `arrays` and named by their position."""
    if isinstance(value, np.ndarray):
        name = f"a{len(arrays)}"
        arrays[name] = value
        return {"array": name}
    if is_dataclass(value) and not isinstance(value, type):
        content = {f.name: _packed(getattr(value, f.name), arrays) for f in fields(value)}
        return {"class": type(value).__name__, "fields": content}
    if isinstance(value, tuple):
        return [_packed(item, arrays) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(float(value))}
    return value.item() if isinstance(value, np.generic) else value


def _unpacked(value: Any, arrays: Arrays) -> Any:
    if isinstance(value, list):
        return tuple(_unpacked(item, arrays) for item in value)
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "float" in value:
        return float(value["float"])
    return CLASSES[value["class"]](**{k: _unpacked(v, arrays) for k, v in value["fields"].items()})
