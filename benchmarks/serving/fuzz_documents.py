"""Mutations of JSON documents: V1 and V2 requests to models of rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

from benchmarks.serving.fuzz_case import (
    CLASSES_V2,
    KEYED_V1,
    PLAIN_V1,
    PLAIN_V2,
    UNKNOWN,
    Case,
    Mutation,
    answered,
    encoded,
    one,
    refused,
    tensor,
)
from benchmarks.serving.fuzz_models import LIMIT, Rows
from benchmarks.serving.fuzz_oracle import judge
from benchmarks.serving.fuzz_subject import (
    CLASS_FEATURES,
    FEATURES,
    REQUIRED,
    class_scores,
    plain_scores,
)

NO_NUMBERS: tuple[Any, ...] = ("1", "", "NaN", {}, {"a": 1}, [1.0], [])
HUGE = ("1e400", "-1e400", "1" + "0" * 400, "-" + "9" * 320, "3.5e38", "-1e39", "1" + "0" * 4000)
NESTED = 100_000


def rows_of(random: Random, count: int | None = None, width: int = FEATURES) -> Rows:
    """Rows as a client sends them."""
    shape = (count or random.choice((1, 1, 1, 2, 5)), width)
    values = [round(random.gauss(0, 1), 4) for _ in range(shape[0] * width)]
    return np.array(values, dtype=np.float32).reshape(shape)


def plain_v2(rows: Rows) -> dict[str, Any]:
    """A valid V2 request to the plain model."""
    return {"inputs": [tensor("features", "FP32", rows.shape, rows.ravel().tolist())]}


# ---- what stays valid


def valid(random: Random) -> Case:
    """One of the ways in which a request may be written."""
    rows = rows_of(random)
    scores = plain_scores(rows)
    way = random.randrange(5)
    if way == 0:
        return one(PLAIN_V1, encoded({"instances": rows.tolist()}), answered(scores))
    if way == 1:
        named = [{f"f{i}": v for i, v in enumerate(row)} for row in rows.tolist()]
        return one(PLAIN_V1, encoded({"inputs": named, "unknown": {}}), answered(scores))
    if way == 2:
        columns = [tensor(f"f{i}", "FP64", [len(rows)], column) for i, column in enumerate(rows.T.tolist())]
        random.shuffle(columns)
        return one(PLAIN_V2, encoded({"inputs": columns}), answered(scores))
    if way == 3:
        few = rows_of(random, width=CLASS_FEATURES)
        nested = tensor("x", "FP32", few.shape, few.tolist())
        return one(CLASSES_V2, encoded({"inputs": [nested]}), answered(class_scores(few)))
    version = random.choice(("", "/versions/1", "/versions/2"))
    path = f"/v2/models/plain{version}/infer"
    document = {
        **plain_v2(rows),
        "id": "a-1",
        "parameters": {"timeout": random.choice((5_000_000, 10**18, 10**400))},
    }
    return one(path, json.dumps(document, indent=random.choice((None, 1))).encode(), answered(scores))


def missing(random: Random) -> Case:
    """NaN or null: served as missing where the signature allows it, and refused by name where not."""
    rows = rows_of(random)
    row, column = random.randrange(len(rows)), random.randrange(FEATURES)
    rows[row, column] = np.nan
    data: list[Any] = rows.ravel().tolist()
    if random.random() < 0.5:
        data[row * FEATURES + column] = None
    document = {"inputs": [tensor("features", random.choice(("FP32", "FP64")), rows.shape, data)]}
    expected = refused(f"f{column}") if column < REQUIRED else answered(plain_scores(rows))
    return one(PLAIN_V2, encoded(document), expected)


# ---- numbers


def infinite(random: Random) -> Case:
    """Infinities and numbers beyond float32, in every spelling."""
    rows = rows_of(random)
    at = random.randrange(rows.size)
    text = random.choice((*HUGE, "Infinity", "-Infinity"))
    body = encoded(plain_v2(rows))
    head, _, rest = body.partition(b'"data":[')
    values = rest[:-4].split(b",")
    values[at] = text.encode()
    body = head + b'"data":[' + b",".join(values) + rest[-4:]
    return one(PLAIN_V2, body, refused(f"f{at % FEATURES}"))


def large(random: Random) -> Case:
    """Numbers that are large and still numbers, integers beyond 64 bit among them."""
    rows = rows_of(random, 1)
    data: list[Any] = rows.ravel().tolist()
    at = random.randrange(FEATURES)
    data[at] = random.choice((3e38, -3e38, 1 << 63, 1 << 64, -(1 << 70), 10**38, 5e-324, -0.0))
    rows[0, at] = np.clip(float(data[at]), -LIMIT, LIMIT)
    return one(PLAIN_V1, encoded({"instances": [data]}), answered(plain_scores(rows)))


def no_number(random: Random) -> Case:
    """A value that is none, where a number is meant."""
    rows = rows_of(random)
    data: list[Any] = rows.ravel().tolist()
    at = random.randrange(1, rows.size)
    value = random.choice((*NO_NUMBERS, True, False))
    data[at] = value
    named = f"data[{at}]" if isinstance(value, bool) else f"f{at % FEATURES}"
    return one(PLAIN_V2, encoded({"inputs": [tensor("features", "FP32", rows.shape, data)]}), refused(named))


# ---- documents


def no_json(random: Random) -> Case:
    """What is no JSON document at all."""
    body = encoded(plain_v2(rows_of(random)))
    at = random.randrange(1, len(body))
    bodies = (
        body[:at],
        b"",
        b"\x00" * at,
        body + random.choice((b"}", b"[]", b"x", b"\x00")),
        body.replace(b":", b"", 1),
        body.replace(b'"inputs"', b"'inputs'"),
        body.replace(b"[", b"[,", 1),
        b"\xef\xbb\xbf" + body,
        body.decode().encode("utf-16"),
        body[:at] + b"\xff\xfe" + body[at:],
        body.replace(b'"FP32"', b'"FP\xc3"'),
        body.replace(b'"FP32"', b'"FP\\ud800"'),
        body.replace(b'"FP32"', b'"FP\x01"'),
        body.replace(b"}", b',"x":NaN,"y":"\\udfff"}', 1),
        random.randbytes(at),
    )
    return one(random.choice((PLAIN_V1, PLAIN_V2)), random.choice(bodies), refused("the body"))


def other_json(random: Random) -> Case:
    """JSON that is no request."""
    document: Any = random.choice((None, True, 3, "x", [], [1, 2], [{}], 1.5, [[]]))
    return one(random.choice((PLAIN_V1, PLAIN_V2, KEYED_V1)), encoded(document), refused("the body"))


def nested(random: Random) -> Case:
    """Brackets without end, closed or not, alone or as a value."""
    depth = random.choice((1100, 20_000, NESTED))
    opening, closing = random.choice(((b"[", b"]"), (b'{"a":', b"}")))
    deep = opening * depth + b"1" + closing * random.choice((0, depth))
    body = random.choice((deep, b'{"inputs":' + deep + b"}", b'{"x":NaN,"instances":' + deep + b"}"))
    return one(random.choice((PLAIN_V1, PLAIN_V2)), body, refused("the body"))


def duplicate_keys(random: Random) -> Case:
    """A key given twice: the last one counts, as in every JSON library."""
    rows = rows_of(random)
    inputs = encoded(plain_v2(rows)["inputs"])
    if random.random() < 0.5:
        return one(PLAIN_V2, b'{"inputs":3,"inputs":%s}' % inputs, answered(plain_scores(rows)))
    return one(PLAIN_V2, b'{"inputs":%s,"inputs":3}' % inputs, refused("inputs"))


def damaged(random: Random) -> Case:
    """A few bytes of a valid body changed, whatever comes of it."""
    rows = rows_of(random, 1)
    body = bytearray(encoded({"id": "abc", **plain_v2(rows)}))
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(body))
        way = random.randrange(3)
        if way == 0:
            body[at] = random.choice((body[at] ^ 1 << random.randrange(8), random.randrange(256)))
        elif way == 1:
            del body[at : at + random.randint(1, 4)]
        else:
            body[at:at] = bytes((random.choice(b'0123456789.,-+eE"[]{}:ntf x'),))
    return one(PLAIN_V2, bytes(body), judge(bytes(body)))


def _edited(edit: Callable[[dict[str, Any], Any], object], values: tuple[Any, ...], *names: str) -> Mutation:
    def mutation(random: Random) -> Case:
        document = plain_v2(rows_of(random, 2))
        edit(document, random.choice(values))
        return one(PLAIN_V2, encoded(document), refused(*names))

    return mutation


def _of_tensor(key: str, values: tuple[Any, ...], *names: str) -> Mutation:
    return _edited(lambda document, value: document["inputs"][0].__setitem__(key, value), values, *names)


def _of_document(key: str, values: tuple[Any, ...], *names: str) -> Mutation:
    return _edited(lambda document, value: document.__setitem__(key, value), values, *names)


SHAPES: tuple[Any, ...] = (None, "x", {}, 60, [], [-1, 30], [2, -30], [2.0, 30], [2, 30.0], ["2", 30], [True, 30],
                           [1 << 70, 30], [2] * 9, [[2, 30]], [None, 30])  # fmt: skip
SIZES = (
    [0, 30],
    [4097, 30],
    [1 << 62, 30],
    [2, 29],
    [30, 2],
    [60],
    [2, 30, 1],
    [1, 30],
    [3, 30],
    [2, 1 << 62],
)


def unknown(random: Random) -> Case:
    """Models and versions that nobody serves."""
    body = encoded(plain_v2(rows_of(random)))
    name = random.choice(("nobody", "Plain", "plain%00", "..", "%2e%2e", "plain;x", "x" * 900, "<b>"))
    kind = random.randrange(4)
    if kind == 0:
        return one(
            f"/v2/models/plain/versions/{name}/infer", body, refused("version", name[:20], statuses=UNKNOWN)
        )
    path = (f"/v2/models/{name}/infer", f"/v1/models/{name}:predict", f"/v2/models/{name}/versions/1/infer")[
        kind - 1
    ]
    return one(path, body, refused("model", statuses=UNKNOWN))


def bad_instances(random: Random) -> Case:
    """What is no list of rows."""
    path = random.choice((PLAIN_V1, KEYED_V1))
    kind = random.randrange(3)
    if kind == 0:
        value: Any = random.choice((None, {}, "x", 3, []))
        return one(path, encoded({"instances": value}), refused("instances"))
    if kind == 1:
        rows: list[Any] = rows_of(random, 3).tolist()
        rows[random.randrange(1, 3)] = random.choice(([], [1.0], {}, None, "x", [1.0] * 31))
        return one(PLAIN_V1, encoded({"instances": rows}), refused("instances["))
    return one(KEYED_V1, encoded({"instances": [random.choice((None, [], "x", 1))]}), refused("instances[0]"))


BAD_OUTPUTS: tuple[Any, ...] = ({}, "x", 1, [{"name": "nothing"}], [{}], [1], ["nothing"], [None],
                                [{"name": "probability", "parameters": 3}])  # fmt: skip
BAD_TIMES: tuple[Any, ...] = (
    {"timeout": 0},
    {"timeout": -1},
    {"timeout": "1"},
    {"timeout": 1.5},
    {"timeout": True},
)

MUTATIONS: dict[str, Mutation] = {
    "valid": valid,
    "missing value": missing,
    "infinite": infinite,
    "large number": large,
    "no number": no_number,
    "no JSON": no_json,
    "other JSON": other_json,
    "deep nesting": nested,
    "duplicate keys": duplicate_keys,
    "damaged bytes": damaged,
    "inputs": _of_document("inputs", (None, [], {}, "x", [3], [None], [[]]), "inputs"),
    "outputs": _of_document("outputs", BAD_OUTPUTS, "outputs"),
    "parameters": _of_document("parameters", ([], "x", 1, False), "parameters"),
    "timeout": _of_document("parameters", BAD_TIMES, "parameters.timeout"),
    "id": _of_document("id", (1, {}, [], True, "a b", "é", "x" * 129, "a\r\nb: c", "\x00"), "id"),
    "tensor name": _of_tensor("name", (None, 1, [], {}), "name"),
    "datatype": _of_tensor("datatype", (None, 1, [], "float", "FP33", "BYTES", "BOOL", ""), "datatype"),
    "shape": _of_tensor("shape", SHAPES, "shape"),
    "size": _of_tensor("shape", SIZES, "'features'"),
    "data": _of_tensor("data", (None, {}, "x", 1, [], [1.0], [[1.0]], [[1.0] * 30] * 3, [[[1.0]]]), "data"),
    "unknown model": unknown,
    "instances": bad_instances,
}
