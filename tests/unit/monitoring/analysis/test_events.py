"""Answers from the collector's store and from the logs are the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_store import DAY, HOUR, NOON, EventStore, home, label, prediction

from monitoring import labels, predictions
from monitoring.analysis import events
from monitoring.analysis.events import Logged, Stored


def entries() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    answered = [
        prediction(
            f"r{i}",
            version="2" if i % 3 == 0 else "1",
            at=NOON - 2 * DAY + i * HOUR,
            score=i / 50,
            features=[float(i), None if i % 4 == 0 else 1.5],
            mirrored=i % 10 == 9,
            request={"distance": i, "kind": "red" if i % 2 else None},
            entities={"shop": i % 5},
        )
        for i in range(40)
    ]
    answered.append(dict(answered[5], score=0.9))  # the same request again: the first answer counts
    known = [label(f"r{i}", i % 2, at=NOON + i) for i in range(0, 40, 2)]
    known.append(label("r4", 1, at=NOON + 9 * HOUR))  # contradicts: the first label counts
    return answered, known


@pytest.fixture
def both(tmp_path: Path) -> tuple[Stored, Logged]:
    answered, known = entries()
    store = EventStore(home(tmp_path))
    store.add(*answered)
    store.add(*known)
    store.consolidate(NOON + DAY)
    stored = events.open_answers(store.settings, "m")
    assert isinstance(stored, Stored)
    logged = Logged("m", [predictions.parse(p) for p in answered], [labels.parse(k) for k in known])
    return stored, logged


def test_store_and_logs_give_the_same_rows(both: tuple[Stored, Logged]) -> None:
    stored, logged = both
    assert stored.versions() == logged.versions()
    for version in ("1", "2"):
        ours, theirs = (a.rows(version, NOON - DAY, NOON - 3 * HOUR) for a in both)
        assert ours.request_ids == theirs.request_ids != ()
        for field in ("at", "scores", "labels", "label_at", "latency_ms", "features"):
            np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field), err_msg=field)
        assert list(ours.sources) == list(theirs.sources)
        assert set(ours.columns) == set(theirs.columns)
        assert set(theirs.columns["entity.shop"]) == {"0", "1", "2", "3", "4"}
        for name, values in theirs.columns.items():
            np.testing.assert_array_equal(ours.columns[name], values, err_msg=name)


def test_store_and_logs_count_the_same_live_answers(both: tuple[Stored, Logged]) -> None:
    stored, logged = both
    since, until = NOON - DAY, NOON - HOUR
    np.testing.assert_array_equal(stored.arrivals(since, until), logged.arrivals(since, until))
    assert stored.counts(since, until) == logged.counts(since, until)
    for version in ("1", "2"):
        newest = logged.rows(version, -np.inf, np.inf).at.max()
        assert stored.newest(version) == logged.newest(version) == newest
    assert stored.newest("none") is logged.newest("none") is None
    assert len(logged.arrivals(since, until)) == 16 - 2  # two of these hours' answers are copies nobody saw


def test_without_a_store_the_logs_are_read(tmp_path: Path) -> None:
    assert isinstance(events.open_answers(home(tmp_path), "m"), Logged)


def test_an_older_build_under_the_same_number_is_left_out() -> None:
    """Verify that vectors of another width are not rows of the newest build."""
    old = [prediction(f"o{i}", features=[1.0], at=NOON + i) for i in range(3)]
    new = [prediction(f"n{i}", features=[1.0, 2.0], at=NOON + 10 + i) for i in range(2)]
    logged = Logged("m", [predictions.parse(p) for p in old + new], [])
    assert logged.rows("1", 0, NOON + DAY).request_ids == ("n0", "n1")


def test_batches_are_the_rows_in_named_columns(both: tuple[Stored, Logged]) -> None:
    """Verify the streamed columns against the rows, by position where the store has no names for them."""
    import pyarrow as pa

    since, until = NOON - DAY, NOON - 3 * HOUR
    for answers in both:
        rows = answers.rows("1", since, until)
        table = pa.Table.from_batches(list(answers.batches("1", since, until, ("a", "b", "score"))))
        assert table.column_names == ["a", "b", "score"]
        order = np.argsort(table["score"].to_numpy())
        for name, expected in (
            ("a", rows.features[:, 0]),
            ("b", rows.features[:, 1]),
            ("score", rows.scores),
        ):
            found = table[name].to_numpy(zero_copy_only=False).astype(float)[order]
            np.testing.assert_array_equal(found, expected, err_msg=name)
        assert list(answers.batches("1", since, until, ("a", "score"))) == []
