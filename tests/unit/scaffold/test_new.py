"""`windlass new`: what it makes of a file, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from windlass import catalog, contract
from windlass.cli import app
from windlass.features import columns, files

Change = Callable[[pd.DataFrame], pd.DataFrame]

ARGUMENTS = ["--label", "returned", "--time", "at", "--entity", "Shop"]


def orders(rows: int = 400) -> pd.DataFrame:
    """A small file with a column of every kind."""
    draw = np.random.default_rng(3)
    price = draw.gamma(3, 10, rows).round(2)
    returned = draw.integers(0, 2, rows)
    return pd.DataFrame(
        {
            "order": np.arange(rows) + 100,
            "Shop": draw.integers(1, 9, rows),
            "at": pd.date_range("2026-01-01", periods=rows, freq="97min").strftime("%Y-%m-%d %H:%M:%S"),
            "price": np.where(draw.random(rows) < 0.1, np.nan, price),
            "colour": draw.choice(["red", "green"], rows),
            "member": draw.random(rows) < 0.5,
            "note": [f"note {i}" for i in range(rows)],
            "refund": price * returned,
            "returned": returned,
        }
    )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    return tmp_path


def written(project: Path) -> set[str]:
    return {
        str(p.relative_to(project))
        for p in project.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_becomes_a_workload_that_loads(
    kind: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify what is inferred, that the engine finds it, and that its features are as the contract says."""
    frame = orders()
    path = project / f"orders.{kind}"
    frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
    assert app.run(["new", "orders", "--data", str(path), *ARGUMENTS, "--ignore", "refund", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["request_fields"] == ["price", "member", "colour"]
    assert answer["features"] == {
        "orders_shop_history": ["shop_rows", "shop_returned_rate", "shop_price_mean", "shop_member_mean"]
    }
    assert set(answer["left_out"]) == {"refund", "order", "note"}
    assert written(project) == {
        path.name,
        "workloads/orders/__init__.py",
        "workloads/orders/workload.py",
        "workloads/orders/README.md",
        "feature_repo/orders.py",
    }
    workload = catalog.load("orders", project)
    assert contract.check(workload) == []
    prepared = workload.prepare(workload.source.load(None))
    assert set(prepared["shop"]) == {str(n) for n in range(1, 9)}
    view = workload.views[0].compute(prepared)
    assert list(view.columns) == ["shop", "event_timestamp", *workload.views[0].features]


def test_the_engine_accepts_what_it_was_made_from(project: Path) -> None:
    """Verify that the inferred schema lets its own file pass validation, nulls and ranges included."""
    from components.validate import check_source

    path = project / "orders.csv"
    orders().to_csv(path, index=False)
    assert app.run(["new", "orders", "--data", str(path), *ARGUMENTS]) == 0
    workload = catalog.load("orders", project)
    check_source(workload, workload.source.load(None), "orders.csv")


def test_feast_and_the_workload_agree(project: Path) -> None:
    """Verify that the generated definitions are what the workload states."""
    from windlass import settings
    from windlass.features import definitions

    path = project / "orders.csv"
    orders().to_csv(path, index=False)
    assert app.run(["new", "orders", "--data", str(path), *ARGUMENTS]) == 0
    loaded = settings.load()
    workload = catalog.load("orders", project)
    assert definitions.disagreements(workload, definitions.read(loaded, project)) == []


def test_a_key_may_be_shared_with_another_model(project: Path) -> None:
    """Verify that a workload about carriers stands beside the shipped one, which describes them in its own words."""
    from windlass import settings
    from windlass.features import definitions

    orders().rename(columns={"Shop": "carrier"}).to_csv("orders.csv", index=False)
    arguments = ["--label", "returned", "--time", "at", "--entity", "carrier"]
    assert app.run(["new", "orders", "--data", "orders.csv", *arguments]) == 0
    defined = definitions.read(settings.load(), project)
    for name in ("orders", "flights"):
        assert definitions.disagreements(catalog.load(name, project), defined) == []


def test_a_column_that_knows_the_outcome_is_pointed_out(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify the warning on a field that alone orders the outcomes: it was filled in afterwards."""
    orders().to_csv("orders.csv", index=False)
    assert app.run(["new", "orders", "--data", "orders.csv", *ARGUMENTS, "--json"]) == 0
    captured = capsys.readouterr()
    assert set(json.loads(captured.out)["suspicious"]) == {"refund"}
    assert "--ignore refund" in captured.err


def test_a_label_in_words_needs_to_be_told_which_is_one(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify --positive, and that a missing outcome stays missing."""
    frame = orders().assign(returned=lambda f: f["returned"].map({0: "kept", 1: "sent back"}))
    frame.loc[:9, "returned"] = None
    frame.to_csv("orders.csv", index=False)
    assert app.run(["new", "orders", "--data", "orders.csv", *ARGUMENTS]) == 2
    assert "--positive" in capsys.readouterr().err
    assert app.run(["new", "orders", "--data", "orders.csv", *ARGUMENTS, "--positive", "sent back"]) == 0
    workload = catalog.load("orders", project)
    prepared = workload.prepare(workload.source.load(None))
    assert prepared["returned"].isna().sum() == 10
    assert set(prepared["returned"].dropna()) == {0.0, 1.0}
    assert prepared["returned"].sum() == (frame["returned"] == "sent back").sum()


@pytest.mark.parametrize(
    ("change", "arguments", "said"),
    [
        pytest.param({}, ["orders", "--data", "nowhere.csv", *ARGUMENTS], "there is no such file", id="no-file"),
        pytest.param(
            {"change": lambda f: f.drop(columns="Shop")}, None, "did you mean 'Stop'?", id="missing-column"
        ),
        pytest.param({"change": lambda f: f.head(0)}, None, "holds no row", id="header-only"),
        pytest.param({"change": lambda f: f.head(50)}, None, "at least 200", id="too-few-rows"),
        pytest.param({"text": ""}, None, "is empty", id="empty-file"),
        pytest.param({"text": "a,b\n1\n"}, None, "cannot be read as CSV", id="torn-file"),
        pytest.param({"change": lambda f: f.assign(returned=3)}, None, "not 0 and 1", id="label-with-one-number"),
        pytest.param({"change": lambda f: f.assign(returned=1)}, None, "nothing to tell apart", id="label-all-ones"),
        pytest.param(
            {"change": lambda f: f.assign(returned=f["price"])}, None, "not 0 and 1", id="label-is-a-measurement"
        ),
        pytest.param({"change": lambda f: f.assign(at="soon")}, None, "is no time", id="time-is-no-time"),
        pytest.param({"change": lambda f: f.assign(at=17)}, None, "holds numbers", id="time-is-a-number"),
        pytest.param(
            {"change": lambda f: f.assign(at=f["at"].where(f.index != 5))}, None, "in row 5", id="time-is-missing-once"
        ),
        pytest.param({"change": lambda f: f.assign(Shop=1.5)}, None, "holds 1.5", id="entity-with-decimals"),
        pytest.param(
            {"change": lambda f: f.assign(PRICE=1.0 * f.index)}, None, "would both be called", id="names-collide"
        ),
        pytest.param(
            {"change": lambda f: f.assign(Score=1.0 * f.index)}, None, "taken by the engine", id="the-models-own-score"
        ),
        pytest.param(
            {}, ["orders", "--data", "orders.csv", "--label", "Shop", "--time", "at", "--entity", "Shop"],
            "both --entity and --label", id="entity-is-the-label",
        ),
        pytest.param(
            {}, ["orders", "--data", "orders.csv", "--label", "returned", "--time", "at", "--entity", "at"],
            "both --entity and --time", id="entity-is-the-time",
        ),
        pytest.param({}, ["my-orders", "--data", "orders.csv", *ARGUMENTS], "cannot be a folder", id="dash"),
        pytest.param({}, ["class", "--data", "orders.csv", *ARGUMENTS], "cannot be a folder", id="name-is-a-keyword"),
        pytest.param({}, ["../x", "--data", "orders.csv", *ARGUMENTS], "cannot be a folder", id="name-is-a-path"),
        pytest.param({}, ["flights", "--data", "orders.csv", *ARGUMENTS], "exists already", id="name-is-shipped"),
        pytest.param(
            {}, ["orders", "--data", "orders.csv", *ARGUMENTS, "--label-delay", "0d"], "longer than 0", id="delay"
        ),
        pytest.param(
            {}, ["orders", "--data", "orders.csv", *ARGUMENTS, "--label-delay", "soon"], "not a duration", id="odd"
        ),
        pytest.param(
            {}, ["orders", "--data", "orders.csv", *ARGUMENTS, "--positive", "7"], "no such value", id="absent"
        ),
        pytest.param(
            {}, ["orders", "--data", "orders.csv", *ARGUMENTS, "--ignore", "Shop"], "both used and", id="ignored-entity"
        ),
        pytest.param({}, ["orders", "--data", "orders.csv"], "are required", id="arguments-missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_nothing_written(
    change: dict[str, object],
    arguments: list[str] | None,
    said: str,
    project: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Verify exit code 2, a message that names the fault, and that the project folder is as it was."""
    frame = orders().rename(columns={"note": "Stop"})
    altered: Change = change.get("change", lambda f: f)  # type: ignore[assignment]
    altered(frame).to_csv("orders.csv", index=False)
    if "text" in change:
        Path("orders.csv").write_text(str(change["text"]))
    before = written(project)
    assert app.run(["new", *(arguments or ["orders", "--data", "orders.csv", *ARGUMENTS])]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert written(project) == before
    assert not [p for p in project.glob("workloads/*") if p.name != "__pycache__"]


def test_an_existing_workload_is_not_touched(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Verify that a second `new` of the same name changes nothing."""
    orders().to_csv("orders.csv", index=False)
    assert app.run(["new", "orders", "--data", "orders.csv", *ARGUMENTS]) == 0
    mine = project / "workloads/orders/workload.py"
    mine.write_text(mine.read_text() + "# mine\n")
    assert app.run(["new", "orders", "--data", "orders.csv", *ARGUMENTS]) == 2
    assert "exists already" in capsys.readouterr().err
    assert mine.read_text().endswith("# mine\n")


def test_a_new_that_was_killed_halfway_can_be_repeated(project: Path) -> None:
    """Verify that feature definitions without their workload do not stand in the way, but somebody's own file does."""
    orders().to_csv("orders.csv", index=False)
    arguments = ["new", "orders", "--data", "orders.csv", *ARGUMENTS]
    assert app.run(arguments) == 0
    shutil.rmtree(project / "workloads/orders")
    assert app.run(arguments) == 0
    shutil.rmtree(project / "workloads/orders")
    (project / "feature_repo/orders.py").write_text("mine = 1\n")
    assert app.run(arguments) == 2
    assert (project / "feature_repo/orders.py").read_text() == "mine = 1\n"


def test_keys_are_the_same_text_however_the_file_held_them() -> None:
    """Verify that 7, 7.0 beside a gap, and "7" are one key, as a request writes it."""
    assert columns.key(pd.Series([7, 8])).tolist() == ["7", "8"]
    assert columns.key(pd.Series([7.0, np.nan])).tolist() == ["7", "unknown"]
    assert columns.key(pd.Series(["7", None])).tolist() == ["7", "unknown"]


def test_times_are_taken_to_be_utc_where_they_name_no_zone() -> None:
    """Verify both kinds of text, and days."""
    times = columns.utc(pd.Series(["2026-01-01 12:00:00", "2026-01-01T14:00:00+02:00", "2026-01-01"]))
    assert times.dt.strftime("%d %H").tolist() == ["01 12", "01 12", "01 00"]
    assert str(times.dtype) == "datetime64[us, UTC]"


def test_a_parquet_file_may_hold_what_csv_cannot(tmp_path: Path) -> None:
    """Verify that truth values, decimals, categories and days come out as numbers, text and times."""
    import pyarrow as pa
    import pyarrow.parquet

    table = pa.table(
        {
            "flag": pa.array([True, None]),
            "amount": pa.array([1, 2], pa.decimal128(10, 2)),
            "kind": pa.array(["a", "b"]).dictionary_encode(),
            "day": pa.array([0, 1], pa.date32()),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    frame = files.read(tmp_path / "t.parquet")
    assert frame["flag"].tolist()[0] == 1.0
    assert frame["flag"].isna().tolist() == [False, True]
    assert frame["amount"].tolist() == [1.0, 2.0]
    assert frame["kind"].tolist() == ["a", "b"]
    assert frame["day"].dt.day.tolist() == [1, 2]
