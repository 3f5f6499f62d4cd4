"""What is done to the rows of a live window: the changes that the issue names, of stated size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.detection.worlds import Block, World

SIZES = (0.1, 0.25, 0.5, 1.0)
NULL_SHARE = 0.20
NEW_SHARE = 0.05
LABEL_ODDS = 2.0
"""Label shift: odds of being late, times this; rows of each class stay as they are."""

HOURS = 1 / 60
IN_MINUTES = (
    "carrier_arr_delay_3h", "carrier_dep_delay_2h", "carrier_added_delay_3h", "origin_dep_delay_1h",
    "origin_dep_delay_3h", "origin_added_delay_3h", "dest_arr_delay_6h", "dest_added_delay_6h",
    "dest_dep_delay_3h", "tail_dep_delay", "tail_arr_delay", "sched_minute", "sched_elapsed",
)  # fmt: skip
#: Column -> (what was swapped, factor, offset).
UNITS: dict[str, tuple[str, float, float]] = {
    **dict.fromkeys(IN_MINUTES, ("minutes to hours", HOURS, 0.0)),
    "tail_ready_hours": ("hours to minutes", 60.0, 0.0),
    "origin_overdue_hours": ("hours to minutes", 60.0, 0.0),
    "distance": ("miles to km", 1.609344, 0.0),
    "weather_visib_min_3h": ("miles to km", 1.609344, 0.0),
    "weather_wind_speed": ("mph to m/s", 0.44704, 0.0),
    "weather_wind_gust": ("mph to m/s", 0.44704, 0.0),
    "weather_temp": ("°F to °C", 5 / 9, -160 / 9),
    "weather_dewp": ("°F to °C", 5 / 9, -160 / 9),
    "weather_pressure": ("hPa to inHg", 0.02953, 0.0),
    "weather_precip_3h": ("inches to mm", 25.4, 0.0),
}


@dataclass(frozen=True)
class Injection:
    """A change of one column, or of the outcomes.

    Attributes:
        kind: "mean", "scale", "nulls", "category", "unit", "label shift", "concept".
        size: of a mean or scale shift in standard deviations, signed; else the share of rows or 0.
        column: which; "" for the outcomes.
    """

    kind: str
    size: float = 0.0
    column: str = ""

    @property
    def family(self) -> str:
        """What it is reported under."""
        return f"{self.kind} {abs(self.size):g} sd" if self.kind in ("mean", "scale") else self.kind


def of_columns(world: World) -> Iterator[Injection]:
    """Every change of a single column."""
    f = world.flights
    for name in f.names:
        yield Injection("nulls", NULL_SHARE, name)
        if name in f.categories:
            yield Injection("category", NEW_SHARE, name)
            continue
        for size in SIZES:
            yield from (
                Injection("mean", size, name),
                Injection("mean", -size, name),
                Injection("scale", size, name),
            )
        if name in UNITS:
            yield Injection("unit", 0.0, name)


def apply(injection: Injection, block: Block, world: World, rng: np.random.Generator) -> Block:
    """The block with the change."""
    if injection.kind == "label shift":
        return _label_shift(block, rng)
    if injection.kind == "concept":
        return _concept(block, injection.size, rng)
    j = world.flights.names.index(injection.column)
    features = block.features.copy()
    values = features[:, j]
    mean, deviation = world.means[j], world.deviations[j]
    match injection.kind:
        case "mean":
            values = values + injection.size * deviation
        case "scale":
            values = mean + (1 + injection.size) * (values - mean)
        case "nulls":
            values = np.where(rng.random(len(values)) < injection.size, np.nan, values)
        case "category":
            new = float(world.flights.categories[injection.column])
            values = np.where(rng.random(len(values)) < injection.size, new, values)
        case "unit":
            _, factor, offset = UNITS[injection.column]
            values = values * factor + offset
        case _:
            raise ValueError(injection.kind)
    features[:, j] = values
    return replace(block, features=features)


def _label_shift(block: Block, rng: np.random.Generator) -> Block:
    """Rows drawn again within each day with other odds of the classes; within a class nothing changes."""
    weights = np.where(block.labels == 1, LABEL_ODDS, 1.0)
    day = np.floor_divide(block.at, 86400)
    drawn = []
    for d in np.unique(day):
        rows = np.flatnonzero(day == d)
        drawn.append(rng.choice(rows, len(rows), p=weights[rows] / weights[rows].sum()))
    rows = np.concatenate(drawn)
    return replace(
        block,
        at=block.at[rows],
        features=block.features[rows],
        labels=block.labels[rows],
        scores=block.scores[rows],
    )


def _concept(block: Block, share: float, rng: np.random.Generator) -> Block:
    """Outcomes of a share of the rows dealt anew among themselves within each day: no feature and no rate moves."""
    labels = block.labels.copy()
    day = np.floor_divide(block.at, 86400)
    for d in np.unique(day):
        rows = np.flatnonzero((day == d) & np.isfinite(labels) & (rng.random(len(day)) < share))
        labels[rows] = labels[rng.permutation(rows)]
    return replace(block, labels=labels)
