"""Entities, views and the feature service of the workload `flights`.

How a value is computed stands in `workloads/flights/`; names, entities and times to live must be the
same in both, and opening the store says which are not.
"""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Float64, String

from windlass.features.paths import offline_rows

carrier = Entity(name="carrier", value_type=ValueType.STRING, description="two-character code of the airline")
origin = Entity(
    name="origin", value_type=ValueType.STRING, description="airport of departure: EWR, JFK or LGA"
)
dest = Entity(name="dest", value_type=ValueType.STRING, description="airport of arrival")
tailnum = Entity(name="tailnum", value_type=ValueType.STRING, description="registration of the aircraft")


def rows(view: str) -> FileSource:
    """Offline rows of a view: one parquet file a month."""
    return FileSource(name=f"{view}_rows", path=offline_rows(view), timestamp_field="event_timestamp")


def pushed(view: str) -> PushSource:
    """Rows that are pushed online as they come; offline they are the same files."""
    return PushSource(name=f"{view}_push", batch_source=rows(view))


carrier_delays = FeatureView(
    name="carrier_delays",
    entities=[carrier],
    ttl=timedelta(days=1),
    schema=[
        Field(name="carrier", dtype=String),
        Field(name="carrier_arr_delay_3h", dtype=Float64),
        Field(name="carrier_dep_delay_2h", dtype=Float64),
        Field(name="carrier_added_delay_3h", dtype=Float64),
        Field(name="carrier_late_share_24h", dtype=Float64),
        Field(name="carrier_arrivals_24h_count", dtype=Float64),
    ],
    source=pushed("carrier_delays"),
)

origin_delays = FeatureView(
    name="origin_delays",
    entities=[origin],
    ttl=timedelta(days=1),
    schema=[
        Field(name="origin", dtype=String),
        Field(name="origin_dep_delay_1h", dtype=Float64),
        Field(name="origin_dep_delay_3h", dtype=Float64),
        Field(name="origin_dep_late_share_3h", dtype=Float64),
        Field(name="origin_added_delay_3h", dtype=Float64),
        Field(name="origin_departures_24h_count", dtype=Float64),
        Field(name="origin_overdue_count", dtype=Float64),
        Field(name="origin_overdue_hours", dtype=Float64),
    ],
    source=pushed("origin_delays"),
)

origin_weather = FeatureView(
    name="origin_weather",
    entities=[origin],
    ttl=timedelta(hours=6),
    schema=[
        Field(name="origin", dtype=String),
        Field(name="weather_temp", dtype=Float64),
        Field(name="weather_dewp", dtype=Float64),
        Field(name="weather_wind_speed", dtype=Float64),
        Field(name="weather_wind_gust", dtype=Float64),
        Field(name="weather_precip_3h", dtype=Float64),
        Field(name="weather_pressure", dtype=Float64),
        Field(name="weather_pressure_change_3h", dtype=Float64),
        Field(name="weather_visib_min_3h", dtype=Float64),
    ],
    source=pushed("origin_weather"),
)

dest_delays = FeatureView(
    name="dest_delays",
    entities=[dest],
    ttl=timedelta(days=1),
    schema=[
        Field(name="dest", dtype=String),
        Field(name="dest_arr_delay_6h", dtype=Float64),
        Field(name="dest_added_delay_6h", dtype=Float64),
        Field(name="dest_dep_delay_3h", dtype=Float64),
        Field(name="dest_late_share_24h", dtype=Float64),
        Field(name="dest_arrivals_6h_count", dtype=Float64),
    ],
    source=pushed("dest_delays"),
)

# computed once a week: materialized, not pushed
dest_history = FeatureView(
    name="dest_history",
    entities=[dest],
    ttl=timedelta(days=8),
    schema=[
        Field(name="dest", dtype=String),
        Field(name="dest_late_share_7d", dtype=Float64),
        Field(name="dest_late_share_28d", dtype=Float64),
    ],
    source=rows("dest_history"),
)

tail_delays = FeatureView(
    name="tail_delays",
    entities=[tailnum],
    ttl=timedelta(days=7),
    schema=[
        Field(name="tailnum", dtype=String),
        Field(name="tail_dep_delay", dtype=Float64),
        Field(name="tail_arr_delay", dtype=Float64),
        Field(name="tail_late_share_7d", dtype=Float64),
        Field(name="tail_arrivals_7d_count", dtype=Float64),
    ],
    source=pushed("tail_delays"),
)

tail_turn = FeatureView(
    name="tail_turn",
    entities=[tailnum],
    ttl=timedelta(days=2),
    schema=[Field(name="tailnum", dtype=String), Field(name="tail_ready_hours", dtype=Float64)],
    source=pushed("tail_turn"),
)

flights_v1 = FeatureService(
    name="flights_v1",
    features=[
        carrier_delays, origin_delays, origin_weather, dest_delays, dest_history, tail_delays, tail_turn,
    ],
    description="what was known one hour before the scheduled departure",
)  # fmt: skip
