"""Ends of incidents that the retrain trigger has yet to hear of: `analysis/<workload>/untold.json`.

An incident that goes on is told with every analysis; its end is found by one analysis alone. A trigger that was down
just then would take the incident as going on for ever, and broken data hold every retraining back. So an end is
kept before the analysis that found it, and given up once the trigger took it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monitoring.analysis import signals, store
from monitoring.analysis.signals import Incident
from windlass.atomic import write_text
from windlass.settings import Settings


def load(settings: Settings, workload: str) -> tuple[Incident, ...]:
    """The ends that were not told yet, oldest first.

    Raises:
        WindlassError: the file is damaged.
    """
    found = store.read(_path(settings, workload))
    return () if found is None else tuple(Incident(**i) for i in found["ended"])


def keep(settings: Settings, workload: str, ended: Sequence[Incident]) -> None:
    """Keep the ends that are to be told."""
    if ended or _path(settings, workload).exists():
        write_text(_path(settings, workload), json.dumps({"ended": signals.document(ended)}) + "\n")


def joined(
    before: Sequence[Incident], found: Sequence[Incident], written: Sequence[Mapping[str, Any]]
) -> tuple[Incident, ...]:
    """The ends to be told now: those of before and those that were found now.

    Args:
        before: what was kept. An analysis that was killed after it kept an end may find another verdict when it is made
            again: the end of an incident that goes on after all is dropped.
        written: the incidents of the newest analysis; an end that stands there was kept then.
    """
    going_on = {_name(asdict(i)) for i in found if i.ended is None}
    kept = [i for i in before if _name(asdict(i)) not in going_on]
    known = {_name(i) for i in written if i["ended"] is not None} | {_name(asdict(i)) for i in kept}
    return (*kept, *(i for i in found if i.ended is not None and _name(asdict(i)) not in known))


def _name(incident: Mapping[str, Any]) -> tuple[str, str, str]:
    return incident["kind"], incident["champion"], incident["since"]


def _path(settings: Settings, workload: str) -> Path:
    return store.folder(settings, workload) / "untold.json"
