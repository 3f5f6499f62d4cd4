"""Reading: any files and batches of the same rows give one profile, and what cannot be read is named."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from monitoring.sketches.categories import Categories
from monitoring.sketches.distances import compare
from monitoring.sketches.distribution import Cells, Counts, Values
from monitoring.sketches.limits import Limits
from monitoring.sketches.profile import ColumnProfile, of_labels, of_values
from monitoring.sketches.stream import profile
from windlass.errors import UsageError, WindlassError

ROWS = 200_000
SMALL = Limits(values=10_000, distinct=500, categories=500)


def table(seed: int = 0, rows: int = ROWS) -> pa.Table:
    r = np.random.default_rng(seed)
    gaps = r.random(rows) < 0.1
    strange = r.normal(size=rows)
    strange[::100], strange[1::100], strange[2::100] = np.nan, np.inf, -np.inf
    texts = np.array([f"c{i}" for i in range(30)])[r.integers(0, 30, rows)]
    return pa.table(
        {
            "double": r.normal(size=rows),
            "float": pa.array(r.normal(size=rows).astype(np.float32), mask=gaps),
            "strange": pa.array(strange, mask=gaps),
            "whole": r.integers(0, 400, rows),
            "wide": pa.array(r.integers(-(2**40), 2**40, rows), mask=gaps),
            "tenths": r.integers(0, 300, rows) / 10.0,
            "text": pa.array(texts, mask=gaps),
            "dictionary": pa.array(texts, mask=gaps).dictionary_encode(),
            "flag": pa.array(r.random(rows) < 0.3, mask=gaps),
            "identifier": pa.array([f"id{i}" for i in range(rows)]),
            "nothing": pa.nulls(rows, pa.float64()),
            "null": pa.nulls(rows),
        }
    )


@pytest.fixture(scope="module")
def window() -> pa.Table:
    return table()


@pytest.fixture(scope="module")
def files(window: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("parts")
    cuts = [0, 0, 70_001, ROWS]  # one part without rows
    paths = []
    for i, (start, stop) in enumerate(itertools.pairwise(cuts)):
        paths.append(folder / f"{i}.parquet")
        pq.write_table(window.slice(start, stop - start), paths[-1], row_group_size=50_000)
    return paths


def in_numbers(column: ColumnProfile) -> tuple[Any, ...]:
    kept = column.content
    if isinstance(kept, Categories):
        return (
            column.rows,
            column.nulls,
            dict(kept.counts),
            None if kept.buckets is None else kept.buckets.tolist(),
        )
    shown = kept.values.tolist() if isinstance(kept, Values) else kept.counts.tolist()
    return (column.rows, column.nulls, column.infinite, type(kept), shown)


@pytest.mark.parametrize("threads", [1, 3])
def test_files_and_batches_of_the_same_rows_give_the_same_profile(
    window: pa.Table, files: list[Path], threads: int
) -> None:
    from_files = profile(files, limits=SMALL, threads=threads)
    from_batches = profile(window.to_batches(max_chunksize=33_333), limits=SMALL, threads=threads)
    assert list(from_files) == list(from_batches) == window.column_names
    for name in window.column_names:
        assert in_numbers(from_files[name]) == in_numbers(from_batches[name]), name


def test_every_row_is_accounted_for(window: pa.Table, files: list[Path]) -> None:
    found = profile(files, limits=SMALL)
    for name, column in found.items():
        assert column.rows == ROWS
        kept = column.content
        assert column.n == kept.n, name
    nulls = window.column("float").null_count
    assert found["float"].nulls == found["text"].nulls == found["flag"].nulls == nulls
    assert found["nothing"].nulls == found["null"].nulls == ROWS
    strange = window.column("strange").to_numpy()
    assert found["strange"].infinite == np.isinf(strange).sum()
    assert found["strange"].nulls == np.isnan(strange).sum()


def test_each_column_is_kept_in_the_form_that_suits_it(files: list[Path]) -> None:
    found = profile(files, limits=SMALL)
    forms = {name: type(column.content) for name, column in found.items()}
    assert forms == {
        **dict.fromkeys(("double", "float", "strange", "wide"), Cells),
        **dict.fromkeys(("whole", "tenths"), Counts),
        **dict.fromkeys(("text", "dictionary", "flag", "identifier"), Categories),
        **dict.fromkeys(("nothing", "null"), Values),
    }
    assert {name for name, column in found.items() if column.integer} == {"whole", "wide"}
    assert not found["identifier"].exact
    assert found["text"].exact


def test_the_values_are_those_of_the_rows(window: pa.Table, files: list[Path]) -> None:
    found = profile(files, ["double", "float", "tenths"], threads=2)
    for name, column in found.items():
        assert isinstance(column.content, Values)
        rows = window.column(name).to_numpy().astype(np.float64)
        assert np.array_equal(column.content.values, np.sort(rows[np.isfinite(rows)]))


def test_a_window_is_counted_on_its_references_grid_and_labels(files: list[Path]) -> None:
    reference = profile([table(seed=1, rows=5000).to_batches()[0]], limits=SMALL, categorical={"tenths"})
    found = profile(files, reference=reference, limits=SMALL)
    assert found["tenths"].categorical
    for name, column in found.items():
        if name != "identifier" and reference[name].n:
            distance = compare(reference[name], column)
            assert distance.value is not None and distance.value < 0.2, name
            assert distance.upper is not None and distance.lower is not None
            assert distance.upper - distance.lower < 0.005, name


def test_numbers_as_labels_are_one_label_whatever_their_type() -> None:
    batches = [
        pa.record_batch({"x": pa.array([1, 1, 0], pa.int64())}),
        pa.record_batch({"x": pa.array([1.0, -0.0, np.nan, np.inf, None], pa.float64())}),
        pa.record_batch({"x": pa.array([True, False, None])}),
    ]
    found = profile(batches, categorical={"x"})["x"]
    assert isinstance(found.content, Categories)
    assert found.content.counts == {1.0: 4, 0.0: 3}
    assert (found.rows, found.nulls, found.infinite) == (11, 3, 1)


def test_numbers_as_labels_share_a_bucket_whatever_their_type() -> None:
    few = Limits(categories=1)
    whole, single = pa.array([1, 2, 0, 3], pa.int64()), pa.array([1.0, 2.0, -0.0, 3.0], pa.float32())
    kept = [
        profile([pa.record_batch({"x": part})], categorical={"x"}, limits=few)["x"].content
        for part in (whole, single)
    ]
    assert all(isinstance(content, Categories) and content.buckets is not None for content in kept)
    assert np.array_equal(kept[0].buckets, kept[1].buckets)  # type: ignore[union-attr]


def test_a_reference_in_buckets_hands_on_the_labels_it_knows() -> None:
    batch = pa.record_batch({"x": ["a", "b", "c", "a"]})
    few = Limits(categories=2)
    reference = of_labels("x", {"a": 5, "b": 1, "c": 1}, known=frozenset("a"), limits=few)
    found = profile([batch], reference={"x": reference}, limits=few)["x"].content
    assert isinstance(found, Categories)
    assert found.counts == {"a": 2}
    assert found.known == {"a"}


def test_a_column_that_turns_out_to_differ_is_counted_anew() -> None:
    """Verify the way from values to counts to cells: nothing that was taken before is lost."""
    few, many = np.arange(40_000) % 100 / 4.0, np.random.default_rng(2).normal(size=40_000)
    batches = [pa.record_batch({"x": part}) for part in (few, few + 1000, many)]
    forms = []
    for count in (1, 2, 3):
        found = profile(batches[:count], limits=Limits(values=1000, distinct=200))["x"]
        forms.append((type(found.content), found.n))
    assert forms == [(Counts, 40_000), (Counts, 80_000), (Cells, 120_000)]


def test_values_a_whole_number_apart_are_not_rounded_to_be() -> None:
    """Verify that counting by position is for whole numbers only: 0.7 + 3.0 is not this other value."""
    values = [0.7, 3.6999999999999997]
    assert values[1] - values[0] == 3.0
    found = profile([pa.record_batch({"x": values})] * 2, limits=Limits(values=0))["x"].content
    assert isinstance(found, Counts)
    assert found.values.tolist() == values
    assert found.counts.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("source", "columns", "message"),
    [
        pytest.param([], None, "no parquet file and no batch", id="nothing"),
        pytest.param([Path("absent.parquet")], None, "absent.parquet is no file", id="no file"),
        pytest.param([table(rows=3).to_batches()[0]], ["speed"], "no column 'speed'", id="no column"),
        pytest.param([pa.record_batch({"x": pa.array([[1]])})], None, "of type list<", id="no statistics"),
        pytest.param(
            [pa.record_batch({"x": [1.0]}), pa.record_batch({"y": [1.0]})], None, "no column 'x'", id="other batch"
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(source: Any, columns: list[str] | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        profile(source, columns)


def test_a_file_without_the_column_is_named(files: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"float": [1.0]}), other)
    with pytest.raises(UsageError, match=r"other\.parquet has no column 'double'"):
        profile([files[2], other], ["double"])


def test_texts_have_no_distance_from_numbers() -> None:
    batch = pa.record_batch({"x": ["a", "b"]})
    numbers = of_values("x", np.arange(3.0))
    with pytest.raises(UsageError, match="holds texts; its reference holds numbers"):
        profile([batch], reference={"x": numbers})
    with pytest.raises(WindlassError, match="categorical on one side"):
        compare(numbers, profile([batch])["x"])


def test_cells_of_different_grids_have_no_distance() -> None:
    values = np.random.default_rng(1).normal(size=3000)
    small = Limits(values=100, distinct=20)
    one = of_values("x", values, limits=small)
    reference = of_values("x", values + 1)
    other = profile([pa.record_batch({"x": values})], reference={"x": reference}, limits=small)["x"]
    with pytest.raises(WindlassError, match="different grids"):
        compare(one, other, "ks")
    for method in ("tvd", "speed"):
        with pytest.raises(UsageError, match="no distance"):
            compare(reference, other, method)  # type: ignore[arg-type]
