"""What was decided is decided again: today's journals, and those of earlier rules."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from serving.release.journal import replay
from windlass import journal

HISTORIES = sorted((Path(__file__).parent / "testdata" / "histories").rglob("*.jsonl"))


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=f"{path.parts[-3]}-{path.stem}") for path in HISTORIES]
)
def test_a_history_of_earlier_rules_replays_the_same(path):
    found = replay.replay(journal.read(path))
    assert found.same, found.differences
    assert found.decisions > 0
    # of a release that a person ended early, the first rules kept the number of the pairs and not the pairs
    assert (found.undecidable > 0) == (path.stem in ("0009-aborted", "0011-promoted-by-hand"))


def test_there_are_histories_of_all_rules():
    rules = {path.parts[-3] for path in HISTORIES}
    assert rules == {"rules-1", "rules-2"}
    outcomes = {
        list(journal.read(path))[-2]["state"]["phase"] for path in HISTORIES if "rules-1" in path.parts
    }
    assert outcomes >= {"Promoted", "RolledBack", "Aborted"}


@pytest.mark.parametrize(
    ("field", "change"),
    [
        pytest.param("action", lambda record: record.update(action="promote"), id="another-action"),
        pytest.param("check", lambda record: record.update(check="nothing"), id="another-check"),
        pytest.param("weights", lambda record: record["weights"].update({"12": 1}), id="other-weights"),
        pytest.param(
            "verdicts", lambda record: record["verdicts"][0].update(outcome="PASS"), id="another-outcome"
        ),
    ],
)
def test_a_journal_that_was_changed_is_found_out(field, change):
    records = [json.loads(line) for line in HISTORIES[0].read_bytes().splitlines()]
    changed = copy.deepcopy(records)
    victim = [record for record in changed if record["kind"] == "decision"][3]
    change(victim)
    found = replay.replay(changed)
    assert field in {difference.field for difference in found.differences if difference.seq == victim["seq"]}
