"""The vectors that a correct lookup gives: point-in-time features and request fields, in the model's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from windlass.contract import Workload
from windlass.features import ondemand
from windlass.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from monitoring.predictions import Prediction


class Vectors:
    """Recomputed once for all sampled rows, handed out by request id.

    Args:
        rows: the sampled rows of the prepared frame; `request_ids` names them, in the same order.
    """

    def __init__(
        self, workload: Workload, settings: Settings, rows: pd.DataFrame, request_ids: Sequence[str]
    ) -> None:
        from windlass.features import asof

        asked = rows[list(workload.entities)].copy()
        asked["event_timestamp"] = rows[workload.source.event_time].to_numpy()
        asked["event_timestamp"] = (
            asked["event_timestamp"].dt.tz_localize("UTC")
            if asked["event_timestamp"].dt.tz is None
            else asked["event_timestamp"]
        )
        found = asof.lookup(workload, settings, asked.reset_index(drop=True))
        self._features = found[[f for v in workload.views for f in v.features]]
        self._row = {request_id: i for i, request_id in enumerate(request_ids)}
        self._workload = workload
        self._rows = rows

    def expected(self, predictions: Sequence[Prediction]) -> pd.DataFrame:
        """View features of these predictions, a row each."""
        return self._features.iloc[[self._row[p.request_id] for p in predictions]]

    def matrix(self) -> NDArray[np.float32]:
        """All model inputs of all rows, float32."""
        columns = [self._features.to_numpy(dtype=np.float64)]
        columns += [encoded(self._rows[f.name], f.categories)[:, None] for f in self._workload.request_fields]
        code = [ondemand.code_of(t) for t in self._workload.transformations]
        everything = ondemand.append(code, self._workload.given_inputs, np.hstack(columns))
        return np.ascontiguousarray(everything, dtype=np.float32)


def encoded(values: Any, categories: Sequence[str]) -> NDArray[np.float64]:
    """A request field as the model sees it: a number, or the position of its category."""
    if not categories:
        numbers: NDArray[np.float64] = values.to_numpy(dtype=np.float64)
        return numbers
    positions: Mapping[str, float] = {c: float(i) for i, c in enumerate(categories)}
    mapped: NDArray[np.float64] = values.map(positions).to_numpy(dtype=np.float64)
    return mapped
