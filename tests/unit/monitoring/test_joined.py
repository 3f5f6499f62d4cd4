"""Predictions meet their labels, in whichever order they come."""

from __future__ import annotations

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.joined import Joined
from monitoring.labels import Label
from monitoring.predictions import Prediction


def prediction(
    request_id: str, *, version: str = "1", at: float = 0.0, score: float = 0.5, mirrored: bool = False
) -> Prediction:
    return Prediction(request_id, "m", version, at, {}, {}, (score, math.nan), score, 1.0, "online", mirrored)


def test_a_label_may_come_before_its_prediction_or_after_it() -> None:
    joined = Joined()
    joined.add_labels([Label("early", 1, 5.0)])
    assert joined.counts.awaiting_prediction == 1
    joined.add_predictions([prediction("early"), prediction("late")])
    assert (joined.counts.awaiting_prediction, joined.counts.awaiting_label) == (0, 1)
    joined.add_labels([Label("late", 0, 6.0)])
    window = joined.window("m")
    assert dict(zip(window.request_ids, window.labels.tolist(), strict=True)) == {"early": 1.0, "late": 0.0}
    assert joined.counts.awaiting_label == 0


def test_a_contradiction_is_counted_and_changes_nothing() -> None:
    joined = Joined()
    joined.add_predictions([prediction("r")])
    joined.add_labels([Label("r", 1, 5.0), Label("r", 0, 6.0), Label("r", 1, 7.0)])
    assert joined.window("m").labels.tolist() == [1.0]
    counts = joined.counts
    assert (counts.labels, counts.contradicted_labels, counts.repeated_labels) == (1, 1, 1)


def test_a_retried_request_counts_once_and_a_mirrored_copy_by_itself() -> None:
    joined = Joined()
    joined.add_predictions(
        [prediction("r", score=0.2), prediction("r", score=0.9), prediction("r", version="2", mirrored=True)]
    )
    assert joined.counts.predictions == 2
    assert joined.counts.repeated_predictions == 1
    assert joined.window("m").scores.tolist() == [0.2]
    assert joined.window("m", mirrored=True).request_ids == ("r",)


def test_a_window_holds_its_start_and_not_its_end() -> None:
    joined = Joined()
    joined.add_predictions(
        [prediction(f"r{i}", at=float(i), version="1" if i < 3 else "2") for i in range(6)]
    )
    assert joined.window("m", since=1, until=4).request_ids == ("r1", "r2", "r3")
    assert joined.window("m", since=1, versions=["2"]).at.tolist() == [3.0, 4.0, 5.0]
    assert joined.window("m", versions=["9"]).features.shape == (0, 0)
    assert len(joined.window("other")) == 0


def test_a_growing_history_keeps_every_row() -> None:
    joined = Joined()
    joined.add_predictions(prediction(f"r{i}", at=float(i), score=i / 1000) for i in range(1000))
    window = joined.window("m")
    assert window.scores.tolist() == [i / 1000 for i in range(1000)]
    assert window.features[:, 0].tolist() == window.scores.tolist()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.booleans(), st.integers(0, 1)), max_size=30), st.randoms()
)
def test_the_join_does_not_depend_on_which_log_was_read_first(
    events: list[tuple[str, bool, int]], draw: random.Random
) -> None:
    first = {}
    for name, is_label, label in events:
        if is_label:
            first.setdefault(name, Label(name, label, 1.0))
    predictions = [prediction(name) for name, is_label, _ in events if not is_label]
    merged: list[Prediction | Label] = [*predictions, *first.values()]
    draw.shuffle(merged)
    mixed, ordered = Joined(), Joined()
    for event in merged:
        mixed.add_labels([event]) if isinstance(event, Label) else mixed.add_predictions([event])
    ordered.add_predictions(predictions)
    ordered.add_labels(first.values())

    def outcome(joined: Joined) -> dict[str, str]:
        window = joined.window("m")
        return dict(zip(window.request_ids, map(str, window.labels.tolist()), strict=True))

    assert outcome(mixed) == outcome(ordered)
    assert mixed.counts == ordered.counts
