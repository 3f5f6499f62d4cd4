"""Early, late, repeated, contradicted: each has one outcome."""

from __future__ import annotations

from typing import Any

import pytest
from event_store import DAY, HOUR, NOON, EventStore, label, prediction


def outcomes(store: EventStore) -> dict[str, int]:
    counts = store.events().manifest().counts
    return {name.removeprefix("labels."): n for name, n in counts.items() if name.startswith("labels.")}


def joined(store: EventStore) -> dict[str, Any]:
    window = store.events().window("m")
    return dict(zip(window.request_ids, window.labels.tolist(), strict=True))


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    ("entries", "outcome", "value"),
    [
        pytest.param([prediction("a"), label("a", 1)], {"matched": 1}, 1.0, id="after-its-prediction"),
        pytest.param(
            [prediction("a"), label("a", 1, at=NOON + 20 * DAY)], {"late": 1}, 1.0, id="weeks-after-it"
        ),
        pytest.param(
            [prediction("a"), label("a", 1), label("a", 1, at=NOON + DAY)],
            {"matched": 1, "repeated": 1}, 1.0, id="twice",
        ),
        pytest.param(
            [prediction("a"), label("a", 1), label("a", 0)],
            {"matched": 1, "contradicted": 1}, 1.0, id="and-another-one",
        ),
        pytest.param(
            [prediction("a"), label("a", 1, reward=2.0), label("a", 1, reward=3.0)],
            {"matched": 1, "contradicted": 1}, 1.0, id="and-another-reward",
        ),
        pytest.param([prediction("a"), label("a", None, reward=4.0)], {"matched": 1}, None, id="a-reward-alone"),
        pytest.param(
            [prediction("a"), label("a", None, reward=4.0), label("a", 1), label("a", None, reward=4.0)],
            {"matched": 2, "repeated": 1}, 1.0, id="a-reward-and-then-the-label",
        ),
        pytest.param(
            [prediction("a"), label("a", 1, reward=4.0), label("a", 1)],
            {"matched": 1, "repeated": 1}, 1.0, id="again-without-its-reward",
        ),
        pytest.param(
            [label("a", None, reward=4.0), label("a", 0), prediction("a")], None, 0.0, id="both-before-it",
        ),
    ],
)  # fmt: skip
def test_what_becomes_of_a_label(
    store: EventStore, entries: list[Any], outcome: dict[str, int] | None, value: float | None, apart: bool
) -> None:
    """Verify outcome and joined value, in one batch and over several."""
    for entry in entries:
        store.add(entry)
        if apart:
            store.consolidate()
    store.consolidate()
    assert outcome is None or outcomes(store) == outcome
    got = joined(store)["a"]
    assert got == value or (value is None and got != got)


@pytest.mark.parametrize("apart", [False, True])
def test_an_early_label_is_held_and_joined(store: EventStore, apart: bool) -> None:
    """Verify that a label which comes first waits, over days if need be, and is joined once."""
    store.add(label("a", 1))
    if apart:
        store.consolidate()
        assert store.events().early()["request_id"].to_pylist() == ["a"]
        assert store.events().models() == ()
    store.add(prediction("a", at=NOON + 3 * DAY))
    store.add(prediction("a", at=NOON + 3 * DAY, version="2", mirrored=True))
    store.consolidate(NOON + 3 * DAY)
    assert joined(store) == {"a": 1.0}
    assert store.events().window("m", mirrored=True).labels.tolist() == [1.0]
    store.add(label("a", 0))
    store.consolidate(NOON + 4 * DAY)
    assert outcomes(store).get("contradicted") == 1
    assert joined(store) == {"a": 1.0}


def test_a_copy_of_the_next_day_has_the_label_too(store: EventStore) -> None:
    """Verify that a mirrored copy beyond midnight finds the label in its own partition."""
    store.add(prediction("a", at=NOON + 12 * HOUR - 1), label("a", 1))
    store.consolidate()
    store.add(prediction("a", at=NOON + 12 * HOUR + 1, version="2"))
    store.consolidate()
    assert store.events().window("m").labels.tolist() == [1.0, 1.0]
    assert len(store.events().manifest().of("labels", "m")) == 2


def test_a_contradiction_keeps_both_values(store: EventStore) -> None:
    """Verify what a person finds who looks into it."""
    store.add(prediction("a"), label("a", 1, reward=2.0), label("a", 0, at=NOON + 2 * HOUR))
    store.consolidate()
    (found,) = store.events().contradictions().to_pylist()
    assert (found["label"], found["kept_label"], found["kept_reward"]) == (0.0, 1.0, 2.0)
    assert found["kept_at"].timestamp() == NOON + HOUR
    assert found["at"].timestamp() == NOON + 2 * HOUR
