"""What was rolled back is not brought back by a pipeline: a retraining that makes it again waits for a person."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import planes
import pytest

from monitoring.retrain import journal
from monitoring.retrain.following import Ended, follow
from monitoring.retrain.journal import Trigger
from monitoring.retrain.signals import Signal
from serving.release.journal import mailbox
from serving.release.rollback import path
from windlass import catalog
from windlass.journal import Journal, read
from windlass.local.retraining.surroundings import Surroundings

NOW = datetime(2013, 3, 1, tzinfo=UTC)


def tag(place: planes.Place, contents: dict[str, str]) -> None:
    """Say in the registry which version was made of what."""
    snapshot = place.settings.registry_dir / "snapshot.json"
    told = json.loads(snapshot.read_text())
    for version in told["models"][planes.MODEL]:
        version["tags"] = {"candidate_content": contents[version["version"]]}
    snapshot.write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("made", "withheld"),
    [
        pytest.param("2", True, id="the-very-version"),
        pytest.param("3", True, id="the-same-model-under-another-number"),
        pytest.param("4", False, id="another-model"),
    ],
)
def test_a_retraining_that_makes_it_again_waits_for_a_person(
    tmp_path: Path, document: dict[str, Any], made: str, withheld: bool
) -> None:
    """Verify that version 2, rolled back to 1, gets no release from a schedule, by whatever number."""
    place = planes.make(tmp_path, ("1",))
    place.champion("1", ("1", "2", "3", "4"))
    tag(place, {"1": "a", "2": "b", "3": "b", "4": "c"})
    rollbacks = Journal(path(place.settings))
    rollbacks.append(
        {"at": NOW.isoformat(), "by": "ada", "model": planes.MODEL, "from": {"2": 100}, "to": "1"}
    )
    rollbacks.close()
    planned = {part: document["spec"][part] for part in ("strategy", "checks")}
    workload = replace(catalog.load(planes.MODEL, place.settings.project), release=planned)
    around = Surroundings(place.settings, workload, Runs(made))
    trigger = Trigger(workload.name, workload.retrain, journal.path(place.settings), around.submit)
    assert trigger.offer(Signal("manual", "m", NOW), NOW, live_release=False).accepted
    follow(trigger, around, NOW)
    assert len(list(mailbox.submissions(mailbox.inbox(place.settings)))) == (0 if withheld else 1)
    assert [t.helped for t in trigger.history()] == [False if withheld else None]
    said = [r["reason"] for r in read(journal.path(place.settings)) if r["event"] == "resolved"]
    assert bool(said) == withheld and all("was rolled back" in reason for reason in said)


@dataclass
class Runs:
    """Where every run has made one version that passed its gates."""

    made: str

    def submit(self, trigger: str, signal: Signal) -> str:
        return trigger

    def run(self, trigger: str) -> Ended:
        return Ended({"version": self.made, "passed": True, "champion": "1", "gates": []}, None, 1.0)
