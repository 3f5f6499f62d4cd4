"""A sample of served vectors, recomputed from the offline features as they were known at the time."""

from __future__ import annotations

from typing import Any

import numpy as np

from monitoring.analysis.inputs import AnalysisPolicy, SkewSample
from monitoring.collector.reading import ENTITY, REQUEST, StoredWindow
from windlass.contract import Workload
from windlass.errors import WindlassError
from windlass.features import asof, offline, parity
from windlass.settings import Settings

ONLINE = "online"
UNFINISHED = "there are no offline rows of a finished build; `windlass features build` computes them"


def sample(
    settings: Settings, workload: Workload, window: StoredWindow, policy: AnalysisPolicy
) -> SkewSample:
    """Recompute vectors spread evenly over the window's rows that came from the online store.

    What was answered from a cache or from defaults says so and is not compared; neither is what is newer than the
    offline features, which say nothing of it yet, nor anything with rows that are just being written.
    """
    try:
        hidden = parity.hidden_keys(workload)
        if hidden is not None:
            return SkewSample(0, 0, {}, hidden)
        build = offline.standing(workload, settings)
        if build is None and workload.views:
            return SkewSample(0, 0, {}, UNFINISHED)
        through = asof.reach(workload, settings)
        rows = np.flatnonzero((window.sources == ONLINE) & (window.at <= through))
        if not len(rows):
            return SkewSample(0, 0, {}, "no answer from the online store that offline features reach")
        limit = policy.skew_rows
        if len(rows) > limit:
            rows = rows[np.arange(limit) * len(rows) // limit]
        records = [_record(workload.name, window, int(i)) for i in rows]
        # a caller who sends the vector itself names no entity to look up
        records = [r for r in records if all(r["entities"].get(e) is not None for e in workload.entities)]
        found = parity.check(workload, settings, records, asof.lookup, hidden=workload.privacy)
        if offline.standing(workload, settings) != build:
            return SkewSample(0, 0, {}, UNFINISHED)
    except WindlassError as error:
        return SkewSample(0, 0, {}, str(error))
    except (OSError, ValueError, KeyError) as error:
        # a damaged file of features or of the bundle costs this check and no other
        return SkewSample(0, 0, {}, f"the vectors cannot be recomputed: {error!r}")
    return SkewSample(found.checked, found.mismatched, found.by_feature)


def _record(model: str, window: StoredWindow, row: int) -> dict[str, Any]:
    def values(prefix: str) -> dict[str, Any]:
        found = {n.removeprefix(prefix): c[row] for n, c in window.columns.items() if n.startswith(prefix)}
        return {
            n: v for n, v in found.items() if v is not None and not (isinstance(v, float) and np.isnan(v))
        }

    return {
        "model": model,
        "version": window.versions[row],
        "source": window.sources[row],
        "request_id": window.request_ids[row],
        "at": float(window.at[row]),
        "entities": values(ENTITY),
        "request": values(REQUEST),
        "features": window.features[row],
    }
