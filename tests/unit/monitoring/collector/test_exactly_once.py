"""Any order, any number of deliveries, any crash: the store holds what was acknowledged, each once."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from event_store import DAY, NOON, EventStore, home, label, prediction, request, response
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from monitoring.collector.index import Index

IDS = st.sampled_from("abc")
EVENTS = st.one_of(
    # the day follows from the id, as a redelivered event has its time
    st.builds(
        lambda i, version, mirrored: prediction(
            i, version=version, mirrored=mirrored, at=NOON + "abc".index(i) * DAY
        ),
        IDS,
        st.sampled_from("12"),
        st.booleans(),
    ),
    st.builds(lambda i: request(i, model="n"), IDS),
    st.builds(lambda i: response(i, model="n"), IDS),
    st.builds(label, IDS, st.integers(0, 1)),
)  # fmt: skip
#: where a consolidation may be killed: before and after each thing that it writes or removes
STEPS = (
    "monitoring.collector.parts.write",
    "monitoring.collector.index.write",
    "monitoring.collector.store.Store.put",
    "monitoring.collector.store.Store.commit",
    "monitoring.collector.place.Folder.write",
    "monitoring.collector.place.Folder.remove",
    "monitoring.collector.consolidation._remove_taken",
    "monitoring.collector.maintenance.compact",
)
ACTS = st.one_of(
    st.tuples(st.just("deliver"), st.lists(EVENTS, min_size=2, max_size=8)),
    st.tuples(st.just("consolidate"), st.none()),
    st.tuples(st.just("crash"), st.tuples(st.sampled_from(STEPS), st.integers(1, 4), st.booleans())),
    st.tuples(st.just("lose indexes"), st.none()),
)


class Killed(BaseException):
    """No handler of ours catches it."""


def killed_at(store: EventStore, step: str, time: int, after: bool) -> None:
    """Consolidate, and die at the n-th time that a step is taken, before or after it; or not at all."""
    import importlib

    module, _, name = step.rpartition(".")
    try:
        owner: Any = importlib.import_module(module)
    except ModuleNotFoundError:
        module, _, kind = module.rpartition(".")
        owner = getattr(importlib.import_module(module), kind)
    real, calls = getattr(owner, name), iter(range(1, 1000))

    def dies(*arguments: Any, **named: Any) -> Any:
        now = next(calls) == time
        if now and not after:
            raise Killed
        answer = real(*arguments, **named)
        if now:
            raise Killed
        return answer

    with mock.patch.object(owner, name, dies):
        try:
            store.consolidate()
        except Killed:
            return


def expected(events: list[dict[str, Any]]) -> tuple[set[tuple[str, str, str, bool]], dict[str, float], int]:
    """Predictions, the label of each request, and how many labels contradict it."""
    rows: set[tuple[str, str, str, bool]] = set()
    halves: set[tuple[str, str]] = set()
    labels: dict[str, float] = {}
    contradicted = 0
    for event in events:
        kind = event["type"]
        if kind == "prediction":
            rows.add(("m", event["request_id"], event["version"], event["mirrored"]))
        elif kind == "label":
            kept = labels.setdefault(event["request_id"], event["label"])
            contradicted += kept != event["label"]
        else:
            halves.add((event["id"], kind))
    whole = {i for i, kind in halves if {(i, "request"), (i, "response")} <= halves}
    return rows | {("n", i, "3", False) for i in whole}, labels, contradicted


SCHEDULES = st.lists(ACTS, min_size=6, max_size=16)


def follow(acts: list[Any]) -> None:
    """Carry out a schedule and compare the store with a few lines of plain Python."""
    with tempfile.TemporaryDirectory() as folder:
        store = EventStore(home(Path(folder)), hold_s=1e12, compact_parts=2, grace_s=0.0)
        delivered: list[dict[str, Any]] = []
        for act, detail in acts:
            if act == "deliver":
                delivered += detail
                store.add(*detail)
            elif act == "consolidate":
                store.consolidate()
            elif act == "crash":
                killed_at(store, *detail)
            else:
                for run in (store.folder / "index").glob("*/*.run"):
                    run.unlink()
        known = store.consolidate()
        rows, labels, contradicted = expected(delivered)
        events = store.events()
        found: list[tuple[str, str, str, bool]] = []
        for model in ("m", "n"):
            for mirrored in (False, True):
                window = events.window(model, versions=["1", "2", "3"], mirrored=mirrored)
                for i, version, value in zip(window.request_ids, window.versions, window.labels, strict=True):
                    found.append((model, i, version, mirrored))
                    assert value == labels.get(i, math.nan) or (i not in labels and math.isnan(value))
        assert sorted(found) == sorted(rows)
        assert known.counts.get("labels.contradicted", 0) == contradicted
        assert events.contradictions().num_rows == contradicted
        judged = sum(
            known.counts.get(f"labels.{o}", 0) for o in ("matched", "early", "repeated", "contradicted")
        )
        assert judged == sum(event["type"] == "label" for event in delivered)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(SCHEDULES)
def test_the_store_is_what_was_delivered(acts: list[Any]) -> None:
    """Verify rows, labels and counts over random schedules of deliveries, kills and lost indexes."""
    follow(acts)


def test_a_store_that_forgets_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that the schedules find a store that does not look duplicates up."""
    monkeypatch.setattr(Index, "has", lambda self, wanted: np.zeros(len(wanted["hi"]), dtype=bool))
    # the first schedule that fails is enough, it need not be made shorter
    once = settings(max_examples=20, deadline=None, derandomize=True, phases=(Phase.generate,))
    with pytest.raises(AssertionError):
        once(given(SCHEDULES)(follow))()
