"""A Feast store of two views and 30 features, written by Feast itself: what the features part looks up.

    python -m benchmarks.serving.contenders.kserve.store FOLDER NAME ONLINE

FOLDER holds `customer.npy` and `merchant.npy`, float32 [keys, features]; the repository is written to FOLDER/NAME, its
online store is ONLINE, in the JSON form of Feast's `online_store`.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Float32
from feast.value_type import ValueType

SERVICE = "classifier"
PROJECT = "bench"
ENTITIES = ("customer", "merchant")
TTL = timedelta(days=1)


def features_of(entity: str, count: int) -> list[str]:
    """The names of an entity's features."""
    return [f"{entity}_{i}" for i in range(count)]


def write(folder: Path, name: str, online: dict[str, Any]) -> None:
    """Apply the repository and write every key's row."""
    repository = folder / name
    repository.mkdir()
    settings = {
        "project": PROJECT,
        "provider": "local",
        "registry": str(repository / "registry.db"),
        "online_store": online,
        "offline_store": {"type": "dask"},
        "entity_key_serialization_version": 3,
    }
    # JSON is YAML: the transformer opens the same repository by its folder
    (repository / "feature_store.yaml").write_text(json.dumps(settings))
    store = FeatureStore(config=RepoConfig(**settings, repo_path=repository))
    now = pd.Timestamp(datetime.now(UTC).replace(tzinfo=None))
    views, frames = [], []
    for key in ENTITIES:
        values = np.load(folder / f"{key}.npy")
        names = features_of(key, values.shape[1])
        frame = pd.DataFrame(values, columns=names)
        frame.insert(0, key, [f"{key[0]}{i}" for i in range(len(values))])
        frame["event_timestamp"] = frame["created"] = now
        path = repository / f"{key}.parquet"
        frame.to_parquet(path)
        entity = Entity(name=key, join_keys=[key], value_type=ValueType.STRING)
        views.append(
            FeatureView(
                name=f"{key}_features",
                entities=[entity],
                ttl=TTL,
                schema=[Field(name=n, dtype=Float32) for n in names],
                source=FileSource(
                    path=str(path), timestamp_field="event_timestamp", created_timestamp_column="created"
                ),
            )
        )
        frames.append(frame)
        store.apply(entity)
    store.apply([*views, FeatureService(name=SERVICE, features=views)])
    for view, frame in zip(views, frames, strict=True):
        store.write_to_online_store(view.name, frame)


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))
