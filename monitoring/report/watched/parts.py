"""The parts of the page about a model that is watched, in the order of the questions that people ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitoring.report.markup import Markup
from monitoring.report.watched import budgets, moved, performing, quality, signals, slices, verdicts
from monitoring.report.watched.looks import looks


def parts(summary: Mapping[str, Any], series: Mapping[str, Any]) -> list[tuple[str, str, Markup]]:
    """(title, name, content) of each part; none where no analysis was made."""
    found = looks(series)
    if not found:
        return []
    status = series.get("analysis_status")
    return [
        (
            "Is it all right?",
            "verdicts",
            verdicts.section(found, status if isinstance(status, Mapping) else {}),
        ),
        ("How good is it?", "performing", performing.section(found)),
        ("Where did it get worse?", "slices", slices.section(found)),
        ("What moved?", "moved", Markup(moved.section(found, summary) + quality.section(found))),
        ("Does it keep its promises?", "budgets", budgets.section(found)),
        ("What was done about it?", "signals", signals.section(summary)),
    ]
