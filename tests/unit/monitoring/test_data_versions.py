"""Versions of the training data: what passes becomes one, what fails becomes none, and DVC gives every one back."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import s3_server
from retrain_service import TOKEN, WAIT_S, Served

from components.validate import check_partition
from monitoring.data_versions import shared, tool, version
from monitoring.data_versions.signal import data, signal
from monitoring.data_versions.store import DataVersions
from monitoring.data_versions.version import Version
from pipelines import span
from windlass import catalog, data_version
from windlass.cli import app
from windlass.contract import RetrainPolicy, Workload
from windlass.errors import DataError, UsageError, WindlassError
from windlass.journal import read
from windlass.objectstore import ObjectStore
from windlass.settings import Settings, load

NOW = datetime(2024, 3, 1, tzinfo=UTC)
# environments of tests are made one after the other: the first may wait for another worker's
pytestmark = pytest.mark.timeout(1800)
WORKLOAD = """
from datetime import timedelta
from pathlib import Path
import pandas as pd
from windlass.contract import (
    Column, Estimator, Gates, Label, Range, RequestField, RetrainPolicy, Source, Workload)
from windlass.features import files

def prepare(frame):
    return frame.assign(at=pd.to_datetime(frame["at"], utc=True),
                        known_at=pd.to_datetime(frame["at"], utc=True) + pd.Timedelta(hours=1))

WORKLOAD = Workload(
    name="sales",
    source=Source(
        load=lambda path: files.read(path or Path(__file__).parent / "rows.parquet"),
        columns=(Column("id", "int"), Column("at", "timestamp"), Column("shop", "string"),
                 Column("size", "float", nullable=True, minimum=-100, maximum=100, max_null_share=0.3),
                 Column("outcome", "float", nullable=True)),
        key=("id",), event_time="at", minimum_rows=200),
    prepare=prepare, entities=("shop",), label=Label("outcome", "known_at"), views=(),
    request_fields=(RequestField("size"),), feature_service="sales_v1",
    estimators=(Estimator("linear", {"C": Range(0.1, 1)}),),
    gates=Gates(minimum_auc=0.6, slice_minimum_rows=1000, calibration_bound=0.3), evaluation_window=timedelta(days=5),
    retrain=RetrainPolicy(cooldown=timedelta(0)),
)
"""


def rows(first: str, days: int, start: int = 0, seed: int = 0) -> pd.DataFrame:
    """`days` days from `first` on, 60 rows a day; ids count from `start`."""
    rng = np.random.default_rng(seed)
    count = days * 60
    size = rng.normal(size=count)
    at = pd.date_range(first, periods=count, freq="24min", tz="UTC").as_unit("us")
    outcome = (rng.random(count) < 1 / (1 + np.exp(-2 * size))).astype(float)
    shop = rng.choice(["north", "south"], count)
    return pd.DataFrame(
        {"id": np.arange(start, start + count), "at": at, "shop": shop, "size": size, "outcome": outcome}
    )


JANUARY = rows("2024-01-01", 31)
FEBRUARY = rows("2024-02-01", 29, start=10_000, seed=1)


def check(workload: Workload, frame: pd.DataFrame, name: str) -> tuple[datetime, datetime]:
    volume = check_partition(workload, frame, name)
    return volume.oldest, volume.newest


def project_in(folder: Path) -> Settings:
    place = folder / "project" / "workloads" / "sales"
    place.mkdir(parents=True)
    (place / "workload.py").write_text(WORKLOAD)
    pd.concat([JANUARY, FEBRUARY], ignore_index=True).to_parquet(place / "rows.parquet", index=False)
    return Settings(home=folder / "home", project=folder / "project")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return project_in(tmp_path)


@pytest.fixture
def sales(settings: Settings) -> Workload:
    return catalog.load("sales", settings.project)


@pytest.fixture(scope="session")
def home_with_january(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose only version is January's."""
    made = project_in(tmp_path_factory.mktemp("january"))
    store = DataVersions(made, catalog.load("sales", made.project))
    store.add(lambda: JANUARY, "january.parquet", check, NOW)
    return made.home


@pytest.fixture
def january(settings: Settings, home_with_january: Path) -> Version:
    """The version that the home of the test has."""
    shutil.copytree(home_with_january, settings.home)
    head = version.head(settings, "sales")
    assert head is not None
    return head


@pytest.fixture
def add(settings: Settings, sales: Workload) -> Callable[..., Any]:
    def adding(frame: pd.DataFrame, name: str = "a file", **more: Any) -> Any:
        return DataVersions(settings, sales).add(lambda: frame, name, check, NOW, **more)

    return adding


def files(settings: Settings) -> list[str]:
    return sorted(p.name for p in (settings.home / "data" / "sales").glob("*"))


def test_a_partition_makes_a_version_and_the_same_rows_make_none(
    settings: Settings, add: Callable[..., Any]
) -> None:
    """Verify id, parent, rows and span; and that content decides, not the file it comes in."""
    first, second = add(JANUARY), add(FEBRUARY)
    again = add(FEBRUARY.copy())
    assert (first.new, second.new, again.new) == (True, True, False)
    assert again.version == second.version
    assert (second.version.parent, second.version.added) == (first.version.id, "2024-02")
    assert second.version.rows == len(JANUARY) + len(FEBRUARY)
    assert second.version.start.startswith("2024-01-01") and second.version.end.startswith("2024-02-29")
    pointer = (settings.home / "data" / "sales.dvc").read_text()
    assert f"md5: {second.version.id}.dir" in pointer, "the id is DVC's own"


def test_every_version_comes_back_from_the_remote_alone(
    settings: Settings, sales: Workload, add: Callable[..., Any]
) -> None:
    """Verify that with the working files and DVC's cache gone, an old version has its rows and says who it is."""
    first = add(JANUARY).version
    newest = add(FEBRUARY).version
    shutil.rmtree(settings.home / "data")
    store = DataVersions(settings, sales)
    for found, expected in ((first, JANUARY), (newest, pd.concat([JANUARY, FEBRUARY], ignore_index=True))):
        path = store.checkout(found)
        pd.testing.assert_frame_equal(sales.source.load(path), expected)
        assert data_version.of_file(path) == found.id


@pytest.mark.parametrize(
    ("poison", "said"),
    [
        pytest.param(lambda f: f.assign(size=f["size"] * 1000), r"'size' holds .*must lie in", id="a-swapped-unit"),
        pytest.param(lambda f: f.assign(size=f["size"].where(f.index % 2 == 0)), "'size' is empty in 50", id="nulls"),
        pytest.param(lambda f: f.drop(columns="shop"), "'shop' is missing", id="a-column-gone"),
        pytest.param(lambda f: f.assign(id=f["id"] // 2), "occurs twice", id="rows-doubled"),
        pytest.param(lambda f: f.assign(outcome=2.0), "label 'outcome' holds 2.0", id="a-label-that-is-none"),
        pytest.param(lambda f: f.assign(at="yesterday"), "must be timestamp", id="times-that-are-none"),
        pytest.param(lambda f: f.iloc[:0], "holds no row", id="empty"),
        pytest.param(lambda f: f.assign(id=f["id"] - 10_000), "are in partition 2024-01 already", id="old-rows-again"),
        pytest.param(lambda _: JANUARY.assign(size=0.5), "is there with other values", id="other-values-same-days"),
    ],
)  # fmt: skip
def test_a_poisoned_partition_never_enters(
    settings: Settings,
    january: Version,
    add: Callable[..., Any],
    poison: Callable[[pd.DataFrame], pd.DataFrame],
    said: str,
) -> None:
    """Verify the reason, that the version and its files are as before, and that the journal remembers the refusal."""
    before = files(settings)
    with pytest.raises(DataError, match=said):
        add(poison(FEBRUARY), "february.parquet")
    assert version.versions(settings, "sales") == (january,)
    assert files(settings) == before
    refused = version.refusal(settings, "sales")
    assert refused is not None and refused.file == "february.parquet"


def test_a_refusal_is_over_when_a_later_partition_passed(
    settings: Settings, january: Version, add: Callable[..., Any]
) -> None:
    """Verify that the newest partition decides."""
    with pytest.raises(DataError):
        add(FEBRUARY.assign(outcome=2.0))
    assert version.refusal(settings, "sales") is not None
    add(FEBRUARY)
    assert version.refusal(settings, "sales") is None


def test_a_refusal_is_over_when_what_is_there_is_offered_again(
    settings: Settings, january: Version, add: Callable[..., Any]
) -> None:
    """Verify the way out where the refused partition is given up: nothing would be trained until the next one."""
    with pytest.raises(DataError):
        add(FEBRUARY.assign(outcome=2.0))
    for _ in range(2):
        assert not add(JANUARY).new
        assert version.refusal(settings, "sales") is None
    assert version.versions(settings, "sales") == (january,)
    assert [r["event"] for r in read(version.path(settings))] == ["added", "refused", "repeated"]


def test_a_correction_takes_the_place_of_its_partition(
    settings: Settings, sales: Workload, january: Version, add: Callable[..., Any]
) -> None:
    """Verify --replace: the new values are in the new version, the old ones in the old; and back makes the old id."""
    old = january
    new = add(JANUARY.assign(size=0.5), replace=True).version
    store = DataVersions(settings, sales)
    assert set(sales.source.load(store.checkout(new))["size"]) == {0.5}
    pd.testing.assert_frame_equal(sales.source.load(store.checkout(old)), JANUARY)
    back = add(JANUARY, replace=True).version
    assert back.id == old.id
    assert [v.id for v in version.versions(settings, "sales")] == [new.id, old.id]


def test_what_a_killed_addition_left_behind_enters_no_version(
    settings: Settings, january: Version, add: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify each point at which it may die: the journal is the only one that says what is there."""
    for point in ("keep", "push"):
        with monkeypatch.context() as patch:

            def dying(self: Any, *words: Any, point: str = point, run: Any = tool.run) -> None:
                if words[0] == ("add" if point == "keep" else "push"):
                    raise KeyboardInterrupt
                run(settings, self.root, words)

            patch.setattr("monitoring.data_versions.repository.Repository._run", dying)
            with pytest.raises(KeyboardInterrupt):
                add(FEBRUARY)
        assert version.head(settings, "sales") == january
        assert len(files(settings)) == 2, "it did leave something behind"
    march = rows("2024-03-01", 2, start=50_000)
    assert [p.name for p in add(march).version.partitions] == ["2024-01", "2024-03-01..2024-03-02"]
    assert [p.name for p in add(FEBRUARY).version.partitions] == [
        "2024-01",
        "2024-02",
        "2024-03-01..2024-03-02",
    ]


def test_a_partition_that_somebody_changed_is_not_taken_for_what_was_added(
    settings: Settings, january: Version, add: Callable[..., Any]
) -> None:
    """Verify that the next addition names the file, and that it is restored once the file is gone."""
    (path,) = (settings.home / "data" / "sales").glob("*.parquet")
    good = path.read_bytes()
    path.unlink()
    FEBRUARY.to_parquet(path)
    with pytest.raises(WindlassError, match=f"{path} is not what was added"):
        add(rows("2024-03-01", 2, start=50_000))
    path.unlink()
    add(rows("2024-03-01", 2, start=50_000))
    assert path.read_bytes() == good


def test_a_remote_that_is_down_leaves_the_version_unmade(
    settings: Settings, january: Version, add: Callable[..., Any]
) -> None:
    """Verify DVC's own words in the error, and that the same command succeeds once the remote is there."""
    remote = settings.home / "data-remote"
    remote.rename(settings.home / "elsewhere")
    remote.write_text("a file, no folder")
    with pytest.raises(WindlassError, match=r"`dvc push` in .* failed: .+"):
        add(FEBRUARY)
    assert version.versions(settings, "sales") == (january,)
    remote.unlink()
    (settings.home / "elsewhere").rename(remote)
    assert add(FEBRUARY).new


def test_versions_are_found_by_how_they_begin(
    settings: Settings, january: Version, add: Callable[..., Any]
) -> None:
    """Verify the newest by default, a prefix, and the remedy where there is none."""
    with pytest.raises(UsageError, match="windlass data add"):
        version.find(settings, "stocks", None)
    first, second = january, add(FEBRUARY).version
    assert version.find(settings, "sales", None) == second
    assert version.find(settings, "sales", first.id[:8]) == first
    for unknown in ("ffff0000", first.id[:2]):
        with pytest.raises(UsageError, match="windlass data list sales"):
            version.find(settings, "sales", unknown)


@pytest.mark.parametrize(
    ("oldest", "newest", "name"),
    [
        pytest.param("2024-02-03T00:00", "2024-02-03T23:59", "2024-02-03", id="a-day"),
        pytest.param("2024-02-01T05:00", "2024-02-29T20:00", "2024-02", id="a-leap-february"),
        pytest.param("2024-02-01T05:00", "2024-02-28T20:00", "2024-02-01..2024-02-28", id="all-but-a-day"),
        pytest.param("2023-12-31T05:00", "2024-01-01T20:00", "2023-12-31..2024-01-01", id="over-a-year"),
    ],
)
def test_a_partition_is_named_by_its_days(oldest: str, newest: str, name: str) -> None:
    """Verify the names."""
    ends = (datetime.fromisoformat(t).replace(tzinfo=UTC) for t in (oldest, newest))
    assert version.partition_name(*ends) == name


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real S3 endpoint on loopback, with the bucket `versions`."""
    with s3_server.running() as address:
        s3_server.make_bucket(address, "versions", monkeypatch)
        yield address


def test_another_machine_has_the_versions_through_s3(
    settings: Settings, sales: Workload, bucket: str, tmp_path: Path
) -> None:
    """Verify that a fresh home with the same bucket lists the versions, reads one, and goes on from the newest."""
    here = Settings(settings.home, settings.project, object_store="s3://versions/one", s3_endpoint=bucket)
    there = Settings(
        tmp_path / "other", settings.project, object_store="s3://versions/one", s3_endpoint=bucket
    )
    first = DataVersions(here, sales).add(lambda: JANUARY, "january", check, NOW).version
    assert not (settings.home / "data-remote").exists()
    store = DataVersions(there, sales)
    assert store.known() == (first,)
    pd.testing.assert_frame_equal(sales.source.load(store.checkout(first)), JANUARY)
    second = store.add(lambda: FEBRUARY, "february", check, NOW).version
    assert second.parent == first.id
    named = signal(second, NOW).detail
    assert data_version.of_file(data(here, sales, named)) == second.id, "a run here finds what was made there"
    assert DataVersions(here, sales).known() == (first, second)
    third = store.add(lambda: rows("2024-03-01", 5, start=20_000), "march", check, NOW).version
    assert span.of(here, sales, {}).data_version == third.id, (
        "and a drift here is answered by the newest data"
    )


def test_a_pod_without_dvc_reads_versions_from_the_bucket_and_holds_them_to_their_md5(
    settings: Settings, sales: Workload, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify a training step without DVC: it finds the newest version, fetches it, and refuses another file."""
    here = Settings(settings.home, settings.project, object_store="s3://versions/pod", s3_endpoint=bucket)
    made = DataVersions(here, sales).add(lambda: JANUARY, "january", check, NOW).version
    pod = replace(here, home=tmp_path / "pod", dvc="/nowhere/dvc")
    for name, value in {
        "WINDLASS_HOME": str(pod.home),
        "WINDLASS_PROJECT": str(pod.project),
        "WINDLASS_OBJECT_STORE": "s3://versions/pod",
        "WINDLASS_S3_ENDPOINT": bucket,
        "WINDLASS_DVC": "/nowhere/dvc",
    }.items():
        monkeypatch.setenv(name, value)
    asked = span.asked("sales", "", "", "")
    assert asked == span.Asked(made.start[:10], made.end[:10], f"data-version:{made.id}")
    path = Path(span.file_of("sales", asked.data))
    assert path.is_relative_to(pod.home) and data_version.of_file(path) == made.id
    pd.testing.assert_frame_equal(sales.source.load(path), JANUARY)
    path.unlink()
    (partition,) = made.partitions
    key = f"dvc/files/md5/{partition.md5[:2]}/{partition.md5[2:]}"
    ObjectStore(here).write(key, b"somebody else's")
    with pytest.raises(WindlassError, match=f"instead of {partition.md5}"):
        span.file_of("sales", asked.data)
    ObjectStore(here).remove(key)
    with pytest.raises(WindlassError, match="cannot download"):
        span.file_of("sales", asked.data)


def test_two_machines_that_add_at_once_do_not_leave_each_other_s_rows_out(
    settings: Settings, sales: Workload, january: Version, bucket: str, tmp_path: Path
) -> None:
    """Verify that who is second is told so, and goes on from what the other machine made."""
    here = Settings(settings.home, settings.project, object_store="s3://versions/two", s3_endpoint=bucket)
    theirs = replace(january, id="0" * 32, parent=january.id)

    def meanwhile() -> pd.DataFrame:
        shared.publish(replace(here, home=tmp_path / "other"), theirs)
        return FEBRUARY

    with pytest.raises(WindlassError, match="another machine has added"):
        DataVersions(here, sales).add(meanwhile, "february", check, NOW)
    assert version.versions(here, "sales") == (january, theirs)


def test_an_executable_that_is_none_is_named(settings: Settings) -> None:
    """Verify WINDLASS_DVC: read from the environment, looked for on PATH, and its absence said."""
    assert load({"WINDLASS_DVC": "/opt/dvc"}).dvc == "/opt/dvc"
    named = Settings(settings.home, settings.project, dvc=str(settings.home / "nowhere"))
    with pytest.raises(UsageError, match="WINDLASS_DVC"):
        tool.executable(named)
    python = Settings(settings.home, settings.project, dvc=sys.executable)
    assert tool.executable(python) == Path(sys.executable)


def test_dvc_is_told_to_report_nothing_and_reads_no_stranger_s_settings(tmp_path: Path) -> None:
    """Verify the environment it is run with, seen by a program in its place."""
    spy = tmp_path / "dvc"
    spy.write_text(
        f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps(dict(os.environ)), file=sys.stderr)\nsys.exit(1)\n"
    )
    spy.chmod(0o755)
    settings = Settings(tmp_path / "home", tmp_path, dvc=str(spy))
    with pytest.raises(WindlassError) as failed:
        tool.run(settings, tmp_path, ["push"])
    text = str(failed.value)
    seen = json.loads(text[text.index("{") :])
    assert (seen["DVC_NO_ANALYTICS"], seen["ITERATIVE_DO_NOT_TRACK"]) == ("1", "1")
    assert seen["DVC_GLOBAL_CONFIG_DIR"].startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param(["--from", "2024-01-30", "--to", "2024-02-02"], 0, "2024-01-30..2024-02-02", id="days"),
        pytest.param(
            ["--from", "2025-01-01", "--to", "2025-01-02"], 2, "has no row between", id="no-row-then"
        ),
        pytest.param([], 2, "Give --from and --to, or a file", id="nothing-named"),
        pytest.param(["rows.csv", "--to", "2024-02-02"], 2, "a file is taken whole", id="both-named"),
        pytest.param(["rows.csv"], 2, "there is no such file", id="no-file"),
    ],
)
def test_days_of_the_built_in_data_are_a_partition_too(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    said: str,
) -> None:
    """Verify which rows are taken, and each request that cannot be meant."""
    monkeypatch.setenv("WINDLASS_HOME", str(settings.home))
    monkeypatch.setenv("WINDLASS_PROJECT", str(settings.project))
    assert app.run(["data", "add", "sales", *words, "--no-signal", "--json"]) == code
    out = json.loads(capsys.readouterr().out)
    if code:
        assert said in out["error"]["message"]
        assert version.refusal(settings, "sales") is None, (
            "what cannot be meant is no partition that was refused"
        )
        return
    assert (out["added"], out["rows"]) == (said, 4 * 60)


def test_a_version_that_nobody_was_told_of_is_told_of_when_its_rows_come_again(
    settings: Settings, january: Version, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify that a command killed between the version and its signal is made good by the same command, once."""
    monkeypatch.setenv("WINDLASS_HOME", str(settings.home))
    monkeypatch.setenv("WINDLASS_PROJECT", str(settings.project))
    (settings.project / "workloads" / "sales" / "retrain.yaml").write_text(
        "kind: RetrainPolicy\nspec: {workload: sales, signals: [manual]}\n"
    )
    file = settings.project / "january.parquet"
    JANUARY.to_parquet(file, index=False)
    told = []
    for _ in range(2):
        assert app.run(["data", "add", "sales", str(file), "--json"]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert [out["new"] for out in told] == [False, False]
    assert told[0]["signal"]["rule"] == "kind" and told[1]["signal"] is None
    (record,) = [r for r in read(settings.journal_dir / "triggers.jsonl") if r["event"] == "refused"]
    assert record["cause"] == f"newData/{january.id}"


def test_a_version_is_told_to_the_trigger_that_runs_elsewhere(
    settings: Settings,
    january: Version,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Verify that it decides, by its own policy and journal, and that nothing is decided or trained here."""
    monkeypatch.setenv("WINDLASS_HOME", str(settings.home))
    monkeypatch.setenv("WINDLASS_PROJECT", str(settings.project))
    place = Served(tmp_path / "elsewhere", RetrainPolicy())
    (tmp_path / "policy.yaml").write_text("kind: RetrainPolicy\nspec: {workload: sales, signals: [manual]}\n")
    file = settings.project / "january.parquet"
    JANUARY.to_parquet(file, index=False)
    command = [sys.executable, "-m", "windlass.local.retraining", "sales", "--port", str(place.port),
               "--home", str(place.home), "--policy", str(tmp_path / "policy.yaml"),
               "--token-file", str(place.home / "token")]  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + WAIT_S
        while True:
            with contextlib.suppress(OSError):  # it does not listen yet
                if place.ask("GET", "/ready")[0] == 200:
                    break
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.02)
        monkeypatch.setenv("WINDLASS_TRIGGER_URL", f"http://127.0.0.1:{place.port}")
        monkeypatch.setenv("WINDLASS_TRIGGER_TOKEN", TOKEN)
        assert app.run(["data", "add", "sales", str(file), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
    finally:
        process.kill()
        process.wait()
    assert (told["signal"]["accepted"], told["signal"]["rule"], told["run"]) == (False, "kind", None)
    (record,) = [r for r in read(place.home / "journal" / "triggers.jsonl") if r["event"] == "refused"]
    assert record["cause"] == f"newData/{january.id}" and record["detail"]["data_version"] == january.id
    assert not (settings.journal_dir / "triggers.jsonl").exists()
    # where it is not there to hear, it is said, and the same command tells it
    assert app.run(["data", "add", "sales", str(file), "--json"]) == 1
    assert "does not answer" in json.loads(capsys.readouterr().out)["error"]["message"]


@pytest.mark.slow
def test_new_data_retrains_on_its_version_and_the_model_says_so(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify the chain: file -> version -> signal -> run on that version's rows -> registered model's tag."""
    from components.registry import Registry

    monkeypatch.setenv("WINDLASS_HOME", str(settings.home))
    monkeypatch.setenv("WINDLASS_PROJECT", str(settings.project))
    file = tmp_path / "january.csv"
    JANUARY.assign(at=JANUARY["at"].map(pd.Timestamp.isoformat)).to_csv(file, index=False)

    def windlass(*words: str) -> tuple[int, dict[str, Any]]:
        code = app.run([*words, "--json"])
        return code, json.loads(capsys.readouterr().out)

    code, added = windlass("data", "add", "sales", str(file))
    assert code == 0, added
    assert added["signal"]["accepted"]
    assert added["run"]["data_version"] == added["version"]
    info = Registry(settings).info("sales", added["run"]["version"])
    assert info.tags["data_version"] == added["version"]
    accepted = next(r for r in read(settings.journal_dir / "triggers.jsonl") if r["event"] == "accepted")
    assert (accepted["kind"], accepted["cause"]) == ("newData", f"newData/{added['version']}")
    code, again = windlass("data", "add", "sales", str(file))
    assert (code, again["new"], again["signal"]) == (0, False, None)
    (tmp_path / "bad.csv").write_text(file.read_text().replace("north", ""))
    code, refused = windlass("data", "add", "sales", str(tmp_path / "bad.csv"))
    assert (code, refused["error"]["type"]) == (2, "DataError")
    code, listed = windlass("data", "list", "sales")
    assert [v["version"] for v in listed["versions"]] == [added["version"]]
    assert "'shop' is empty" in listed["refused"]["reason"]
    code, out = windlass("data", "checkout", "sales", added["version"][:8])
    assert data_version.of_file(Path(out["file"])) == added["version"]
    assert windlass("data", "show", "sales")[1]["partitions"][0]["name"] == "2024-01"


def test_a_signal_names_the_version_that_its_run_reads(
    settings: Settings, sales: Workload, january: Version, add: Callable[..., Any]
) -> None:
    """Verify detail and file, also where a newer version has come since; and no file for other signals."""
    told = signal(january, NOW)
    add(FEBRUARY)
    assert (told.detail["from"], told.detail["to"], told.detail["rows"]) == (
        "2024-01-01",
        "2024-01-31",
        january.rows,
    )
    assert data_version.of_file(data(settings, sales, told.detail)) == january.id
    assert data(settings, sales, {"from": "2024-01-01"}) is None
