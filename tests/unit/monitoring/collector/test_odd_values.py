"""What is odd and yet taken: it is stored, read, and costs the rest neither its place nor its names."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import orjson
import pytest
from event_store import NOON, EventStore, home, prediction

from monitoring.collector import maintenance, parts
from monitoring.collector.intake import Intake
from monitoring.collector.names import Names


@pytest.mark.parametrize("latency", ["fast", True, [1.0], {}], ids=str)
def test_a_latency_that_is_no_number_is_missing(store: EventStore, latency: object) -> None:
    """Verify that one such value does not make text of a column that everybody reads as numbers."""
    store.add(prediction("a", latency_ms=2), prediction("b", latency_ms=latency))
    store.consolidate()
    window = store.events().window("m")
    assert window.request_ids == ("a", "b")
    assert window.latency_ms[0] == 2.0
    assert math.isnan(window.latency_ms[1])


def test_a_vector_of_another_width_does_not_take_the_names_from_its_version(tmp_path: Path) -> None:
    """Verify that the inputs of a version are those that its bundle states, although a wrong vector came first."""
    store = EventStore(home(tmp_path))
    bundle = store.settings.bundles_dir / "m" / "1" / "serving.json"
    bundle.parent.mkdir(parents=True)
    bundle.write_bytes(orjson.dumps({"inputs": [{"name": "x"}, {"name": "y"}]}))
    store.add(prediction("wrong", at=NOON - 1, features=[7.0]))
    store.add(prediction("right", features=[1.0, 2.0]))
    store.consolidate()
    window = store.events().window("m")
    assert window.inputs == ("x", "y")
    np.testing.assert_array_equal(window.features, [[np.nan, np.nan], [1.0, 2.0]])


def test_field_names_that_differ_from_row_to_row_make_no_column_a_row(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that the frequent fields keep their columns, the others are kept as JSON, and nothing is lost."""
    monkeypatch.setattr(parts, "MOST_FIELDS", 3)
    rows = [prediction(f"r{n}", at=NOON + n, request={"distance": n, f"user-{n}": "x"}) for n in range(50)]
    store.add(*rows)
    store.consolidate()
    window = store.events().window("m")
    named = [name for name in window.columns if name.startswith("request.")]
    assert len(named) == 3 + 1
    np.testing.assert_array_equal(window.columns["request.distance"], np.arange(50))
    rest = [text for text in window.columns[f"request.{parts.OTHERS}"] if text is not None]
    assert len(rest) == 48
    assert orjson.loads(rest[-1]) == {"user-49": "x"}


def test_wide_files_are_joined_as_far_as_memory_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that a compaction holds no more values than it may, and that what is left is joined later or stays."""
    store = EventStore(home(tmp_path), compact_parts=2)
    for n in range(6):
        store.add(prediction(f"r{n}", features=[float(n)] * 100))
        store.consolidate()
        monkeypatch.setattr(maintenance, "MOST_CELLS", 3 * 120)
    assert sorted(part.rows for part in store.events().manifest().of("predictions")) == [3, 3]
    assert store.stored() == [f"r{n}" for n in range(6)]


def test_a_model_that_is_called_like_a_kind_keeps_its_own_time(tmp_path: Path) -> None:
    """Verify that labels without a prediction, held by the day they came, age nobody's predictions."""
    from event_store import DAY, label

    store = EventStore(home(tmp_path), keep_predictions_days=10)
    store.add(prediction("a", model="early", at=NOON - 3000 * DAY), label("nobody", 1))
    store.consolidate()
    assert store.stored("early") == ["a"]


@pytest.mark.parametrize(
    "value", [None, True, 1e308, -(2**63), 2**64 - 1, "x" * 1000, [[1], {}], {"a": [None]}]
)
def test_any_value_in_any_field_is_stored_and_read_or_refused(store: EventStore, value: object) -> None:
    """Verify that what the intake takes, the store takes, and a reader reads."""
    from windlass.errors import UsageError

    intake = Intake(Names(store.settings), None, lambda: NOON)
    sent = prediction("a", model="m")
    taken = 0
    for position, name in enumerate(sorted(set(sent) - {"type", "received", "request_id", "model"})):
        record = {**sent, "request_id": f"r{position}", name: value}
        try:
            entries = intake.predictions(orjson.dumps(record))
        except UsageError:
            continue
        store.add(*entries)
        taken += 1
    assert taken >= 4
    assert store.consolidate().counts["stored.prediction"] == taken
    window = store.events().window("m", versions=store.events().versions("m"))
    assert set(window.request_ids) <= set(store.stored())
    assert len(store.stored()) == taken
