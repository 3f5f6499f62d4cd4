"""Where it got worse: a bad slice is named first, and none is named where nothing happened."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from analysis_home import CATEGORIES
from real_flights import Flights, flights

from monitoring.analysis import cuts, days, slices
from monitoring.analysis.slices import Losses, SliceReport

REFERENCE = ("2013-05-25", "2013-06-22")


@pytest.fixture(scope="module")
def year() -> Flights:
    return flights("2013-05-25")


def search(
    year: Flights,
    reference: np.ndarray,
    window: np.ndarray,
    labels: np.ndarray | None = None,
    more: float = 0.0,
) -> SliceReport:
    labels = year.labels if labels is None else labels
    single = {
        name: cuts.cut(name, year.inputs[reference, i], year.inputs[window, i], CATEGORIES.get(name))
        for i, name in enumerate(year.names)
    }
    crossed = [cuts.cross(single["carrier"], c) for n, c in single.items() if n != "carrier"]
    crossed += [cuts.cross(single["origin"], c) for n, c in single.items() if n not in ("carrier", "origin")]

    def losses(rows: np.ndarray, known: np.ndarray) -> Losses:
        return Losses(np.square(year.scores[rows] - known[rows]), days.codes(year.at[rows]))

    now = losses(window, labels)
    return slices.find(
        [*single.values(), *crossed], losses(reference, year.labels), Losses(now.loss + more, now.day)
    )


@pytest.mark.parametrize(
    "span",
    [
        pytest.param(("2013-06-22", "2013-07-20"), id="a-stormy-month"),
        pytest.param(("2013-07-20", "2013-08-17"), id="high-summer"),
        pytest.param(("2013-09-01", "2013-10-01"), id="a-quiet-month"),
    ],
)
def test_a_carrier_whose_outcomes_turned_around_is_named_first(year: Flights, span: tuple[str, str]) -> None:
    """Verify that it is the carrier and not a crossing with it, among hundreds, and that nothing else is named."""
    known = np.isfinite(year.labels)
    reference, window = year.between(*REFERENCE) & known, year.between(*span) & known
    assert search(year, reference, window).worse == ()
    united = year.inputs[:, year.names.index("carrier")] == CATEGORIES["carrier"].index("UA")
    turned = np.where(united, 1 - year.labels, year.labels)
    found = search(year, reference, window, turned)
    assert found.tested > 500
    assert [s.name for s in found.worse] == ["carrier=UA"]
    first = found.worse[0]
    assert 0 < first.lower < first.beyond_rest
    assert first.loss - first.reference_loss == pytest.approx(first.increase)
    assert found.highest[0][1] >= found.highest[-1][1]


def test_two_bad_slices_are_both_named(year: Flights) -> None:
    """Verify that what is left when the first is taken out is sought again."""
    known = np.isfinite(year.labels)
    reference, window = year.between(*REFERENCE) & known, year.between("2013-07-20", "2013-08-17") & known
    united = year.inputs[:, year.names.index("carrier")] == CATEGORIES["carrier"].index("UA")
    far = year.inputs[:, year.names.index("distance")] <= 400
    turned = np.where(united | far, 1 - year.labels, year.labels)
    names = [s.name for s in search(year, reference, window, turned).worse]
    assert "carrier=UA" in names
    assert any("distance" in n or "sched_elapsed" in n for n in names)


def test_nothing_is_named_where_days_were_only_dealt_out_anew(year: Flights) -> None:
    """Verify the false names: days of one summer dealt into reference and window, again and again."""
    rows = np.flatnonzero(year.between("2013-05-25", "2013-09-01") & np.isfinite(year.labels))
    day = days.codes(year.at[rows])
    draw = np.random.default_rng(11)
    named = 0
    for _ in range(40):
        order = draw.permutation(day.max() + 1)
        reference, window = (rows[np.isin(day, part)] for part in (order[:28], order[28:56]))
        named += bool(search(year, reference, window).worse)
    assert named <= 4  # 5 % of 40, and what chance allows beyond


def test_a_model_that_is_worse_everywhere_is_worse_nowhere_in_particular(year: Flights) -> None:
    """Verify that a loss that rose for all alike names no slice and shows in the increase."""
    known = np.isfinite(year.labels)
    reference, window = year.between(*REFERENCE) & known, year.between("2013-07-20", "2013-08-17") & known
    before = search(year, reference, window)
    found = search(year, reference, window, more=0.2)
    assert before.increase is not None
    assert found.increase is not None
    assert found.increase == pytest.approx(before.increase + 0.2)
    assert found.worse == ()


@pytest.mark.parametrize(
    ("rows", "count"),
    [pytest.param(150, 7, id="too-few-rows"), pytest.param(1000, 3, id="too-few-days")],
)
def test_too_little_is_said_and_not_searched(rows: int, count: int) -> None:
    losses = Losses(np.full(rows, 0.2), np.arange(rows) % count)
    whole = Losses(np.full(1000, 0.2), np.arange(1000) % 7)
    found = slices.find([], whole, losses)
    assert found.tested == 0
    assert "the window has" in found.reason


def test_cells_are_named_after_what_they_hold() -> None:
    """Verify the cells of a category, of a number with few values, of one with many, and of a text."""
    there, here = np.array([0.0, 1.0, np.nan, 1.0]), np.array([2.0, 5.0, np.nan, 0.0])
    found = cuts.cut("origin", there, here, ("EWR", "JFK", "LGA"))
    assert [found.cells[c] for c in found.window] == [
        "origin=LGA", "origin is new", "origin is missing", "origin=EWR",
    ]  # fmt: skip
    few = cuts.cut("day", there, here)
    assert [few.cells[c] for c in few.window] == ["day is new", "day is new", "day is missing", "day=0"]
    many = cuts.cut("delay", np.arange(101.0), np.array([25.0, 26.0, 1e9, np.nan]))
    assert [many.cells[c] for c in many.window] == [
        "delay <= 25", "25 < delay <= 50", "delay > 75", "delay is missing",
    ]  # fmt: skip
    text = cuts.text_cut("dest", ["ATL", "BOS"], ["BOS", "XYZ"])
    assert [text.cells[c] for c in text.window] == ["dest=BOS", "dest is new"]
    crossed = cuts.cross(found, few)
    assert [crossed.cells[c] for c in crossed.window][:2] == [
        "origin=LGA and day is new", "origin is new and day is new",
    ]  # fmt: skip


def test_a_column_of_thousands_of_texts_costs_no_more_than_its_rows() -> None:
    """Verify that crossings too small to be judged are neither named nor summed up, and that a large one is found."""
    draw = np.random.default_rng(4)
    rows, texts = 20_000, 3_000
    day = np.arange(rows) % 7

    def column() -> list[str]:
        return [f"shop {i}" for i in np.where(draw.random(rows) < 0.1, 0, draw.integers(1, texts, rows))]

    shops, goods = (cuts.text_cut(n, column(), column()) for n in ("shop", "goods"))
    loss, worse = draw.random(rows), draw.random(rows)
    worse[shops.window == 0] += 0.5
    tracemalloc.start()
    every = [shops, goods, cuts.cross(shops, goods)]
    found = slices.find(every, Losses(loss, day), Losses(worse, day))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [s.name for s in found.worse] == ["shop=shop 0"]
    assert "goods=shop 0" in {name for name, *_ in found.highest}
    assert len(every[2].cells) > 8_000_000
    assert peak < 50e6
