"""Computing a workload's feature rows and keeping them by month.

The rows are a function of the source, the workload's code and ours; a manifest records the hash of all three, and
what has not changed is not computed again. With an object store set, partitions are published under that hash, and
a machine without them fetches them instead of computing.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass import atomic, objectstore
from windlass.contract import View, Workload
from windlass.errors import WindlassError
from windlass.features import partitions
from windlass.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
Progress = Callable[[str], None]


@dataclass(frozen=True)
class OfflineBuild:
    """What `build` left on the disk.

    Attributes:
        content_hash: hash of the source, the code and the views' definitions.
        rows: number of rows of each view.
        reused: nothing was computed: the rows were there, or were fetched from the object store.
    """

    content_hash: str
    rows: Mapping[str, int]
    reused: bool


def build(
    workload: Workload, settings: Settings, *, data: Path | None = None, progress: Progress | None = None
) -> OfflineBuild:
    """Make sure that the offline rows of all views are those of the source, and say whether that took any work.

    Args:
        data: a file to read instead of the built-in data.
        progress: is told what is being done.

    Raises:
        DataError: the source cannot be read.
        WindlassError: a view's rows are not what the workload states, or they cannot be written.
    """
    tell = progress or (lambda _: None)
    source = workload.source.load(data)
    content_hash = fingerprint(workload, source)
    with _alone(settings, workload):
        manifest = _manifest(settings, workload)
        if manifest is not None and manifest["content_hash"] == content_hash and _intact(settings, manifest):
            _publish(workload, settings, manifest, tell)
            return OfflineBuild(content_hash, manifest["rows"], True)
        # from here on the files may be of two builds: without a manifest nobody takes them for one
        _manifest_path(settings, workload).unlink(missing_ok=True)
        if (fetched := _fetch(workload, settings, content_hash, tell)) is not None:
            return OfflineBuild(content_hash, fetched["rows"], True)
        manifest = _compute(workload, settings, source, content_hash, tell)
        _publish(workload, settings, manifest, tell)
        return OfflineBuild(content_hash, manifest["rows"], False)


def standing(workload: Workload, settings: Settings) -> str | None:
    """The content hash of the rows as they are now; None where there are none, or while they are being written.

    Whoever reads rows of several files, and finds the same hash before and after, has read those of one build.
    """
    manifest = _manifest(settings, workload)
    return None if manifest is None else str(manifest["content_hash"])


def fingerprint(workload: Workload, source: pd.DataFrame) -> str:
    """Hash of everything that the rows of all views follow from."""
    import pandas as pd

    digest = hashlib.sha256()
    digest.update(json.dumps([FORMAT, [_definition(v) for v in workload.views]]).encode())
    for path in _code(workload):
        digest.update(path.name.encode() + path.read_bytes())
    digest.update(json.dumps([[c, str(t)] for c, t in source.dtypes.items()]).encode())
    # column by column, and times as the integers they are: as objects they take three times as long
    for column in source.columns:
        digest.update(pd.util.hash_pandas_object(source[column], index=False).to_numpy().tobytes())
    return digest.hexdigest()[:32]


def _definition(view: View) -> list[Any]:
    return [view.name, view.entity, list(view.features), view.ttl / timedelta(seconds=1), view.stream]


def _code(workload: Workload) -> list[Path]:
    """The files whose change may change a row: the workload's own, and those of this package that compute."""
    modules = {workload.prepare.__module__, workload.source.load.__module__}
    modules |= {view.compute.__module__ for view in workload.views}
    origins = [Path(str(sys.modules[m].__file__)) for m in sorted(modules)]
    folders = sorted({p.parent for p in origins if p.parent != Path(__file__).parent})
    own = [Path(__file__).with_name(f"{name}.py") for name in ("columns", "files", "partitions", "rolling")]
    return [p for folder in folders for p in sorted(folder.glob("*.py"))] + own


def _compute(
    workload: Workload, settings: Settings, source: pd.DataFrame, content_hash: str, tell: Progress
) -> dict[str, Any]:
    prepared = workload.prepare(source)
    rows: dict[str, int] = {}
    digests: dict[str, str] = {}
    for view in workload.views:
        frame = _checked(view, view.compute(prepared))
        kept: set[str] = set()
        for name, part in partitions.by_month(frame):
            path = partitions.folder(settings, view.name) / f"{name}.parquet"
            partitions.write(path, view, part)
            digests[f"{view.name}/{path.name}"] = _digest(path)
            kept.add(path.name)
        for old in partitions.folder(settings, view.name).glob("*.parquet"):
            if old.name not in kept:
                old.unlink()
        rows[view.name] = len(frame)
        tell(f"feature view {view.name}: {len(frame):,} rows in {len(kept)} months")
    manifest = {"content_hash": content_hash, "rows": rows, "files": digests}
    atomic.write_text(_manifest_path(settings, workload), json.dumps(manifest, indent=1))
    return manifest


def _checked(view: View, frame: pd.DataFrame) -> pd.DataFrame:
    """Bring a view's rows into the form that stores need, or say what is wrong with them."""
    expected = [view.entity, partitions.TIME, *view.features]
    if sorted(frame.columns) != sorted(expected):
        raise WindlassError(
            f"feature view {view.name!r} computed the columns {sorted(frame.columns)}, stated are {sorted(expected)}; "
            "make View.features and View.compute agree"
        )
    if frame.empty:
        raise WindlassError(
            f"feature view {view.name!r} computed no rows; its compute function drops everything"
        )
    frame = frame[expected]
    if frame[partitions.TIME].isna().any():
        raise WindlassError(
            f"feature view {view.name!r} computed {int(frame[partitions.TIME].isna().sum())} rows without a time; drop "
            "them in its compute function, nobody can be served by them"
        )
    if str(frame[partitions.TIME].dtype) != "datetime64[us, UTC]":
        # Feast's DuckDB store fails on nanoseconds
        frame = frame.assign(event_timestamp=frame[partitions.TIME].dt.tz_convert("UTC").dt.as_unit("us"))
    if not frame[partitions.TIME].is_monotonic_increasing:
        frame = frame.sort_values([partitions.TIME, view.entity], kind="stable")
    if frame.duplicated([view.entity, partitions.TIME]).any():
        raise WindlassError(
            f"feature view {view.name!r} computed two rows for the same {view.entity} and time; "
            "keep one, else online and offline may pick different ones"
        )
    return frame


def _manifest_path(settings: Settings, workload: Workload) -> Path:
    return settings.offline_dir / f"{workload.name}.json"


def _manifest(settings: Settings, workload: Workload) -> dict[str, Any] | None:
    try:
        manifest: dict[str, Any] = json.loads(_manifest_path(settings, workload).read_text())
    except FileNotFoundError:  # also where a build that begins takes it away just now
        return None
    return manifest


def _intact(settings: Settings, manifest: Mapping[str, Any]) -> bool:
    """Whether the files are still those that were written."""
    files = manifest["files"]
    return all(
        (settings.offline_dir / name).is_file() and _digest(settings.offline_dir / name) == digest
        for name, digest in files.items()
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _alone(settings: Settings, workload: Workload) -> Iterator[None]:
    """Two builds of one workload take turns; the second finds the rows of the first."""
    settings.offline_dir.mkdir(parents=True, exist_ok=True)
    with (settings.offline_dir / f".{workload.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# --- the object store


def _remote(workload: Workload, content_hash: str) -> str:
    return f"features/{workload.name}/{content_hash}"


def _publish(workload: Workload, settings: Settings, manifest: Mapping[str, Any], tell: Progress) -> None:
    """Upload the partitions under their content hash; the manifest goes last, so its presence means all is there."""
    if settings.object_store is None:
        return
    store = objectstore.ObjectStore(settings)
    prefix = _remote(workload, manifest["content_hash"])
    if store.exists(f"{prefix}/manifest.json"):
        return
    for name in manifest["files"]:
        store.upload(settings.offline_dir / name, f"{prefix}/{name}")
    store.upload(_manifest_path(settings, workload), f"{prefix}/manifest.json")
    tell(f"published {len(manifest['files'])} partitions to {store.address(prefix)}")


def _fetch(
    workload: Workload, settings: Settings, content_hash: str, tell: Progress
) -> dict[str, Any] | None:
    """Download the partitions of this content hash, if somebody has published them."""
    if settings.object_store is None:
        return None
    store = objectstore.ObjectStore(settings)
    prefix = _remote(workload, content_hash)
    if not store.exists(f"{prefix}/manifest.json"):
        return None
    manifest: dict[str, Any] = json.loads(store.read(f"{prefix}/manifest.json"))
    there = {key.removeprefix(f"{prefix}/") for key in store.keys(f"{prefix}/")}
    if gone := sorted(set(manifest["files"]) - there):
        # a rule of the bucket deletes what is old, one object after the other
        tell(f"{store.address(prefix)} is no longer whole: {len(gone)} of its partitions are gone")
        return None
    for name, digest in manifest["files"].items():
        path = settings.offline_dir / name
        store.download(f"{prefix}/{name}", path)
        if _digest(path) != digest:
            path.unlink()
            raise WindlassError(
                f"{store.address(f'{prefix}/{name}')} is not the file that was published (its SHA-256 differs); "
                f"delete {store.address(prefix)} and build again"
            )
    for view in workload.views:
        for old in partitions.folder(settings, view.name).glob("*.parquet"):
            if f"{view.name}/{old.name}" not in manifest["files"]:
                old.unlink()
    atomic.write_text(_manifest_path(settings, workload), json.dumps(manifest, indent=1))
    tell(f"fetched {len(manifest['files'])} partitions from {store.address(prefix)}")
    return manifest
