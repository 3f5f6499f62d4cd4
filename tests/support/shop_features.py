"""A small model with features of its own: its project, offline rows that a real build writes, bundles, and what a
server that does right is given at a moment."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from components import bundle
from windlass import catalog
from windlass.contract import Workload
from windlass.features import offline, ondemand
from windlass.settings import Settings

MODEL = "shop"
SHOPS = tuple(f"s{number}" for number in range(10))
#: rows of each shop lie so far apart, and count for so long
EVERY_S, TTL_S = 300, 3600

WORKLOAD = """
import importlib.util
from datetime import timedelta
from pathlib import Path

import pandas as pd

from windlass.contract import (
    Column, Estimator, Gates, Label, Range, RequestField, Source, Transformation, View, Workload,
)

_found = importlib.util.spec_from_file_location("shop_rates", Path(__file__).with_name("rates.py"))
rates = importlib.util.module_from_spec(_found)
_found.loader.exec_module(rates)


def load(path):
    return pd.read_parquet(path or Path(__file__).with_name("rows.parquet"))


def compute(frame):
    return frame[["shop", "event_timestamp", "sales", "visits"]].copy()


WORKLOAD = Workload(
    name="shop",
    source=Source(
        load=load,
        columns=(Column("shop", "string"), Column("event_timestamp", "timestamp")),
        key=("shop", "event_timestamp"),
        event_time="event_timestamp",
    ),
    prepare=lambda frame: frame,
    entities=("shop",),
    label=Label("label", "event_timestamp"),
    views=(View("takings", "shop", ("sales", "visits"), timedelta(seconds=TTL_S), compute),),
    request_fields=(RequestField("size"), RequestField("kind", "string", ("red", "green", "blue"))),
    transformations=(Transformation("rates", rates.per_visit, ("sales", "visits"), ("per_visit",)),),
    feature_service="shop_v1",
    estimators=(Estimator("linear", {"C": Range(0.01, 10, log=True)}),),
    gates=Gates(minimum_auc=0.5),
    privacy=PRIVACY,
)
"""
CODE = """
def per_visit(columns):
    return {"per_visit": [s / v if v else None for s, v in zip(columns["sales"], columns["visits"])]}
"""


@dataclass(frozen=True)
class Shop:
    """The model's home and project.

    Attributes:
        began: of its rows, epoch seconds, a multiple of `EVERY_S`.
    """

    settings: Settings
    began: int

    @property
    def workload(self) -> Workload:
        return catalog.load(MODEL, self.settings.project)

    def build(self, until: int, *, changed: float = 0.0) -> None:
        """Compute the offline rows up to a moment, epoch seconds; `changed` is what each value of sales has more."""
        rows = [
            {
                "shop": shop,
                "at": at,
                "sales": self.sales(shop, at) + changed,
                "visits": float(at // EVERY_S % 4),
            }
            for at in range(self.began, until + 1, EVERY_S)
            for shop in SHOPS
        ]
        frame = pd.DataFrame(rows)
        at = pd.to_datetime(frame.pop("at"), unit="s", utc=True)
        frame["event_timestamp"] = at.dt.as_unit("us")
        frame.to_parquet(self._place / "rows.parquet", index=False)
        offline.build(self.workload, self.settings)

    def publish(self, version: str) -> Path:
        """Write a version's bundle, as far as its inputs go."""
        workload = self.workload
        document = bundle.manifest(workload, dict.fromkeys(workload.model_inputs), "0" * 64)
        folder = self.settings.bundles_dir / MODEL / version
        folder.mkdir(parents=True)
        for code in map(ondemand.code_of, workload.transformations):
            (folder / code.file).write_bytes(code.content)
        (folder / bundle.MANIFEST).write_text(json.dumps({**document, "version": version}))
        return folder

    def sales(self, shop: str, at: int) -> float:
        """A value with a fraction, other for each shop and moment."""
        return SHOPS.index(shop) * 1000 + (at // EVERY_S % 997) + 0.25

    def served(self, number: int, at: float, **fields: Any) -> dict[str, Any]:
        """The log of a request to a server that does right, without its id and version."""
        shop, kind = SHOPS[number % len(SHOPS)], ("red", "green", "blue")[number % 3]
        row = int(at // EVERY_S * EVERY_S)
        sales, visits = self.sales(shop, row), float(row // EVERY_S % 4)
        vector = [sales, visits, number / 2, float(number % 3), sales / visits if visits else None]
        return {
            "model": MODEL, "at": at, "entities": {"shop": shop}, "request": {"size": number / 2, "kind": kind},
            "features": vector, "source": "online", **fields,
        }  # fmt: skip

    @property
    def _place(self) -> Path:
        return self.settings.project / "workloads" / MODEL


def make(folder: Path, began: float, *, privacy: str = "{}") -> Shop:
    """A project and its home in a folder, without rows and bundles.

    Args:
        privacy: of the workload, as Python.
    """
    place = folder / "workloads" / MODEL
    place.mkdir(parents=True)
    text = WORKLOAD.replace("TTL_S", str(TTL_S)).replace("PRIVACY", privacy)
    (place / "workload.py").write_text(text)
    (place / "rates.py").write_text(CODE)
    return Shop(Settings(home=folder / "home", project=folder), math.floor(began / EVERY_S) * EVERY_S)
