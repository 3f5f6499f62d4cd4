"""Mutations of tensors: raw bytes behind the JSON, and the model that takes tensors of every kind."""

from __future__ import annotations

import struct
from random import Random
from typing import Any

import numpy as np

from benchmarks.serving.fuzz_case import (
    PLAIN_V2,
    TENSORS_V2,
    Case,
    Expected,
    Mutation,
    answered,
    encoded,
    one,
    refused,
    tensor,
)
from benchmarks.serving.fuzz_documents import rows_of
from benchmarks.serving.fuzz_models import LABELS
from benchmarks.serving.fuzz_subject import FEATURES, REQUIRED, plain_scores, tensor_totals

HEADER = "inference-header-content-length"


def raw_request(
    path: str, header: dict[str, Any], raw: bytes, expected: Expected, length: int | None = None
) -> Case:
    """A request of JSON and raw tensors behind it."""
    text = encoded(header)
    return one(path, text + raw, expected, {HEADER: len(text) if length is None else length})


def matrix(random: Random) -> Case:
    """One raw matrix; what is missing or infinite in it as much as in JSON."""
    rows = rows_of(random)
    datatype = random.choice(("FP32", "FP64"))
    expected: Expected | None = None
    if random.random() < 0.5:
        row, column = random.randrange(len(rows)), random.randrange(FEATURES)
        rows[row, column] = random.choice((np.nan, np.inf, -np.inf))
        if np.isinf(rows[row, column]) or column < REQUIRED:
            expected = refused(f"f{column}")
    content = rows.astype("<f4" if datatype == "FP32" else "<f8").tobytes()
    described: dict[str, Any] = {"name": "features", "datatype": datatype, "shape": list(rows.shape)}
    described["parameters"] = {"binary_data_size": len(content)}
    return raw_request(PLAIN_V2, {"inputs": [described]}, content, expected or answered(plain_scores(rows)))


def broken_matrix(random: Random) -> Case:
    """Raw bytes that are cut, too many, or of another size than is said."""
    rows = rows_of(random)
    content = rows.astype("<f4").tobytes()
    described: dict[str, Any] = {"name": "features", "datatype": "FP32", "shape": list(rows.shape)}
    header = {"inputs": [described]}
    cut = random.randrange(len(content))
    way = random.randrange(7)
    if way == 0:  # less bytes than the size says
        described["parameters"] = {"binary_data_size": len(content)}
        return raw_request(PLAIN_V2, header, content[:cut], refused("binary_data_size"))
    if way == 1:  # a size that the shape does not have
        described["parameters"] = {"binary_data_size": cut}
        return raw_request(PLAIN_V2, header, content, refused("'features'"))
    if way == 2:
        size: Any = random.choice((-1, 1.5, "8", True, 1 << 70, [], {}))
        described["parameters"] = {"binary_data_size": size}
        return raw_request(PLAIN_V2, header, content, refused("binary_data_size"))
    described["parameters"] = {"binary_data_size": len(content)}
    if way == 3:  # bytes that no tensor takes
        more = content + random.randbytes(random.randint(1, 9))
        return raw_request(PLAIN_V2, header, more, refused("the body"))
    if way == 4:
        described["data"] = rows.ravel().tolist()
        return raw_request(PLAIN_V2, header, content, refused("data"))
    if way == 5:
        described["parameters"] = random.choice(([], "x", 3))
        return raw_request(PLAIN_V2, header, content, refused("parameters"))
    length = random.randrange(1, len(encoded(header)))
    return raw_request(PLAIN_V2, header, content, refused("the body"), length)


def _valid(random: Random) -> tuple[dict[str, dict[str, Any]], Expected]:
    count = random.choice((1, 1, 2, 4))
    image = np.array([random.gauss(0, 2) for _ in range(count * 6)], dtype=np.float32).reshape(count, 2, 3)
    counts = np.array([random.randint(-9, 9) for _ in range(count * 2)], dtype=np.int32).reshape(count, 2)
    labels = [random.choice((*LABELS, "é", "")) for _ in range(count)]
    flags = [random.random() < 0.5 for _ in range(count)]
    tensors = {
        "image": tensor("image", "FP32", image.shape, image.ravel().tolist()),
        "counts": tensor("counts", "INT32", counts.shape, counts.ravel().tolist()),
        "label": tensor("label", "BYTES", [count], labels),
        "flag": tensor("flag", "BOOL", [count], flags),
    }
    return tensors, answered(tensor_totals(image, counts, labels, flags))


def tensors(random: Random) -> Case:
    """A valid request in JSON, raw, or mixed, and any of the outputs raw."""
    given, expected = _valid(random)
    document: dict[str, Any] = {"inputs": list(given.values())}
    raw = b""
    for described in document["inputs"]:
        if random.random() < 0.5:
            content = _raw(described)
            raw += content
            described["parameters"] = {"binary_data_size": len(content)}
            del described["data"]
    if random.random() < 0.5:
        document["outputs"] = [
            {"name": name, "parameters": {"binary_data": random.random() < 0.5}}
            for name in ("total", "text", "wide")
        ]
    elif random.random() < 0.5:
        document["parameters"] = {"binary_data_output": True}
    return (
        raw_request(TENSORS_V2, document, raw, expected)
        if raw
        else one(TENSORS_V2, encoded(document), expected)
    )


BAD_VALUES: dict[str, tuple[Any, ...]] = {
    "image": ("x", True, {}, [1.0], 1e39, float("inf"), 10**400),
    "counts": (1.5, "1", True, None, 1 << 31, -(1 << 31) - 1, 1 << 63, 1 << 70, float("nan"), [1]),
    "label": (1, 1.5, True, None, {}, ["a"]),
    "flag": (0, 1, "true", None, {}, 1.0),
}
"""What a tensor's datatype does not hold."""


def bad_value(random: Random) -> Case:
    """One value that the tensor's datatype does not hold."""
    given, _ = _valid(random)
    name = random.choice(tuple(BAD_VALUES))
    data = given[name]["data"]
    data[random.randrange(len(data))] = random.choice(BAD_VALUES[name])
    return one(TENSORS_V2, encoded({"inputs": list(given.values())}), refused(f"'{name}'"))


def bad_tensor(random: Random) -> Case:
    """A tensor that is missing, given twice, unknown, or of another shape or datatype."""
    given, _ = _valid(random)
    name = random.choice(tuple(given))
    chosen = given[name]
    inputs = list(given.values())
    way = random.randrange(5)
    if way == 0:
        inputs.remove(chosen)
    elif way == 1:
        inputs.append(dict(chosen))
    elif way == 2:
        name = "more"
        inputs.append({**chosen, "name": name})
    elif way == 3:
        sizes = chosen["shape"]
        chosen["shape"] = random.choice(([*sizes, 1], sizes[1:], [sizes[0] + 1, *sizes[1:]], [0, *sizes[1:]]))
    else:
        chosen["datatype"] = "BYTES" if name != "label" else "FP32"
    return one(TENSORS_V2, encoded({"inputs": inputs}), refused(name if way != 3 else "shape"))


def other_datatype(random: Random) -> Case:
    """Raw values of another datatype: taken where every value is one of the model's too, refused where not."""
    given, expected = _valid(random)
    counts = given["counts"]
    values = np.array(counts["data"], dtype=np.int64)
    if random.random() < 0.5:
        values[random.randrange(len(values))] = random.choice((1 << 40, -(1 << 40), 1 << 31))
        expected = refused("'counts'")
    counts["datatype"] = "INT64"
    counts["parameters"] = {"binary_data_size": values.nbytes}
    del counts["data"]
    return raw_request(TENSORS_V2, {"inputs": list(given.values())}, values.astype("<i8").tobytes(), expected)


def broken_texts(random: Random) -> Case:
    """Raw strings whose lengths do not add up, or which are no UTF-8."""
    given, _ = _valid(random)
    label = given["label"]
    content = _raw(label)
    broken = (
        content[:-1] if content[-1:] != b"\x00" else content[:-2],
        content + b"\x00",
        content + struct.pack("<I", 1),
        struct.pack("<I", 0xFFFFFFFF) + content[4:],
        struct.pack("<I", len(content) * 2) + content[4:],
        struct.pack("<I", 2) + b"\xff\xfe" + content[4 + struct.unpack_from("<I", content)[0] :],
    )
    content = random.choice(broken)
    label["parameters"] = {"binary_data_size": len(content)}
    del label["data"]
    return raw_request(TENSORS_V2, {"inputs": list(given.values())}, content, refused("'label'"))


def _raw(described: dict[str, Any]) -> bytes:
    data = described["data"]
    if described["datatype"] == "BYTES":
        return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in data)
    kinds = {"FP32": "<f4", "INT32": "<i4", "BOOL": "?"}
    return np.array(data, dtype=kinds[described["datatype"]]).tobytes()


MUTATIONS: dict[str, Mutation] = {
    "raw matrix": matrix,
    "broken raw matrix": broken_matrix,
    "tensors": tensors,
    "tensor value": bad_value,
    "tensor": bad_tensor,
    "tensor datatype": other_datatype,
    "raw strings": broken_texts,
}
