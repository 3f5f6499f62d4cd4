"""Feast's feature store: opening it, and training frames through it.

Feast is imported by this module, `definitions`, `stream`, and by `wal_store` and `registry_file`, which Feast itself
loads by name; each calls `feast_import.load` before.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import windlass
from windlass import atomic, objectstore
from windlass.contract import View, Workload
from windlass.errors import UsageError, WindlassError
from windlass.features import definitions, feast_import, partitions
from windlass.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureStore, RepoConfig

# measured on a month of flights: 2 days 10 s of CPU (nearly all in ibis, per join), 16 days 4.2 s, 32 days 4.3 s and
# 170 MB more (pairs of rows and snapshots)
CHUNK = timedelta(days=16)


def open_store(settings: Settings, project_dir: Path | None = None) -> FeatureStore:
    """Open the feature store; the repository is applied first where it has changed since the last time.

    Raises:
        UsageError: the repository cannot be read.
    """
    feast_import.load()
    from feast import FeatureStore

    logging.getLogger("feast").setLevel(logging.ERROR)
    settings.feast_registry.parent.mkdir(parents=True, exist_ok=True)
    config = _config(settings, project_dir)
    marker = settings.feast_registry.with_suffix(".applied")

    def applied(state: str) -> bool:
        stores = [
            settings.feast_registry,
            *([settings.online_db] if settings.online_store == "sqlite" else []),
        ]
        return marker.is_file() and marker.read_text() == state and all(path.is_file() for path in stores)

    # a run that fills the online store may hold the lock for long, and who only reads writes nothing here
    if applied(_state(settings, config, project_dir)):
        return FeatureStore(config=config)
    with alone(settings):
        state = _state(settings, config, project_dir)
        store = FeatureStore(config=config)
        if not applied(state):
            store.apply(definitions.read(settings, project_dir).objects())
            atomic.write_text(marker, state)
    return store


@contextlib.contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Whoever writes Feast's registry does it here: two at once would each write one without the other's changes."""
    with settings.feast_registry.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write(
                "windlass: waits until another process has written Feast's registry, as one does that fills the online "
                f"store ({lock.name})\n"
            )
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def publish_registry(settings: Settings, address: str) -> None:
    """Put a copy of Feast's registry where a feature server reads it.

    Args:
        address: `s3://bucket/…/registry.db`.

    Raises:
        UsageError: the address is none of an object.
        WindlassError: it cannot be written there.
    """
    bucket, _, key = address.removeprefix("s3://").partition("/")
    if not address.startswith("s3://") or not bucket or not key or key.endswith("/"):
        raise UsageError(
            f"registry {address!r} is no address of an object; use s3://bucket/prefix/registry.db"
        )
    target = objectstore.ObjectStore(replace(settings, object_store=f"s3://{bucket}"))
    with alone(settings):
        target.upload(settings.feast_registry, key)


def training_frame(workload: Workload, settings: Settings, entity_df: pd.DataFrame) -> pd.DataFrame:
    """Join the workload's features to rows of entities and `event_timestamp`, as they were known then.

    Returns:
        `entity_df` with a column for each feature, in its order and with its index.

    Raises:
        WindlassError: Feast returned other rows than were asked for.
    """
    import pandas as pd

    feast_import.load()
    names = [feature for view in workload.views for feature in view.features]
    if entity_df.empty:
        return entity_df.assign(**dict.fromkeys(names, pd.Series(dtype="float64")))
    asked = pd.DataFrame({e: entity_df[e].astype(str).to_numpy() for e in workload.entities})
    asked[partitions.TIME] = pd.DatetimeIndex(entity_df[partitions.TIME]).tz_convert("UTC").as_unit("us")
    asked["windlass_row"] = range(len(asked))
    asked = asked.sort_values(partitions.TIME, kind="stable", ignore_index=True)
    settings.offline_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.offline_dir.parent, prefix=".join-") as name:
        scratch = _Scratch(workload, settings, Path(name))
        joined = pd.concat([scratch.join(asked.iloc[a:b]) for a, b in _chunks(asked)], ignore_index=True)
    if len(joined) != len(asked) or not joined["windlass_row"].is_unique:
        raise WindlassError(
            f"Feast returned {len(joined)} rows for {len(asked)} of feature service {workload.feature_service!r}; "
            "nothing was written; report this with the versions of feast and duckdb (`windlass doctor --json`)"
        )
    values = joined.sort_values("windlass_row", kind="stable")[names].to_numpy(dtype="float64")
    return pd.concat([entity_df, pd.DataFrame(values, columns=names, index=entity_df.index)], axis=1)


class _Scratch:
    """A store of its own whose views hold the rows of one chunk of time only.

    Feast's DuckDB join pairs an asked row with every snapshot of its key that has not expired. Over half a year of
    flights one join took 41 s of CPU and 1.9 GB, and both grow faster than the rows; in chunks it is 25 s and 0.7 GB,
    and grows with them. So the sources are files that are written anew for each chunk.
    """

    def __init__(self, workload: Workload, settings: Settings, folder: Path) -> None:
        from feast import FeatureService, FeatureStore, FeatureView, FileSource, RepoConfig

        logging.getLogger("feast").setLevel(logging.ERROR)
        self._workload, self._settings, self._folder = workload, settings, folder
        defined = definitions.agreed(workload, settings)
        views = []
        for view in workload.views:
            there = defined.views[view.name]
            path = str(self._file(view))
            views.append(
                FeatureView(
                    name=view.name,
                    entities=[defined.entities[view.entity]],
                    ttl=there.ttl,
                    schema=there.schema,
                    source=FileSource(name=f"{view.name}_chunk", path=path, timestamp_field=partitions.TIME),
                    online=False,
                )
            )
            partitions.write(self._file(view), view, partitions.schema_of(view).empty_table().to_pandas())
        self._service = FeatureService(name=workload.feature_service, features=views)
        config = RepoConfig(
            project="chunk",
            provider="local",
            registry=str(folder / "registry.db"),
            offline_store={"type": "duckdb"},
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            entity_key_serialization_version=3,
            repo_path=folder,
        )
        self._store = FeatureStore(config=config)
        self._store.apply([*(defined.entities[v.entity] for v in workload.views), *views, self._service])

    def _file(self, view: View) -> Path:
        return self._folder / f"{view.name}.parquet"

    def join(self, rows: pd.DataFrame) -> pd.DataFrame:
        import pyarrow.parquet

        start, end = (
            rows[partitions.TIME].iloc[0].to_pydatetime(),
            rows[partitions.TIME].iloc[-1].to_pydatetime(),
        )
        for view in self._workload.views:
            table = partitions.read(self._settings, view, start - view.ttl, end)
            pyarrow.parquet.write_table(table, self._file(view), compression="none")
        with warnings.catch_warnings():
            # ibis calls a method that this DuckDB deprecates, once for each query
            warnings.simplefilter("ignore", DeprecationWarning)
            frame: pd.DataFrame = self._store.get_historical_features(rows, self._service).to_df()
        return frame


def _chunks(rows: pd.DataFrame) -> Iterator[tuple[int, int]]:
    """Cut rows, ordered by time, into spans of time that one join can take."""
    import numpy as np

    times = rows[partitions.TIME].to_numpy()
    start = 0
    while start < len(rows):
        end = int(np.searchsorted(times, times[start] + np.timedelta64(CHUNK), side="left"))
        yield start, end
        start = end


def _config(settings: Settings, project_dir: Path | None) -> RepoConfig:
    import yaml
    from feast import RepoConfig

    own = (project_dir or settings.project) / definitions.REPOSITORY
    shipped = Path(windlass.__file__).parents[1] / definitions.REPOSITORY
    folder = next((f for f in (own, shipped) if (f / "feature_store.yaml").is_file()), None)
    if folder is None:
        raise UsageError(
            f"{own}/feature_store.yaml is missing; work in a project folder, or name it in WINDLASS_PROJECT"
        )
    stated: dict[str, Any] = yaml.safe_load((folder / "feature_store.yaml").read_text())
    stated["registry"] = {
        "registry_type": "file",
        "registry_store_type": "windlass.features.registry_file.AtomicFileRegistryStore",
        "path": str(settings.feast_registry),
    }
    if settings.online_store == "redis":
        stated["online_store"] = {
            "type": "redis",
            "connection_string": _redis_address(str(settings.redis_url)),
        }
    else:
        stated["online_store"] = {**stated["online_store"], "path": str(settings.online_db)}
    return RepoConfig(**stated, repo_path=folder)


def _redis_address(url: str) -> str:
    """Feast's way to write redis://[user:password@]host:port/db: `host:port,db=0,password=…`."""
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(url)
    address = [f"{parts.hostname}:{parts.port or 6379}", f"db={parts.path.strip('/') or 0}"]
    address += [f"username={unquote(parts.username)}"] if parts.username else []
    address += [f"password={unquote(parts.password)}"] if parts.password else []
    address += ["ssl=true"] if parts.scheme == "rediss" else []
    return ",".join(address)


def _state(settings: Settings, config: RepoConfig, project_dir: Path | None) -> str:
    """Hash of all that applying depends on."""
    version = importlib.metadata.version("feast")
    digest = hashlib.sha256(f"{version} {settings.offline_dir} {config.online_store.type}".encode())
    digest.update(os.fsencode(str(getattr(config.online_store, "path", settings.redis_url))))
    for path in definitions.files(settings, project_dir):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
