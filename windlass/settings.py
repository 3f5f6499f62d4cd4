"""Where things live and which back ends are used: defaults, overridden by `WINDLASS_*` variables.

Everything that the local platform writes lies under one folder, `home` (`.windlass` in the current
directory by default), so that removing it removes every trace.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from windlass.errors import UsageError


@dataclass(frozen=True)
class Settings:
    """Resolved settings; paths are absolute.

    Attributes:
        home: root of all local state.
        project: folder that holds `workloads/` and `feature_repo/`.
        online_store: "sqlite" or "redis".
        redis_url: `redis://host:port/db`, needed where `online_store` is "redis".
        object_store: `s3://bucket/prefix` for data, registry artifacts and logs; None keeps them on disk.
        s3_endpoint: another S3 endpoint than the provider's own (MinIO, moto).
        prometheus_url: where checks of source `prometheus` are asked; None where there is none.
        namespace: of a cluster, whose models Prometheus is asked about; None outside of one.
        analysis_every: how often `windlass up` has the live answers analysed; None for never.
        features_every: how often `windlass up` fills the online store again; None for never.
        dvc: another DVC than the one that is made for us (monitoring.data_versions).
    """

    home: Path
    project: Path
    online_store: str = "sqlite"
    redis_url: str | None = None
    object_store: str | None = None
    s3_endpoint: str | None = None
    prometheus_url: str | None = None
    namespace: str | None = None
    analysis_every: timedelta | None = timedelta(hours=1)
    features_every: timedelta | None = timedelta(hours=1)
    dvc: str | None = None

    @property
    def offline_dir(self) -> Path:
        """Offline feature rows: `<view>/<YYYY-MM>.parquet`."""
        return self.home / "features" / "offline"

    @property
    def online_db(self) -> Path:
        """Feast's sqlite online store."""
        return self.home / "features" / "online.db"

    @property
    def feast_registry(self) -> Path:
        return self.home / "features" / "registry.db"

    @property
    def materialized_dir(self) -> Path:
        """When `windlass features materialize` last filled the online store: `<workload>.json`."""
        return self.home / "features" / "materialized"

    @property
    def registry_dir(self) -> Path:
        """MLflow's database (`mlflow.db`) and artifacts (`artifacts/`)."""
        return self.home / "registry"

    @property
    def bundles_dir(self) -> Path:
        """Serving bundles: `<model>/<version>/serving.json` with its model file."""
        return self.home / "models"

    @property
    def cache_dir(self) -> Path:
        """Pipeline step outputs by content hash."""
        return self.home / "cache"

    @property
    def runs_dir(self) -> Path:
        return self.home / "runs"

    @property
    def logs_dir(self) -> Path:
        """Prediction and feedback logs, process logs."""
        return self.home / "logs"

    @property
    def journal_dir(self) -> Path:
        """Decisions and triggers."""
        return self.home / "journal"

    @property
    def run_dir(self) -> Path:
        """Proxy configuration, process ids, locks of what runs now."""
        return self.home / "run"


UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _every(name: str, text: str) -> timedelta | None:
    if text == "off":
        return None
    number, unit = text[:-1], text[-1:]
    if unit not in UNITS or not number.isdigit() or int(number) == 0:
        raise UsageError(f"{name}={text!r} is no interval; use for example 15m or 1h, or off")
    return timedelta(**{UNITS[unit]: int(number)})


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment.

    Raises:
        UsageError: a variable holds a value that is not understood.
    """
    env = os.environ if environ is None else environ
    project = Path(env.get("WINDLASS_PROJECT", ".")).resolve()
    online_store = env.get("WINDLASS_ONLINE_STORE", "sqlite")
    if online_store not in ("sqlite", "redis"):
        raise UsageError(f"WINDLASS_ONLINE_STORE={online_store!r} is not known; use sqlite or redis")
    redis_url = env.get("WINDLASS_REDIS_URL")
    if online_store == "redis" and not redis_url:
        raise UsageError(
            "WINDLASS_ONLINE_STORE=redis needs WINDLASS_REDIS_URL, for example redis://127.0.0.1:6379/0"
        )
    object_store = env.get("WINDLASS_OBJECT_STORE")
    if object_store is not None and not object_store.startswith("s3://"):
        raise UsageError(
            f"WINDLASS_OBJECT_STORE={object_store!r} is not an address of a bucket; use s3://bucket/prefix"
        )
    prometheus_url = env.get("WINDLASS_PROMETHEUS_URL")
    if prometheus_url is not None and not prometheus_url.startswith(("http://", "https://")):
        raise UsageError(
            f"WINDLASS_PROMETHEUS_URL={prometheus_url!r} is not an address; use for example http://127.0.0.1:9090"
        )
    return Settings(
        home=Path(env.get("WINDLASS_HOME", project / ".windlass")).resolve(),
        project=project,
        online_store=online_store,
        redis_url=redis_url,
        object_store=object_store.rstrip("/") if object_store else None,
        s3_endpoint=env.get("WINDLASS_S3_ENDPOINT"),
        prometheus_url=prometheus_url.rstrip("/") if prometheus_url else None,
        namespace=env.get("WINDLASS_NAMESPACE") or None,
        analysis_every=_every("WINDLASS_ANALYSIS_EVERY", env.get("WINDLASS_ANALYSIS_EVERY", "1h")),
        features_every=_every("WINDLASS_FEATURES_EVERY", env.get("WINDLASS_FEATURES_EVERY", "1h")),
        dvc=env.get("WINDLASS_DVC"),
    )
