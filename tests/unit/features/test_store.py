"""Feast's definitions against the workload, and training frames through Feast against the plainest join."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from windlass.errors import UsageError
from windlass.features import asof, definitions, partitions, store


def plain_join(built: object, requests: pd.DataFrame) -> pd.DataFrame:
    """The definition, row by row: the newest row of the key that is not from later and has not expired."""
    columns: dict[str, list[float]] = {}
    for view in built.workload.views:
        rows = pd.concat(pd.read_parquet(p) for p in partitions.folder(built.settings, view.name).iterdir())
        by_key = dict(list(rows.sort_values("event_timestamp").groupby(view.entity)))
        for request in requests.to_dict("records"):
            mine, at = by_key.get(request[view.entity]), request["event_timestamp"]
            valid = None
            if mine is not None:
                times = mine["event_timestamp"]
                valid = mine[(times <= at) & (times + view.ttl >= at)]
            for name in view.features:
                value = float("nan") if valid is None or valid.empty else float(valid[name].iloc[-1])
                columns.setdefault(name, []).append(value)
    return pd.DataFrame(columns, index=requests.index)


def names(built: object) -> list[str]:
    return [feature for view in built.workload.views for feature in view.features]


def test_feast_and_the_direct_join_agree_with_the_definition(built: object) -> None:
    """Verify every value of some hundred requests, of both joins, bit by bit, among them unknown and expired keys."""
    requests = built.requests(150)
    # after the flights have ended a key's row is still valid for its time to live, to the microsecond, and then expired
    late = built.requests(40, seed=1)
    weather = pd.read_parquet(partitions.folder(built.settings, "origin_weather") / "2013-02.parquet")
    edge = weather["event_timestamp"].max() + timedelta(hours=6)
    late["event_timestamp"] = pd.Series([edge, edge + timedelta(microseconds=1)] * 20).dt.as_unit("us")
    requests = pd.concat([requests, late], ignore_index=True)
    expected = plain_join(built, requests)
    through_feast = store.training_frame(built.workload, built.settings, requests)
    direct = asof.lookup(built.workload, built.settings, requests)
    pd.testing.assert_frame_equal(through_feast[names(built)], expected, check_exact=True)
    pd.testing.assert_frame_equal(direct[names(built)], expected, check_exact=True)
    assert not np.isnan(expected["weather_temp"].iloc[-2])
    assert np.isnan(expected["weather_temp"].iloc[-1])
    assert expected["tail_dep_delay"].isna().any()


@pytest.mark.parametrize("join", [store.training_frame, asof.lookup])
def test_rows_come_back_as_they_were_asked(built: object, join: object) -> None:
    """Verify order, index, other columns, and that the same row asked twice comes back twice."""
    asked = built.requests(60)
    asked = pd.concat([asked, asked.head(20)])
    asked["note"] = np.arange(len(asked))
    asked.index = pd.Index(np.random.default_rng(0).permutation(1000)[: len(asked)])
    got = join(built.workload, built.settings, asked)
    pd.testing.assert_frame_equal(got[asked.columns], asked)
    twice = got[names(built)].to_numpy()
    np.testing.assert_array_equal(twice[:20], twice[-20:])


@pytest.mark.parametrize("join", [store.training_frame, asof.lookup])
def test_asking_for_nothing_gives_the_columns(built: object, join: object) -> None:
    """Verify an empty frame, which a month without flights asks for."""
    got = join(built.workload, built.settings, built.requests(5).head(0))
    assert list(got.columns)[-len(names(built)) :] == names(built)
    assert got.empty


def test_a_join_over_several_chunks_gives_what_one_gives(
    built: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that where the time is cut makes no difference."""
    requests = built.requests(120, seed=4)
    whole = store.training_frame(built.workload, built.settings, requests)
    monkeypatch.setattr(store, "CHUNK", timedelta(days=3))
    pd.testing.assert_frame_equal(store.training_frame(built.workload, built.settings, requests), whole)


def test_the_repository_agrees_with_the_workload(built: object) -> None:
    """Verify the definitions that are shipped."""
    assert definitions.disagreements(built.workload, definitions.read(built.settings)) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param('Field(name="tail_dep_delay", dtype=Float64),', "", "'tail_delays': features", id="feature"),
        pytest.param("ttl=timedelta(hours=6)", "ttl=timedelta(hours=7)", "'origin_weather': time to live", id="ttl"),
        pytest.param('name="flights_v1"', 'name="flights_v2"', "no FeatureService 'flights_v1'", id="service"),
        pytest.param("entities=[dest]", "entities=[origin]", "'dest_delays': entity", id="entity"),
        pytest.param('source=pushed("dest_delays")', 'source=rows("dest_delays")', "push source", id="not-pushed"),
        pytest.param('ready_hours", dtype=Float64', 'ready_hours", dtype=String', "must be Float64", id="type"),
        pytest.param("tail_delays, tail_turn", "tail_turn, tail_delays", "has the views", id="order"),
    ],
)  # fmt: skip
def test_a_definition_that_differs_is_named(
    built: object, tmp_path: Path, project: Path, old: str, new: str, message: str
) -> None:
    """Verify that each way to drift apart from the workload is found when the store is opened."""
    repository = tmp_path / "feature_repo"
    repository.mkdir()
    shutil.copy(project / "feature_repo" / "feature_store.yaml", repository)
    text = (project / "feature_repo" / "flights.py").read_text()
    text = text.replace("tail_delays,\n        tail_turn", "tail_delays, tail_turn")
    assert old in text
    (repository / "flights.py").write_text(text.replace(old, new))
    with pytest.raises(UsageError, match=message) as caught:
        definitions.agreed(built.workload, replace(built.settings, project=tmp_path))
    assert "feature_repo/flights.py" in str(caught.value)


def test_a_broken_definition_file_is_named(built: object, tmp_path: Path) -> None:
    """Verify that a fault in somebody's own file does not look like one of ours."""
    (tmp_path / "feature_repo").mkdir()
    (tmp_path / "feature_repo" / "mine.py").write_text("from feast import Nothing\n")
    with pytest.raises(UsageError, match=r"mine\.py cannot be read: ImportError"):
        definitions.read(replace(built.settings, project=tmp_path))


def test_an_argument_of_the_wrong_type_is_named_with_its_file(built: object, tmp_path: Path) -> None:
    """Verify what Feast's own checks would catch, were they not switched off for the time that they take."""
    (tmp_path / "feature_repo").mkdir()
    (tmp_path / "feature_repo" / "mine.py").write_text(
        "from feast import Entity, FeatureView, Field, FileSource, ValueType\n"
        "from feast.types import Float64\n"
        'view = FeatureView(name="mine", entities=[Entity(name="x", value_type=ValueType.STRING)], ttl=3600,\n'
        '    schema=[Field(name="f", dtype=Float64)], source=FileSource(path="x", timestamp_field="t"))\n'
    )
    with pytest.raises(UsageError, match=r"mine\.py: FeatureView 'mine' cannot be registered: .*timedelta"):
        definitions.read(replace(built.settings, project=tmp_path))


IMPORT = """
import os, sys, tempfile
from pathlib import Path
before = {n: v for n, v in os.environ.items() if n.startswith("PROMETHEUS")}
there = set(Path(tempfile.gettempdir()).iterdir())
DOOR
import prometheus_client.values as values
assert {n: v for n, v in os.environ.items() if n.startswith("PROMETHEUS")} == before
assert set(Path(tempfile.gettempdir()).iterdir()) == there
print(values.ValueClass.__name__)
"""


@pytest.mark.parametrize(
    "door",
    [
        pytest.param("from windlass.features import feast_import; feast_import.load()", id="load"),
        pytest.param("import windlass.features.wal_store", id="online-store"),
    ],
)
@pytest.mark.parametrize(
    ("own", "kept_in"),
    [pytest.param(False, "MutexValue", id="none"), pytest.param(True, "MmapedValue", id="own")],
)
def test_importing_feast_changes_nothing_for_children(
    tmp_path: Path, door: str, own: bool, kept_in: str
) -> None:
    """Verify that counters go to no folder of Feast's, and that a folder of somebody's own stays theirs."""
    environment = {k: v for k, v in os.environ.items() if not k.upper().startswith("PROMETHEUS")}
    (tmp_path / "tmp").mkdir()
    (tmp_path / "counters").mkdir()
    environment["TMPDIR"] = str(tmp_path / "tmp")
    if own:
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path / "counters")
    code = IMPORT.replace("DOOR", door)
    ran = subprocess.run(
        [sys.executable, "-c", code], check=False, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == kept_in


def test_a_service_that_names_its_views_by_text_is_left_to_feast(built: object, tmp_path: Path) -> None:
    """Verify that a form of Feast's own is no fault of the file: it is resolved when the store is applied."""
    (tmp_path / "feature_repo").mkdir()
    (tmp_path / "feature_repo" / "mine.py").write_text(
        "from feast import FeatureService\n"
        'by_name = FeatureService(name="by_name", features=["dest_delays"])\n'
    )
    found = definitions.read(replace(built.settings, project=tmp_path))
    assert "by_name" in found.services


def test_the_same_name_for_two_things_is_refused(built: object, tmp_path: Path) -> None:
    """Verify that a new model cannot quietly change what another's entity means."""
    (tmp_path / "feature_repo").mkdir()
    (tmp_path / "feature_repo" / "mine.py").write_text(
        "from feast import Entity, ValueType\n"
        'dest = Entity(name="dest", value_type=ValueType.INT64, description="a number")\n'
    )
    with pytest.raises(UsageError, match="Entity 'dest' is defined differently"):
        definitions.read(replace(built.settings, project=tmp_path))


def test_the_store_is_applied_once_and_again_after_a_change(
    built: object, tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that opening costs no apply while nothing changed, and that a lost registry is made again."""
    from feast import FeatureStore

    applied: list[int] = []
    real = FeatureStore.apply
    monkeypatch.setattr(
        FeatureStore, "apply", lambda self, objects: (applied.append(1), real(self, objects))[1]
    )
    shutil.copytree(
        project / "feature_repo", tmp_path / "feature_repo", ignore=shutil.ignore_patterns("__pycache__")
    )
    settings = replace(built.settings, home=tmp_path / "home", project=tmp_path)
    store.open_store(settings)
    store.open_store(settings)
    assert len(applied) == 1
    path = tmp_path / "feature_repo" / "flights.py"
    path.write_text(path.read_text().replace("airport of arrival", "where it lands"))
    assert store.open_store(settings).get_entity("dest").description == "where it lands"
    settings.feast_registry.unlink()
    store.open_store(settings)
    settings.online_db.unlink()
    store.open_store(settings)
    assert len(applied) == 4


def test_feasts_own_calls_read_the_same_rows(built: object, tmp_path: Path) -> None:
    """Verify that a person with nothing but Feast gets the same point-in-time values from the same repository."""
    opened = store.open_store(built.scratch(tmp_path / "home"))
    asked = built.requests(40)
    got = opened.get_historical_features(
        asked.assign(row=range(len(asked))), opened.get_feature_service("flights_v1")
    )
    rows = got.to_df().sort_values("row").reset_index(drop=True)
    expected = store.training_frame(built.workload, built.settings, asked)
    pd.testing.assert_frame_equal(rows[names(built)], expected[names(built)], check_exact=True)


def test_redis_addresses_are_put_in_feasts_words() -> None:
    """Verify each part of a redis address."""
    assert store._redis_address("redis://127.0.0.1:6379/2") == "127.0.0.1:6379,db=2"
    assert store._redis_address("redis://me:p%40ss@host/0") == "host:6379,db=0,username=me,password=p@ss"
    assert store._redis_address("rediss://host:7000") == "host:7000,db=0,ssl=true"


def test_times_to_live_without_rows_name_the_command_that_makes_them(built: object, tmp_path: Path) -> None:
    """Verify what a person reads who trains before anything was built."""
    settings = replace(built.settings, home=tmp_path)
    with pytest.raises(Exception, match="windlass features build"):
        store.training_frame(built.workload, settings, built.requests(5))
