"""What an analysis job sees."""

from __future__ import annotations

import math

import numpy as np
import pytest
from event_store import DAY, HOUR, NOON, EventStore, label, prediction

from monitoring.joined import Joined
from monitoring.labels import Label
from monitoring.predictions import parse


def fill(store: EventStore) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    predictions = [
        prediction(
            f"r{n}", at=NOON + n * HOUR, version="1" if n < 30 else "2", mirrored=n % 7 == 0, score=n / 100,
            features=[float(n), None if n % 5 == 0 else 2.0 * n], latency_ms=None if n % 11 == 0 else 1.0,
        )
        for n in range(60)
    ]  # fmt: skip
    labels = [label(f"r{n}", n % 2, at=NOON + n * HOUR + 1800) for n in range(0, 60, 3)]
    for start in range(0, 60, 9):
        store.add(*predictions[start : start + 9], *labels[start // 3 : start // 3 + 3])
        store.consolidate()
    return predictions, labels


@pytest.mark.parametrize(
    ("since", "until", "versions", "mirrored"),
    [
        pytest.param(-math.inf, math.inf, None, False, id="everything"),
        pytest.param(NOON + 5 * HOUR, NOON + 33 * HOUR, None, False, id="a-stretch"),
        pytest.param(NOON + 5 * HOUR, NOON + 33 * HOUR, ["2"], False, id="a-version"),
        pytest.param(-math.inf, NOON + 50 * HOUR, ["1", "2"], True, id="mirrored-copies"),
        pytest.param(NOON + 900 * HOUR, NOON + 901 * HOUR, None, False, id="nothing"),
    ],
)
def test_a_window_is_what_joining_in_memory_gives(
    store: EventStore, since: float, until: float, versions: list[str] | None, mirrored: bool
) -> None:
    """Verify every column against `monitoring.joined`, which joins the same records as they come."""
    predictions, labels = fill(store)
    joined = Joined()
    joined.add_predictions(parse({k: v for k, v in r.items() if v is not None}) for r in predictions)
    joined.add_labels(Label(str(r["request_id"]), int(str(r["label"])), float(str(r["at"]))) for r in labels)
    wanted = joined.window("m", since=since, until=until, versions=versions, mirrored=mirrored)
    found = store.events().window("m", since, until, versions=versions, mirrored=mirrored)
    order = np.argsort(wanted.at, kind="stable")
    assert found.request_ids == tuple(wanted.request_ids[i] for i in order)
    for name in ("at", "scores", "labels", "label_at"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name)[order], err_msg=name)
    if len(found):
        np.testing.assert_array_equal(found.features, wanted.features[order])
        np.testing.assert_array_equal(
            found.matured()[1], wanted.scores[order][~np.isnan(wanted.labels[order])]
        )
    assert found.versions.tolist() == ["1" if float(i[1:]) < 30 else "2" for i in found.request_ids]


def test_latencies_sources_and_columns_come_along(store: EventStore) -> None:
    """Verify what slices are cut by; a missing value is missing and not zero."""
    fill(store)
    window = store.events().window("m", NOON, NOON + 12 * HOUR)
    late = dict(zip(window.request_ids, window.latency_ms.tolist(), strict=True))
    assert late["r1"] == 1.0
    assert math.isnan(late["r11"])
    assert set(window.sources) == {"online"}
    assert window.columns["entity.carrier"].tolist() == ["AA"] * len(window)
    assert window.columns["request.distance"].tolist() == [10.0] * len(window)
    assert window.inputs == ("0", "1"), "nobody names the inputs of this model"


def test_versions_parts_and_newest(store: EventStore) -> None:
    """Verify the questions of a job that streams files."""
    import pyarrow.parquet as pq

    fill(store)
    events = store.events()
    assert (events.models(), events.versions("m"), events.inputs("m", "2")) == (
        ("m",),
        ("1", "2"),
        ("0", "1"),
    )
    assert events.newest("m") == NOON + 59 * HOUR
    assert events.newest_label("m") == NOON + 57 * HOUR + 1800
    found = [pq.ParquetFile(p).read(["request_id"]) for p in events.parts("m", NOON, NOON + HOUR)]
    assert "r0" in [name for table in found for name in table["request_id"].to_pylist()]
    days = {p.parent.name for p in events.label_parts("m", NOON + 2 * DAY, NOON + 3 * DAY)}
    assert days == {"date=2023-11-17"}, "labels lie where their predictions do"


def test_a_model_without_events_is_no_error(store: EventStore) -> None:
    """Verify that nothing stored is an empty window and no time, instead of zero."""
    events = store.events()
    assert (events.versions("m"), events.newest("m"), events.newest_label("m")) == ((), None, None)
    assert (len(events.window("m")), events.parts("m")) == (0, [])
    assert events.contradictions().num_rows == 0


def test_versions_of_other_inputs_stay_out_unless_they_are_asked_for(store: EventStore) -> None:
    """Verify that columns of a window mean one thing."""
    store.add(
        prediction("old", features=[1.0]), prediction("new", version="2", at=NOON + 1, features=[1.0, 2.0])
    )
    store.consolidate()
    assert store.events().window("m").request_ids == ("new",)
    assert store.events().window("m", versions=["1"]).features.tolist() == [[1.0]]


def test_answers_that_are_not_one_number_are_kept_as_json(store: EventStore) -> None:
    """Verify that a list of probabilities is stored, and is no score."""
    import pyarrow.parquet as pq

    store.add(prediction("a", score=[0.25, 0.75]), prediction("b", score=2**60))
    store.consolidate()
    (path,) = store.events().parts("m")
    rows = pq.ParquetFile(path).read().to_pylist()
    assert [(row["score"], row["answer"]) for row in rows] == [(None, "[0.25,0.75]"), (float(2**60), None)]
    assert store.events().window("m").request_ids == ("b",)


def test_a_window_survives_a_compaction_that_removes_its_files(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that a reader whose files are gone reads the manifest again."""
    store.add(prediction("a"))
    store.consolidate()
    events = store.events()
    stale = events.manifest()
    for start in range(9):
        store.add(prediction(f"b{start}"))
        store.consolidate()
    store.consolidate(NOON + HOUR)
    fresh = events.manifest
    answers = iter([stale])
    monkeypatch.setattr(events, "manifest", lambda: next(answers, None) or fresh())
    assert len(events.window("m")) == 10
