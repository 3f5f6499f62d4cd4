"""A project in a scratch home with the offline rows of ten days of real flights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from serving.runtime.bundle import Bundle
from serving.runtime.bundle import load as load_bundle
from windlass import catalog
from windlass.contract import Workload
from windlass.features import offline
from windlass.settings import Settings

START = datetime(2013, 2, 3, tzinfo=UTC)
END = datetime(2013, 2, 13, tzinfo=UTC)


@dataclass(frozen=True)
class Built:
    """A workload with its offline rows, and the flights that they follow from."""

    workload: Workload
    settings: Settings
    data: Path
    prepared: pd.DataFrame

    def requests(self, count: int, seed: int = 0) -> pd.DataFrame:
        """Entities and event times of random flights, in no order, some keys unknown."""
        rows = self.prepared.sample(count, random_state=seed)
        frame = rows[[*self.workload.entities, "event_timestamp"]].reset_index(drop=True)
        frame.loc[::17, "tailnum"] = "N0NE"
        return frame

    def scratch(self, home: Path) -> Settings:
        """Other settings with the same offline rows, and an online store of their own."""
        settings = replace(self.settings, home=home)
        settings.offline_dir.parent.mkdir(parents=True)
        settings.offline_dir.symlink_to(self.settings.offline_dir)
        return settings


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Built:
    """Offline rows of flights of early February 2013."""
    home = tmp_path_factory.mktemp("built")
    settings = Settings(home=home, project=project)
    workload = catalog.load("flights", project)
    frame = workload.source.load(None)
    data = home / "flights.parquet"
    frame[(frame["month"] == 2) & frame["day"].between(3, 12)].to_parquet(data, index=False)
    offline.build(workload, settings, data=data)
    return Built(workload, settings, data, workload.prepare(workload.source.load(data)))


@pytest.fixture
def bundle(built: Built, tmp_path: Path) -> Bundle:
    """A serving bundle of the workload, as a model server reads it."""
    import hashlib
    import json

    from components import bundle as bundles

    model = b"no model is run here"
    defaults = dict.fromkeys(built.workload.model_inputs)
    document = bundles.manifest(built.workload, defaults, hashlib.sha256(model).hexdigest())
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / bundles.MODEL_FILE).write_bytes(model)
    (folder / bundles.MANIFEST).write_text(json.dumps({**document, "version": "1"}))
    return load_bundle(folder)
