"""Numbers of a check as its page shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitoring.report.values import number, text

OUTCOMES = {"promoted": "good", "rolled_back": "bad", "inconclusive": "warn", "aborted": "warn"}
VERDICTS = {"PASS": "good", "FAIL": "bad", "INCONCLUSIVE": "warn", "ERROR": "bad"}


def amount(value: object, *, percent: bool, signed: bool = False) -> str:
    """A share or a lift in percent, anything else as it is; a dash where it is unknown."""
    known = number(value)
    if known is None:
        return "–"
    sign = "+" if signed and known else ""
    if not percent:
        return f"{known:{sign}.4g}"
    return f"{100 * known:{sign},.0f} %" if abs(known) >= 10 else f"{100 * known:{sign}.3g} %"


def between(row: Mapping[str, Any], *, percent: bool, signed: bool = False) -> str:
    """`-1 % to +2 %`."""
    low, high = number(row.get("lower")), number(row.get("upper"))
    if low is None or high is None:
        return "not bounded yet"
    return f"{amount(low, percent=percent, signed=signed)} to {amount(high, percent=percent, signed=signed)}"


def texts(value: object) -> list[str]:
    """The items of a list as texts; whatever is no list has none."""
    return [text(item) for item in value] if isinstance(value, list | tuple) else []


def odds(value: object) -> str:
    """An e-value."""
    known = number(value)
    if known is None:
        return "–"
    if known >= 1e6:
        return "over a million to 1"
    return f"{known:,.0f} to 1" if known >= 1000 else f"{known:.3g} to 1"


def outcome(value: object) -> str:
    return str(value or "in progress").replace("_", " ")
