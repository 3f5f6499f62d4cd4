"""Which flights are asked for, with what request, and when their outcome is known."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from windlass.contract import Workload
from windlass.demo.story import Story

if TYPE_CHECKING:
    import pandas as pd

HOUR = 3600
RUN = 20


@dataclass(frozen=True)
class Request:
    """One prediction to ask for.

    Attributes:
        at: event time, epoch seconds.
        body: the request, KServe protocol V1.
        label, label_at: the outcome and when it is known (epoch seconds); None for flights that never land.
        draw: what Envoy's weighted clusters take as their random number.
    """

    request_id: str
    row: int
    at: float
    body: bytes
    label: int | None
    label_at: float | None
    draw: int


def draw(seed: int, request_id: str) -> int:
    """A reproducible 32-bit number, independent of everything else about the request."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{request_id}".encode(), digest_size=4).digest(), "big")


def sample(
    workload: Workload, frame: pd.DataFrame, story: Story
) -> tuple[dict[int, list[Request]], pd.DataFrame]:
    """One run of `RUN` consecutive rows in `sampled_every` such runs from `story.start` on, drawn by the seed.

    Runs rather than single flights: nobody looks in the hours in between, so their feature rows reach the online
    store as one write, the newest of each key.

    Args:
        frame: prepared source rows (`workload.prepare`), any order.

    Returns:
        Requests by the full hour (epoch seconds) they fall in, and the sampled rows; `Request.row` is the
        position of its row in that frame.
    """
    import numpy as np
    import pandas as pd

    time = workload.source.event_time
    rows = frame[(frame[time] >= pd.Timestamp(story.start)) & (frame[time] < pd.Timestamp(story.end))]
    key = list(workload.source.key)
    rows = rows.sort_values([time, *key], kind="stable")
    run = np.arange(len(rows)) // RUN
    taken = run % story.sampled_every == draw(story.seed, "offset") % story.sampled_every
    rows = rows[taken].reset_index(drop=True)

    fields = {f.name: f for f in workload.request_fields}
    columns = [*workload.entities, *(name for name in fields if name not in workload.entities)]
    at = _epoch(rows[time])
    label_at = _epoch(rows[workload.label.available_at])
    labels = rows[workload.label.column]
    known = labels.notna().to_numpy() & rows[workload.label.available_at].notna().to_numpy()
    by_hour: dict[int, list[Request]] = defaultdict(list)
    values = [rows[c].tolist() for c in columns]
    missing = [rows[c].isna().tolist() for c in columns]
    for i in range(len(rows)):
        instance = {c: values[j][i] for j, c in enumerate(columns) if not missing[j][i]}
        for entity in workload.entities:
            instance.setdefault(entity, "")
        request_id = f"{workload.name}-{story.seed}-{i:06d}"
        by_hour[int(at[i]) // HOUR * HOUR].append(
            Request(
                request_id=request_id,
                row=i,
                at=float(at[i]),
                body=orjson.dumps({"instances": [instance]}),
                label=int(labels.iloc[i]) if known[i] else None,
                label_at=float(label_at[i]) if known[i] else None,
                draw=draw(story.seed, request_id),
            )
        )
    return by_hour, rows


def _epoch(series: pd.Series[pd.Timestamp]) -> list[float]:
    import pandas as pd

    seconds = (series - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    return [float(s) for s in seconds]
