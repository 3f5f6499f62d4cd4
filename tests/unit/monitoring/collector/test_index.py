"""Sorted runs: what was added is found, whatever was merged."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from monitoring.collector import index as indexes
from monitoring.collector.index import Index, Rows


def rows(names: list[str], day: int) -> Rows:
    count = len(names)
    return {
        **indexes.keys(names),
        "model": np.zeros(count, dtype="<i4"),
        "day": np.full(count, day, dtype="<i4"),
    }


def everything(columns: Rows) -> np.ndarray:
    return np.ones(len(columns["hi"]), dtype=bool)


def test_keys_are_found_through_merges_and_no_others(tmp_path: Path) -> None:
    """Verify against a Python set, over batches of many sizes."""
    draw = random.Random(4)
    index, known, paths = Index("seen", tmp_path, ()), set[str](), 0
    for batch in range(40):
        names = [f"{batch}-{i}" for i in range(draw.choice((1, 3, 50, 400)))]
        gone = index.add(rows(names, batch), f"g{batch}.run", everything)
        for path in gone:
            (tmp_path / path).unlink()
        known |= set(names)
        paths = max(paths, len(index.runs))
    asked = [*sorted(known), *(f"none-{i}" for i in range(2000))]
    assert index.has(indexes.keys(asked)).tolist() == [name in known for name in asked]
    assert sum(run.rows for run in index.runs) == len(known)
    assert paths <= 12, "runs of like size are merged"
    again = Index("seen", tmp_path, index.runs)
    assert again.has(indexes.keys(sorted(known))).all()


def test_a_key_with_several_rows_gives_all_of_them(tmp_path: Path) -> None:
    """Verify that rows of one key are found in one run and in several."""
    index = Index("seen", tmp_path, ())
    index.add(rows(["a", "b", "a"], 1), "one.run", everything)
    index.add(rows(["a"] + [f"x{i}" for i in range(20)], 2), "two.run", everything)
    at, found = index.find(indexes.keys(["z", "a"]))
    assert sorted(zip(at.tolist(), found["day"].tolist(), strict=True)) == [(1, 1), (1, 1), (1, 2)]


def test_a_collision_of_half_a_key_is_no_match(tmp_path: Path) -> None:
    """Verify that keys which share their first half are told apart."""
    index = Index("seen", tmp_path, ())
    stored = rows(["a", "b"], 1)
    stored["hi"][:] = 7
    index.add(stored, "one.run", everything)
    wanted = {"hi": np.array([7, 7], dtype="u8"), "lo": np.array([stored["lo"][1], 5], dtype="u8")}
    assert index.has(wanted).tolist() == [True, False]


def test_a_merge_leaves_out_what_is_past_its_horizon(tmp_path: Path) -> None:
    """Verify that memory of old events ends."""
    index = Index("seen", tmp_path, ())
    index.add(rows(["old"], 1), "one.run", everything)
    index.add(rows(["new"], 90), "two.run", lambda c: c["day"] >= 30)
    assert index.has(indexes.keys(["old", "new"])).tolist() == [False, True]


def test_merges_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that no run grows beyond the limit that bounds memory."""
    monkeypatch.setattr(indexes, "LARGEST", 10)
    index = Index("seen", tmp_path, ())
    for batch in range(10):
        index.add(rows([f"{batch}-{i}" for i in range(4)], 1), f"{batch}.run", everything)
    assert max(run.rows for run in index.runs) <= 10
    assert sum(run.rows for run in index.runs) == 40


def test_the_first_of_each_key_is_the_one_that_came_first() -> None:
    """Verify that within a batch the order of arrival decides."""
    assert indexes.first_of_each(indexes.keys(["a", "b", "a", "c", "b"])).tolist() == [
        True, True, False, True, False,
    ]  # fmt: skip
