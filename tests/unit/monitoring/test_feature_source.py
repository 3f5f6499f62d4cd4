"""Features of an own workload are of its newest data version: on another machine its file is not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import s3_server

from pipelines import span
from windlass import catalog
from windlass.cli import app
from windlass.settings import load

Windlass = Callable[..., tuple[int, dict[str, Any]]]
DAY = 120


def orders(first: str, days: int, seed: int) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    count = days * DAY
    return pd.DataFrame(
        {
            "shop": draw.choice(["north", "south"], count),
            "at": pd.date_range(first, periods=count, freq="12min").strftime("%Y-%m-%d %H:%M:%S"),
            "price": draw.gamma(3, 10, count).round(2),
            "returned": draw.integers(0, 2, count),
        }
    )


JANUARY = orders("2026-01-01", 31, 1)
FEBRUARY = orders("2026-02-01", 28, 2)


@pytest.fixture
def windlass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Windlass:
    """The command line, in a project whose workload was begun from a file outside of it."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    monkeypatch.setenv("WINDLASS_PROJECT", str(project))
    monkeypatch.setenv("WINDLASS_HOME", str(tmp_path / "here"))

    def run(*words: str | Path) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()  # the S3 server says that it starts
        code = app.run([*map(str, words), "--json"])
        return code, json.loads(capsys.readouterr().out)

    for name, frame in {"january": JANUARY, "february": FEBRUARY}.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    columns = ("--label", "returned", "--time", "at", "--entity", "shop")
    code, said = run("new", "web_orders", "--data", tmp_path / "january.csv", *columns)
    assert code == 0, said
    return run


def add(windlass: Windlass, file: Path) -> str:
    code, said = windlass("data", "add", "web_orders", file, "--no-signal")
    assert code == 0, said
    return str(said["version"])


def test_a_job_without_the_file_computes_features_of_the_newest_version(
    windlass: Windlass, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify, with another home, no DVC and no file, that S3 gives the newest version, which training takes too."""
    with s3_server.running() as address:
        s3_server.make_bucket(address, "features", monkeypatch)
        monkeypatch.setenv("WINDLASS_OBJECT_STORE", "s3://features/team")
        monkeypatch.setenv("WINDLASS_S3_ENDPOINT", address)
        first = add(windlass, tmp_path / "january.csv")
        (tmp_path / "january.csv").unlink()
        for variable, value in {"WINDLASS_HOME": tmp_path / "pod", "WINDLASS_DVC": "/nowhere/dvc"}.items():
            monkeypatch.setenv(variable, str(value))
        code, built = windlass("features", "build", "web_orders")
        assert (code, built["data_version"], built["reused"]) == (0, first, False)
        code, again = windlass("features", "build", "web_orders")
        assert (code, again) == (0, built | {"reused": True})

        monkeypatch.setenv("WINDLASS_HOME", str(tmp_path / "here"))
        monkeypatch.delenv("WINDLASS_DVC")
        second = add(windlass, tmp_path / "february.csv")
        for variable, value in {"WINDLASS_HOME": tmp_path / "pod", "WINDLASS_DVC": "/nowhere/dvc"}.items():
            monkeypatch.setenv(variable, str(value))
        code, newer = windlass("features", "build", "web_orders")
        assert (code, newer["data_version"]) == (0, second)
        assert sum(newer["rows"].values()) > sum(built["rows"].values())
        configured = load()
        assert span.of(configured, catalog.load("web_orders", configured.project), {}).data_version == second
    months = {p.stem for p in configured.offline_dir.rglob("*.parquet")}
    assert months >= {"2026-01", "2026-02"}
    kept = [p.stem for p in (configured.home / "cache" / "data-versions").rglob("*.parquet")]
    assert kept == [second], "a job's volume holds one version's rows"


def test_what_is_named_goes_before_the_newest_version(windlass: Windlass, tmp_path: Path) -> None:
    """Verify --data and --own-source beside a version, and that a file that holds a version says which."""
    code, own = windlass("features", "build", "web_orders")
    assert (code, own["data_version"]) == (0, None)
    version = add(windlass, tmp_path / "february.csv")
    code, newest = windlass("features", "build", "web_orders")
    assert (code, newest["data_version"]) == (0, version)
    assert newest["content_hash"] != own["content_hash"]
    code, again = windlass("features", "build", "web_orders", "--own-source")
    assert (code, again["data_version"], again["content_hash"]) == (0, None, own["content_hash"])
    _, out = windlass("data", "checkout", "web_orders", version)
    code, named = windlass("features", "build", "web_orders", "--data", out["file"])
    assert (code, named["data_version"], named["content_hash"]) == (0, version, newest["content_hash"])
    code, file = windlass("features", "build", "web_orders", "--data", tmp_path / "january.csv")
    assert (code, file["data_version"], file["content_hash"]) == (0, None, own["content_hash"])


def test_without_a_version_and_a_file_the_way_out_is_named(windlass: Windlass, tmp_path: Path) -> None:
    """Verify that a job that can read nothing says what to do."""
    (tmp_path / "january.csv").unlink()
    code, said = windlass("features", "build", "web_orders")
    assert code == 2
    assert "there is no such file" in said["error"]["message"]
    assert "`windlass data add web_orders FILE`" in said["error"]["message"]
