"""Mutations of requests to the model with entity keys, whose features are read from the online store."""

from __future__ import annotations

from random import Random
from typing import Any

from benchmarks.serving.fuzz_case import (
    KEYED_V1,
    KEYED_V2,
    Case,
    Mutation,
    answered,
    encoded,
    one,
    refused,
    tensor,
)
from benchmarks.serving.fuzz_documents import NO_NUMBERS
from benchmarks.serving.fuzz_subject import CARRIERS, DESTINATIONS, SEATS, keyed_scores

NO_TEXTS: tuple[Any, ...] = (1, 2.5, True, ["x"], {"x": 1}, None)


def keyed_rows(random: Random) -> list[dict[str, Any]]:
    """Valid instances of the model with entity keys."""
    return [
        {
            "carrier": random.choice((*CARRIERS, "none", "")),
            "seat": random.choice((*SEATS, 0, -(1 << 63), (1 << 63) - 1)),
            "hour": random.choice((3, 17.5, 0)),
            **random.choice(({}, {"distance": 12.25}, {"distance": None}, {"more": [1]})),
            **random.choice(({}, {"dest": random.choice(DESTINATIONS)}, {"dest": "none"})),
        }
        for _ in range(random.choice((1, 1, 3)))
    ]


def valid(random: Random) -> Case:
    """Keys that are in the store or not, and fields that are sent or not."""
    rows = keyed_rows(random)
    return one(KEYED_V1, encoded({"instances": rows}), answered(keyed_scores(rows)))


def missing_field(random: Random) -> Case:
    """The same for a request field, by either protocol; one that is left out takes its default, if there is any."""
    row = {"carrier": "AA", "seat": 7, "hour": random.choice((None, float("nan")))}
    if random.random() < 0.3:
        del row["hour"]
    if random.random() < 0.5:
        return one(KEYED_V1, encoded({"instances": [row]}), refused("hour"))
    kinds = {"carrier": "BYTES", "seat": "INT64", "hour": "FP64"}
    columns = [tensor(n, kinds[n], [1], [v]) for n, v in row.items()]
    return one(KEYED_V2, encoded({"inputs": columns}), refused("hour"))


def bad_key(random: Random) -> Case:
    """An entity key that is absent, or of another type than its entity's."""
    rows = keyed_rows(random)
    at = random.randrange(len(rows))
    key = random.choice(("carrier", "seat"))
    if random.random() < 0.25:
        del rows[at][key]
    elif key == "carrier":
        rows[at][key] = random.choice(NO_TEXTS)
    else:
        rows[at][key] = random.choice((1.5, "7", True, None, [7], {}, 1 << 63, -(1 << 63) - 1, 10**30))
    return one(KEYED_V1, encoded({"instances": rows}), refused(f"[{at}].{key}"))


def bad_field(random: Random) -> Case:
    """A request field of another type."""
    rows = keyed_rows(random)
    at = random.randrange(len(rows))
    key = random.choice(("hour", "distance", "dest"))
    values: tuple[Any, ...] = (1, True, [], {}, 1.5) if key == "dest" else (*NO_NUMBERS, True, 1e39, 10**400)
    rows[at][key] = random.choice(values)
    return one(KEYED_V1, encoded({"instances": rows}), refused(f"[{at}].{key}"))


def bad_columns(random: Random) -> Case:
    """Columns that do not make rows."""
    columns = [
        tensor("carrier", "BYTES", [2], ["AA", "UA"]),
        tensor("seat", "INT64", [2], [7, 7]),
        tensor("hour", "FP64", [2], [1.0, 2.0]),
    ]
    column = random.choice(columns)
    name = str(column["name"])
    way = random.randrange(5)
    if way == 0:
        columns.append(dict(column))
    elif way == 1:
        column["shape"], column["data"] = [3], [*column["data"], column["data"][0]]
        name = "rows"
    elif way == 2:
        column["shape"] = random.choice(([1], [3], [2, 2], [0], [1 << 40], [2, 1, 1]))
    elif way == 3:
        column["data"][1] = random.choice(([], {}, True))
    else:
        columns = [c for c in columns if c is not column]
    return one(KEYED_V2, encoded({"inputs": columns}), refused(name))


def too_many_rows(random: Random) -> Case:
    """More rows than are scored at once."""
    return one(
        KEYED_V1, encoded({"instances": [{}] * random.choice((4097, 50_000))}), refused("instances", "4096")
    )


MUTATIONS: dict[str, Mutation] = {
    "entity keys": valid,
    "missing field": missing_field,
    "entity key": bad_key,
    "request field": bad_field,
    "columns": bad_columns,
    "too many rows": too_many_rows,
}
