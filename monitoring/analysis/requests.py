"""What callers sent, against what the model takes: fields that are missing, fields nobody knows, new categories.

The vector that a model sees hides these: an unknown category and a forgotten field both become a missing value.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.collector.reading import ENTITY, REQUEST
from monitoring.verdict import Verdict
from windlass.contract import RequestField

Z = 3.0


@dataclass(frozen=True)
class SchemaPolicy:
    """When what is sent is broken.

    Attributes:
        share: largest share of requests with a missing field, an unknown field or a new category.
        minimum_rows: fewer requests decide nothing.
    """

    share: float = 0.01
    minimum_rows: int = 100


@dataclass(frozen=True)
class Sent:
    """Counts over the requests of a window that sent named values.

    Attributes:
        rows: these requests; a matrix has no names and is not among them.
        missing: by field, how often it was not sent or null.
        unknown: by name, how often something was sent that the model does not take.
        new_categories: by field and value.
        wrong_width: rows whose vector has another number of inputs than the version's reference.
    """

    rows: int = 0
    missing: Mapping[str, int] | None = None
    unknown: Mapping[str, int] | None = None
    new_categories: Mapping[str, Mapping[str, int]] | None = None
    wrong_width: int = 0


@dataclass(frozen=True)
class SchemaFault:
    """One column that fails: `check` is "schema" or "category"."""

    column: str
    check: str
    share: float
    reason: str


@dataclass(frozen=True)
class Schema:
    """All that is wrong with what is sent."""

    verdict: Verdict
    reason: str
    rows: int
    faults: tuple[SchemaFault, ...] = ()


def count(
    columns: Mapping[str, Any],
    fields: Iterable[RequestField],
    entities: Iterable[str],
    *,
    wrong_width: int = 0,
) -> Sent:
    """Count over requests.

    Args:
        columns: `entity.<name>` and `request.<name>`, one value a row: floats, NaN where missing, or text, None where
            missing, as `monitoring.collector.reading` gives them.
        entities: names of the keys by which features are read.
    """
    known = {f.name: f.categories for f in fields}
    keys = set(entities)
    present = {name: _present(values) for name, values in columns.items()}
    named = np.zeros(len(next(iter(columns.values()), ())), dtype=bool)
    for there in present.values():
        named |= there
    missing: dict[str, int] = {}
    new: dict[str, Counter[str]] = {}
    for name in {**known, **dict.fromkeys(keys)}:
        there = np.zeros(len(named), dtype=bool)
        for column in (REQUEST + name, ENTITY + name):
            if column in columns:
                there |= present[column]
                unusual = _unknown(columns[column][present[column]], known.get(name) or ())
                if unusual:
                    new.setdefault(name, Counter()).update(unusual)
        missing[name] = int((named & ~there).sum())
    unknown = {
        name.removeprefix(REQUEST): int(there.sum())
        for name, there in present.items()
        if name.startswith(REQUEST) and name.removeprefix(REQUEST) not in known.keys() | keys
    }
    return Sent(int(named.sum()), missing, unknown, new, wrong_width)


def _present(values: Any) -> NDArray[np.bool_]:
    if values.dtype == object:
        return np.array([v is not None for v in values], dtype=bool)
    there: NDArray[np.bool_] = np.isfinite(values)
    return there


def _unknown(values: Any, categories: tuple[str, ...]) -> dict[str, int]:
    if not categories or not len(values):
        return {}
    found, counts = np.unique(values.astype(str), return_counts=True)
    return {str(v): int(n) for v, n in zip(found, counts, strict=True) if v not in categories}


def judge(sent: Sent | None, policy: SchemaPolicy | None = None) -> Schema:
    """Judge the counts; FAIL names the columns."""
    policy = policy or SchemaPolicy()
    if sent is None or sent.rows + sent.wrong_width < policy.minimum_rows:
        rows = 0 if sent is None else sent.rows
        return Schema("INCONCLUSIVE", f"{rows} requests with names; {policy.minimum_rows} are needed", rows)
    faults: list[SchemaFault] = []
    if sent.wrong_width:
        share = sent.wrong_width / (sent.rows + sent.wrong_width)
        faults.append(SchemaFault("", "schema", share, f"{sent.wrong_width} vectors of another width"))

    def add(column: str, check: str, count: int, text: str) -> None:
        share = count / sent.rows
        error = math.sqrt(max(share * (1 - share), 1 / sent.rows) / sent.rows)
        if share - Z * error > policy.share:
            faults.append(
                SchemaFault(column, check, share, f"{column} {text} in {share:.1%} of the requests")
            )

    for name, n in (sent.missing or {}).items():
        add(name, "schema", n, "is missing")
    for name, n in (sent.unknown or {}).items():
        add(name, "schema", n, "is sent and not known")
    for name, values in (sent.new_categories or {}).items():
        most = max(values, key=lambda v: (values[v], v))
        add(name, "category", sum(values.values()), f"has new categories ({most!r} most often)")
    if faults:
        return Schema("FAIL", "; ".join(f.reason for f in faults), sent.rows, tuple(faults))
    return Schema("PASS", f"{sent.rows} requests as stated", sent.rows)
