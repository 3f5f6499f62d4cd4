"""The search finds what is there, stops what is hopeless, and goes on where it was killed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from components import search
from windlass.contract import Estimator, Range
from windlass.errors import UsageError, WindlassError

ESTIMATORS = (
    Estimator("linear", {"C": Range(0.001, 10, log=True)}),
    Estimator(
        "hist_gradient_boosting",
        {"max_iter": Range(8, 24, integer=True), "learning_rate": Range(0.01, 0.5, log=True)},
    ),
    Estimator(
        "xgboost", {"n_estimators": Range(8, 24, integer=True), "max_depth": Range(2, 4, integer=True)}
    ),
)


def split(nonlinear: bool = True) -> search.Split:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(1200, 3)).astype(np.float32)
    signal = inputs[:, 0] * inputs[:, 1] * 2 if nonlinear else inputs[:, 0]
    labels = (signal + 0.3 * rng.normal(size=1200) > 0).astype(float)
    return search.split_by_time(inputs, labels, seed=0)


def run(
    journal: Path,
    trials: int = 7,
    start: tuple[search.Trial, ...] = (),
    estimators: tuple[Estimator, ...] = ESTIMATORS,
) -> search.SearchResult:
    return search.search(
        split(),
        estimators,
        categories=(0, 0, 0),
        trials=trials,
        seed=11,
        threads=1,
        journal=journal,
        start=start,
    )


def test_the_newest_fifth_is_for_comparing() -> None:
    inputs = np.arange(100, dtype=np.float32)[:, None]
    cut = search.split_by_time(inputs, np.zeros(100), seed=0)
    assert cut.fit_inputs[:, 0].tolist() == list(range(80))
    assert cut.check_inputs[:, 0].tolist() == list(range(80, 100))


def test_many_rows_are_thinned_for_fitting_and_stay_in_order() -> None:
    inputs = np.arange(120_000, dtype=np.float32)[:, None]
    cut = search.split_by_time(inputs, np.zeros(120_000), seed=0)
    assert len(cut.fit_inputs) == search.MOST_ROWS
    assert (np.diff(cut.fit_inputs[:, 0]) > 0).all()
    assert cut.check_inputs[0, 0] == 96_000


def test_trees_win_where_a_line_cannot(tmp_path: Path) -> None:
    found = run(tmp_path / "s.journal")
    assert found.best.family in ("hist_gradient_boosting", "xgboost")
    assert found.best.auc is not None and found.best.auc > 0.85
    assert {t.family for t in found.trials} == {e.family for e in ESTIMATORS}
    assert len(found.trials) == 7


def test_the_same_seed_gives_the_same_search(tmp_path: Path) -> None:
    assert run(tmp_path / "a.journal").trials == run(tmp_path / "b.journal").trials


def test_a_killed_search_goes_on_and_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    journal = tmp_path / "s.journal"
    whole = run(tmp_path / "whole.journal", 7)
    run(journal, 4)
    # a fifth trial was begun when the process died in the middle of a line, its lock still there
    lines = (tmp_path / "whole.journal").read_bytes().splitlines(keepends=True)
    begun = [i for i, line in enumerate(lines) if json.loads(line)["op_code"] == 4][4]
    journal.write_bytes(journal.read_bytes() + lines[begun] + b'{"op_code": 5, "tri')
    Path(f"{journal}.lock").symlink_to(journal)
    again = run(journal, 7)
    assert again.resumed == 4
    assert again.trials == whole.trials


def test_a_search_killed_between_any_two_lines_goes_on(tmp_path: Path) -> None:
    """Verify every moment of the second trial, the one between standing in the queue and beginning among them."""
    whole = run(tmp_path / "whole.journal", 3)
    lines = (tmp_path / "whole.journal").read_bytes().splitlines(keepends=True)
    made = [i for i, line in enumerate(lines) if json.loads(line)["op_code"] == 4]
    for cut in range(made[1], made[2] + 1):
        journal = tmp_path / f"{cut}.journal"
        journal.write_bytes(b"".join(lines[:cut]))
        assert run(journal, 3).trials == whole.trials, f"killed after line {cut}"


def test_the_last_best_is_tried_first_and_one_outside_the_space_is_not(tmp_path: Path) -> None:
    good = search.Trial("xgboost", {"n_estimators": 20, "max_depth": 3}, 0.8)
    outside = search.Trial("xgboost", {"n_estimators": 999, "max_depth": 3}, 0.9)
    found = run(tmp_path / "s.journal", 4, (outside, good))
    assert (found.trials[0].family, dict(found.trials[0].parameters)) == ("xgboost", dict(good.parameters))


def test_a_hopeless_trial_is_stopped_early(tmp_path: Path) -> None:
    # a product cannot be seen by trees of one split
    space = (Estimator("hist_gradient_boosting", {"max_leaf_nodes": Range(2, 31, integer=True)}),)
    starts = tuple(search.Trial("hist_gradient_boosting", {"max_leaf_nodes": n}, None) for n in (31, 25, 2))
    found = run(tmp_path / "s.journal", 3, starts, space)
    assert [t.auc is None for t in found.trials] == [False, False, True]


def test_an_unknown_parameter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"estimator 'linear' has no parameter 'depth'; it has \['C'\]"):
        run(tmp_path / "s.journal", estimators=(Estimator("linear", {"depth": Range(1, 2)}),))


def test_rows_of_one_class_are_refused(tmp_path: Path) -> None:
    only = search.Split(np.zeros((9, 1), np.float32), np.zeros(9), np.zeros((9, 1), np.float32), np.zeros(9))
    with pytest.raises(WindlassError, match="all 9 rows for fitting trials have the same label"):
        search.search(only, ESTIMATORS, categories=(0,), trials=1, seed=0, threads=1, journal=tmp_path / "j")


def test_a_last_best_in_the_middle_of_its_space_is_tried_once(tmp_path: Path) -> None:
    middle = search.Trial("linear", {"C": 0.1}, 0.7)
    points = search._starting_points(ESTIMATORS, (middle,))
    assert [p.family for p in points] == ["linear", "hist_gradient_boosting", "xgboost"]
