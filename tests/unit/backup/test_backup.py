"""A backup is of one moment, is refused when it was changed, and comes back whole."""

from __future__ import annotations

import gzip
import json
import sqlite3
import tarfile
import threading
from contextlib import closing
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
import s3_server

from windlass import atomic
from windlass.backup import archive, contents, restoring, taking
from windlass.backup.cluster import Exported
from windlass.cli import app
from windlass.errors import UsageError, WindlassError
from windlass.local import state
from windlass.local.lock import PlatformLock
from windlass.settings import Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def settings(home: Path) -> Settings:
    return Settings(home=home, project=home.parent)


def database(home: Path) -> Path:
    path = home / "registry" / "mlflow.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE experiments (artifact_location TEXT)")
        connection.execute("CREATE TABLE registered_model_aliases (name TEXT, alias TEXT, version INTEGER)")
        connection.execute("INSERT INTO experiments VALUES (?)", (f"{home}/registry/artifacts",))
        connection.execute("INSERT INTO registered_model_aliases VALUES ('m', 'champion', 2)")
        connection.execute("CREATE TABLE promotions (number INTEGER)")
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    for path, text in {
        "journal/releases/m/0001-a.jsonl": '{"seq": 1}\n{"seq": 2}\n{"torn',
        "models/m/2/serving.json": "{}",
        "models/m/2/model.onnx": "onnx",
        "events/predictions/model=m/date=2026-01-01/g1.parquet": "parquet",
        "logs/feedback.jsonl": '{"label": 1}\n',
        "run/platform.json": "{}",
        "run/releases/positions/m/a.json": "{}",
        "cache/steps/x/model.json": "{}",
        "features/online.db": "-",
        "features/online.db-wal": "-",
        "features/.m.lock": "",
        "features/.registry.db.ab12cd_9": "half",
        "report.html": "<p>",
        "before-restore-20250101T000000Z/old": "x",
        "data/.dvc/config": "[core]",
    }.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)
    (home / "keys").mkdir()
    (home / "keys" / "signing.pem").write_text("secret")
    (home / "keys" / "signing.pem").chmod(0o600)
    database(home)
    return home


KEPT = {
    "data/.dvc/config",
    "events/predictions/model=m/date=2026-01-01/g1.parquet",
    "journal/releases/m/0001-a.jsonl",
    "keys/signing.pem",
    "logs/feedback.jsonl",
    "models/m/2/model.onnx",
    "models/m/2/serving.json",
    "registry/mlflow.db",
    "run/releases/positions/m/a.json",
}


def take(home: Path, out: Path, *, events: bool = True) -> taking.Taken:
    return taking.take(settings(home), out, NOW, events=events)


def test_what_cannot_be_made_again_is_in_it_and_nothing_else(home: Path, tmp_path: Path) -> None:
    taken = take(home, tmp_path / "b.tar.gz")
    assert set(taken.manifest.files) == KEPT
    assert dict(taken.manifest.champions) == {"m": "2"}
    assert taken.path.stat().st_mode & 0o777 == 0o600, "it holds a private key"
    assert not list((home / "run").glob("backup-*")), "nothing staged is left"
    without = take(home, tmp_path / "c.tar.gz", events=False)
    assert KEPT - set(without.manifest.files) == {p for p in KEPT if p.startswith(("events/", "logs/"))}


def test_nobody_else_can_read_it_at_any_moment(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify the mode at the moment the file gets its name: a crash right after it must leave no key to read."""
    out, modes = tmp_path / "backup.tar.gz", []

    def synced(folder: Path) -> None:
        if out.exists():
            modes.append(out.stat().st_mode & 0o777)

    monkeypatch.setattr(atomic, "sync_directory", synced)
    taking.take(settings(home), out, NOW)
    assert modes == [0o600]


def test_it_comes_back_whole_after_the_home_was_lost(home: Path, tmp_path: Path) -> None:
    taken = take(home, tmp_path / "b.tar.gz")
    other = tmp_path / "other"
    found = restoring.restore(settings(other), taken.path, NOW)
    assert found.aside is None
    assert set(contents.scan(other)) == KEPT
    assert (other / "journal/releases/m/0001-a.jsonl").read_text() == '{"seq": 1}\n{"seq": 2}\n', (
        "whole lines"
    )
    assert (other / "keys/signing.pem").stat().st_mode & 0o777 == 0o600
    before, after = (folder / "models/m/2/model.onnx" for folder in (home, other))
    assert (after.stat().st_mtime_ns, after.read_text()) == (before.stat().st_mtime_ns, "onnx")
    with closing(sqlite3.connect(other / "registry" / "mlflow.db")) as connection:
        ((address,),) = connection.execute("SELECT artifact_location FROM experiments")
    assert address == f"{other}/registry/artifacts", "the registry names artifacts where they lie now"


def test_what_was_there_is_set_aside_and_what_ran_last_does_not_come_back(home: Path, tmp_path: Path) -> None:
    taken = take(home, tmp_path / "b.tar.gz")
    (home / "models/m/2/model.onnx").write_text("worse")
    (home / "models/m/3").mkdir()
    (home / "run" / "envoy").mkdir()
    (home / "run" / "envoy" / "desired.json").write_text('{"m": {"3": 100}}')
    found = restoring.restore(settings(home), taken.path, NOW)
    assert found.aside == home / "before-restore-20260301T120000Z"
    assert (home / "models/m/2/model.onnx").read_text() == "onnx"
    assert not (home / "models/m/3").exists()
    assert not (home / "run" / "envoy").exists(), "a route to a version that is not there"
    assert (found.aside / "models/m/2/model.onnx").read_text() == "worse"
    assert (found.aside / "run/envoy/desired.json").is_file()
    assert (home / "before-restore-20250101T000000Z/old").is_file(), (
        "and what an earlier restore set aside stays"
    )


def test_a_home_that_is_a_volume_keeps_what_is_the_file_systems(home: Path, tmp_path: Path) -> None:
    """Verify on a pod's volume, whose root has a folder that nobody but root may read or move."""
    (home / "lost+found").mkdir()
    (home / "lost+found" / "#12").write_text("x")
    taken = take(home, tmp_path / "b.tar.gz")
    assert set(taken.manifest.files) == KEPT
    found = restoring.restore(settings(home), taken.path, NOW)
    assert (home / "lost+found" / "#12").is_file()
    assert found.aside is not None and not (found.aside / "lost+found").exists()


def test_a_running_platform_keeps_its_home(home: Path, tmp_path: Path) -> None:
    taken = take(home, tmp_path / "b.tar.gz")
    lock = PlatformLock(state.lock_path(settings(home)))
    try:
        with pytest.raises(UsageError, match=r"a platform uses .*windlass down"):
            restoring.restore(settings(home), taken.path, NOW)
    finally:
        lock.release()
    assert not list(home.glob("before-restore-2026*"))


def _again(path: Path, change: dict[str, bytes | None], *, extra: tuple[str, bytes] | None = None) -> None:
    """Write the archive once more with other content: name -> content, None for none."""
    members = []
    with tarfile.open(path, "r:gz") as tar:
        for info in tar:
            source = tar.extractfile(info)
            assert source is not None
            members.append((info, change.get(info.name, source.read())))
    with tarfile.open(path, "w:gz") as tar:
        for info, content in members:
            if content is not None:
                info.size = len(content)
                tar.addfile(info, BytesIO(content))
        if extra is not None:
            info = tarfile.TarInfo(extra[0])
            info.size = len(extra[1])
            tar.addfile(info, BytesIO(extra[1]))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("changed", "models/m/2/model.onnx is not what its manifest says"),
        ("missing", "models/m/2/model.onnx and 0 more are missing"),
        ("more", "home/models/m/9/model.onnx is not in its manifest"),
        ("cut", "is damaged"),
        ("flipped", "is damaged"),
        ("newer", "has format 3, and this version reads 2"),
        ("escaping", r"it names the file '\.\./escaped'"),
        ("link", "is not in its manifest"),
        ("empty", "is no backup"),
        ("text", "is no backup"),
    ],
)
def test_a_damaged_backup_changes_nothing(home: Path, tmp_path: Path, damage: str, words: str) -> None:
    path = take(home, tmp_path / "b.tar.gz").path
    model = "home/models/m/2/model.onnx"
    plain = json.loads(archive.read(path).to_json())
    if damage == "changed":
        _again(path, {model: b"evil"})
    elif damage == "missing":
        _again(path, {model: None})
    elif damage == "more":
        _again(path, {}, extra=("home/models/m/9/model.onnx", b"evil"))
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "flipped":
        raw = bytearray(gzip.decompress(path.read_bytes()))
        at = raw.rindex(b"onnx")
        raw[at] ^= 1
        path.write_bytes(gzip.compress(bytes(raw)))
    elif damage == "newer":
        _again(path, {"manifest.json": json.dumps({**plain, "format": 3}).encode()})
    elif damage == "escaping":
        files = {**plain["files"], "../escaped": plain["files"]["models/m/2/model.onnx"]}
        _again(
            path,
            {"manifest.json": json.dumps({**plain, "files": files}).encode()},
            extra=("home/../escaped", b"onnx"),
        )
    elif damage == "link":
        _with_link(path)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.write_text("a letter")
    before = {p: (home / p).read_bytes() for p in contents.scan(home)}
    with pytest.raises(UsageError, match=words):
        restoring.restore(settings(home), path, NOW)
    assert {p: (home / p).read_bytes() for p in contents.scan(home)} == before
    assert not (tmp_path / "escaped").exists()
    assert not list(home.glob(".restoring-*")) and not list(home.glob("before-restore-2026*"))


def _with_link(path: Path) -> None:
    """A link in place of a file would let a later member be written through it."""
    model = "home/models/m/2/model.onnx"
    with tarfile.open(path, "r:gz") as tar:
        members = [(info, tar.extractfile(info)) for info in tar]
        loaded = [(info, source.read() if source is not None else b"") for info, source in members]
    with tarfile.open(path, "w:gz") as tar:
        for info, content in loaded:
            if info.name == model:
                info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0
                tar.addfile(info)
            else:
                tar.addfile(info, BytesIO(content))


def test_a_file_that_exists_or_an_empty_home_is_refused(home: Path, tmp_path: Path) -> None:
    path = take(home, tmp_path / "b.tar.gz").path
    with pytest.raises(UsageError, match="exists; name another file"):
        take(home, path)
    with pytest.raises(UsageError, match="holds nothing to back up"):
        take(tmp_path / "nowhere", tmp_path / "c.tar.gz")


def test_journal_and_registry_are_of_one_moment_although_both_are_being_written(
    home: Path, tmp_path: Path
) -> None:
    """Verify with a writer who journals, then moves the alias, then confirms: as the release engine does."""
    journal, path, stop = (
        home / "journal/releases/m/0001-a.jsonl",
        home / "registry/mlflow.db",
        threading.Event(),
    )
    journal.write_text("")

    def write() -> None:
        number = 0
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            while not stop.is_set():
                number += 1
                with journal.open("a") as file:
                    file.write(json.dumps({"kind": "decision", "number": number}) + "\n")
                with connection:
                    connection.execute("INSERT INTO promotions VALUES (?)", (number,))
                with journal.open("a") as file:
                    file.write(json.dumps({"kind": "confirmed", "number": number}) + "\n")
                stop.wait(0.02)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for turn in range(8):
            taken = take(home, tmp_path / f"{turn}.tar.gz")
            fresh = tmp_path / f"fresh-{turn}"
            archive.unpack(taken.path, fresh)
            lines = [
                json.loads(line)
                for line in (fresh / "home/journal/releases/m/0001-a.jsonl").read_text().splitlines()
            ]
            with closing(sqlite3.connect(fresh / "home/registry/mlflow.db")) as connection:
                ((moved,),) = connection.execute("SELECT coalesce(max(number), 0) FROM promotions")
            decided = max((r["number"] for r in lines if r["kind"] == "decision"), default=0)
            confirmed = max((r["number"] for r in lines if r["kind"] == "confirmed"), default=0)
            assert confirmed <= moved <= decided, "moved without a decision, or confirmed without a move"
    finally:
        stop.set()
        writer.join()


def test_a_home_that_never_holds_still_is_no_backup(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = contents.copy

    def busy(folder: Path, path: str, target: Path) -> None:
        copy(folder, path, target)
        (home / "models/m/2/serving.json").write_text("{}" + " " * len(list(target.parents)))
        with (home / "registry" / "note").open("a") as file:
            file.write("x")

    monkeypatch.setattr(contents, "copy", busy)
    with pytest.raises(WindlassError, match="changed in each of 50 rounds"):
        take(home, tmp_path / "b.tar.gz")
    assert not (tmp_path / "b.tar.gz").exists()
    assert not list((home / "run").glob("backup-*"))


EXPORTED = Exported("team-a", {"releases/m-2.json": b'{"kind": "Release"}'})


def test_a_cluster_s_objects_are_in_it_beside_the_home(home: Path, tmp_path: Path) -> None:
    """Verify that the manifest covers them, and that a home comes back from the same file without them."""
    path = taking.take(settings(home), tmp_path / "b.tar.gz", NOW, exported=EXPORTED).path
    manifest = archive.read(path)
    assert (manifest.namespace, set(manifest.objects)) == ("team-a", {"releases/m-2.json"})
    archive.unpack(path, tmp_path / "fresh")
    assert (tmp_path / "fresh/cluster/releases/m-2.json").read_bytes() == b'{"kind": "Release"}'
    other = tmp_path / "other"
    restoring.restore(settings(other), path, NOW)
    assert set(contents.scan(other)) == KEPT and not (other / "cluster").exists()
    _again(path, {"cluster/releases/m-2.json": b'{"kind": "Reverse"}'})
    with pytest.raises(UsageError, match=r"cluster/releases/m-2\.json is not what its manifest says"):
        restoring.restore(settings(home), path, NOW)


def test_a_cluster_alone_needs_no_home_and_makes_none(home: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    taken = taking.take(settings(nowhere), tmp_path / "b.tar.gz", NOW, exported=EXPORTED)
    assert not nowhere.exists() and not taken.manifest.files
    with pytest.raises(UsageError, match=r"holds no home, only what namespace team-a had.*--cluster"):
        restoring.restore(settings(home), taken.path, NOW)
    assert set(contents.scan(home)) == KEPT


def test_a_backup_from_before_there_were_clusters_is_read(home: Path, tmp_path: Path) -> None:
    path = take(home, tmp_path / "b.tar.gz").path
    plain = json.loads(archive.read(path).to_json())
    for known in plain["files"].values():
        known["changed"] = known.pop("changed_ns") // 10**9
    old = {k: v for k, v in plain.items() if k not in ("namespace", "objects")} | {"format": 1}
    _again(path, {"manifest.json": json.dumps(old).encode()})
    restoring.restore(settings(tmp_path / "other"), path, NOW)
    assert set(contents.scan(tmp_path / "other")) == KEPT


def test_what_was_uploaded_is_downloaded(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify both commands against a real endpoint: the file may be lost with the machine."""
    file = tmp_path / "b.tar.gz"
    monkeypatch.setenv("WINDLASS_HOME", str(home))
    with s3_server.running() as endpoint:
        s3_server.make_bucket(endpoint, "kept", monkeypatch)
        monkeypatch.setenv("WINDLASS_OBJECT_STORE", "s3://kept/prefix")
        monkeypatch.setenv("WINDLASS_S3_ENDPOINT", endpoint)
        assert app.run(["backup", str(file), "--upload"]) == 0
        assert "s3://kept/prefix/backups/b.tar.gz" in capsys.readouterr().out
        assert app.run(["restore", str(file), "--download"]) == 2
        assert "leave --download out" in capsys.readouterr().err
        file.unlink()
        monkeypatch.setenv("WINDLASS_HOME", str(tmp_path / "other"))
        assert app.run(["restore", str(file), "--download"]) == 0
    assert set(contents.scan(tmp_path / "other")) == KEPT
