"""What a model takes and gives in V1 and V2, as JSON Schema (2020-12), from its contract.

A schema says all that JSON Schema can say. That a tensor holds as many values as its shape says, and that tensors
agree on the number of rows, it cannot: descriptions do.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.runtime.contract import Contract
from serving.runtime.engines.engine import DTYPES, TensorSpec
from serving.runtime.features.ladder import RUNGS
from serving.runtime.flow.call import ANSWERERS
from serving.runtime.identity import LONGEST_ID
from serving.runtime.signature import INTEGERS, LARGEST, Field, Signature

Schema = dict[str, Any]
_COUNTS: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}}
NUMBER: Schema = {"type": "number", "minimum": -LARGEST, "maximum": LARGEST}
ID: Schema = {"type": "string", "pattern": f"^[!-~]{{0,{LONGEST_ID}}}$"}
FLOATS = ["FP16", "FP32", "FP64"]
WHOLE = [d for d in DTYPES if d.startswith(("INT", "UINT"))]
ANSWERED: Schema = {
    "feature_source": {
        "enum": list(RUNGS),
        "description": "the lowest rung of the ladder that a feature came from",
    },
    "answered_by": {"enum": list(ANSWERERS), "description": "the model, or what stood in for it"},
}


def v1_request(contract: Contract, most_rows: int) -> Schema:
    """The body of a V1 prediction."""
    kinds = [
        {"type": "array", "minItems": 1, "maxItems": most_rows, "items": row} for row in _instances(contract)
    ]
    rows = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    return {
        "type": "object",
        "anyOf": [
            {"properties": {"instances": rows}, "required": ["instances"]},
            {"properties": {"instances": False, "inputs": rows}, "required": ["inputs"]},
        ],
    }


def v1_response(contract: Contract) -> Schema:
    """The body of its answer."""
    values = {o.name: _nested(_given(o, contract), o.shape[1:]) for o in contract.outputs}
    one = values[contract.outputs[0].name]
    row = one if len(values) == 1 else object_of(values)
    properties = {"predictions": {"type": "array", "items": row}, **ANSWERED}
    return object_of(properties)


def v2_request(contract: Contract, most_rows: int) -> Schema:
    """The body of a V2 inference in JSON."""
    outputs = [o.name for o in contract.outputs]
    wanted = object_of({"name": {"enum": outputs}, "parameters": _nullable({"type": "object"})}, ["name"])
    timeout = {"type": "integer", "minimum": 1, "description": "microseconds that the caller waits"}
    parameters = object_of({"timeout": _nullable(timeout)}, [])
    return object_of(
        {
            "id": _nullable(ID),
            "inputs": _tensors(contract, most_rows),
            "outputs": _nullable({"type": "array", "items": {"anyOf": [wanted, {"enum": outputs}]}}),
            "parameters": _nullable(parameters),
        },
        ["inputs"],
    )


def v2_response(contract: Contract) -> Schema:
    """The body of its answer, in JSON or before the raw tensors."""
    outputs = [
        object_of(
            {
                "name": {"const": o.name},
                "datatype": {"const": o.datatype},
                "shape": {**_COUNTS, "minItems": len(o.shape), "maxItems": len(o.shape)},
                "data": {"type": "array", "items": _given(o, contract)},
                "parameters": object_of({"binary_data_size": {"type": "integer"}}),
            },
            ["name", "datatype", "shape"],
        )
        for o in contract.outputs
    ]
    properties = {
        "model_name": {"const": contract.name},
        "model_version": {"const": contract.version},
        "id": ID,
        "parameters": object_of(dict(ANSWERED)),
        "outputs": {"type": "array", "items": outputs[0] if len(outputs) == 1 else {"anyOf": outputs}},
    }
    return object_of(properties)


def object_of(properties: dict[str, Schema], required: list[str] | None = None) -> Schema:
    """An object with `properties`; None requires all of them."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
    }


# ---- rows


def _instances(contract: Contract) -> list[Schema]:
    """The ways to write a row; all rows of a request are written in one."""
    signature = contract.signature
    if signature is None:
        values = {s.name: _nested(_taken(s), s.shape[1:]) for s in contract.inputs}
        return [*(values.values() if len(values) == 1 else ()), object_of(values)]
    row = _row(signature)
    if not signature.plain:
        return [row]
    fields = [_nullable(NUMBER) if f.missing else NUMBER for f in signature.fields]
    in_order = {
        "type": "array",
        "prefixItems": fields,
        "minItems": len(fields),
        "maxItems": len(fields),
        "description": f"the numbers of {', '.join(signature.names)}",
    }
    return [in_order, row]


def _row(signature: Signature) -> Schema:
    needed = [name for name, _ in signature.entities]
    needed += [f.name for f in signature.fields if _needed(f) and f.name not in needed]
    row = object_of(_columns(signature), needed)
    row["description"] = "entity keys and request fields; a name that the model does not know is ignored"
    return row


def _columns(signature: Signature) -> dict[str, Schema]:
    columns = {f.name: _field(f) for f in signature.fields}
    return columns | {name: _key(kind) for name, kind in signature.entities}


def _needed(field: Field) -> bool:
    return not field.missing and field.default != field.default


def _key(kind: str) -> Schema:
    if kind == "string":
        return {"type": "string", "description": "entity key"}
    limit = INTEGERS[kind]
    return {"type": "integer", "minimum": -limit, "maximum": limit - 1, "description": "entity key"}


def _field(field: Field) -> Schema:
    schema = dict(NUMBER)
    if field.categories is not None:
        # any other text is a missing value for the model, as an unknown category was in training
        schema = {"type": "string", "examples": list(field.categories)}
    if field.default == field.default and field.categories is None:
        schema["default"] = field.default
    return _nullable(schema) if field.missing else schema


# ---- tensors


def _tensors(contract: Contract, most_rows: int) -> Schema:
    signature = contract.signature
    rows: Schema = {"type": "integer", "minimum": 1, "maximum": most_rows}
    if signature is None:
        given = [
            _tensor(
                {} if len(contract.inputs) == 1 else {"const": s.name},
                ["BYTES"] if s.datatype == "BYTES" else [d for d in DTYPES if d != "BYTES"],
                [rows, *({"type": "integer", "minimum": 0} if n == -1 else n for n in s.shape[1:])],
                {},
            )
            for s in contract.inputs
        ]
        count = len(given)
        items = given[0] if count == 1 else {"anyOf": given}
        return {"type": "array", "minItems": count, "maxItems": count, "items": items}
    columns = _of_columns(signature, rows)
    if not signature.plain:
        return columns
    names = {"type": "string", "description": "any name"}
    values = _nullable(NUMBER) if any(f.missing for f in signature.fields) else NUMBER
    matrix = _tensor(names, [*FLOATS, *WHOLE], [rows, signature.width], values)
    return {"anyOf": [{"type": "array", "minItems": 1, "maxItems": 1, "items": matrix}, columns]}


def _of_columns(signature: Signature, rows: Schema) -> Schema:
    known: list[Schema] = []
    for names, schema in _alike(signature):
        for datatypes, values in _kinds(schema):
            known.append(_tensor({"enum": names}, datatypes, [rows], values))
            pairs = {"type": "array", "minItems": 1, "maxItems": 1, "items": values}
            known.append(_tensor({"enum": names}, datatypes, [rows, 1], pairs))
    other: Schema = {"type": "string", "not": {"enum": list(_columns(signature))}}
    unknown = _tensor(other, list(DTYPES), [rows], {})
    columns = {
        "type": "array",
        "minItems": 1,
        "items": {"anyOf": [*known, unknown]},
        "description": "a tensor for each field of a row, by its name; all of the same number of rows",
    }
    if needed := _row(signature)["required"]:
        columns["allOf"] = [
            {"contains": {"properties": {"name": {"const": name}}, "required": ["name"]}} for name in needed
        ]
    return columns


def _alike(signature: Signature) -> list[tuple[list[str], Schema]]:
    """The columns whose values have the same limits."""
    groups: list[tuple[list[str], Schema]] = []
    for name, schema in _columns(signature).items():
        limits: Schema = {key: schema[key] for key in ("type", "minimum", "maximum") if key in schema}
        for names, known in groups:
            if known == limits:
                names.append(name)
                break
        else:
            groups.append(([name], limits))
    return groups


def _kinds(schema: Schema) -> list[tuple[list[str], Schema]]:
    """Which datatypes a column may be sent in, with what they may then hold."""
    null = "null" in schema["type"]
    if "string" in schema["type"]:
        return [(["BYTES"], schema)]
    if "integer" in schema["type"]:
        return [([*WHOLE, *FLOATS], schema)]
    whole = {"type": ["integer", "null"] if null else "integer"}
    return [(FLOATS, schema), (WHOLE, {**schema, **whole})]


def _tensor(name: Schema, datatypes: list[str], shape: list[Any], values: Schema) -> Schema:
    data = {
        "type": "array",
        "items": values,
        "description": "as many values as the shape says, row by row; also nested as the shape is",
    }
    if "type" in values and values["type"] != "array" and len(shape) > 1:
        data["items"] = {"anyOf": [values, {"type": "array", "items": values}]}
    return object_of(
        {
            "name": {"type": "string", **name},
            "datatype": {"enum": datatypes},
            "shape": _shape(shape),
            "data": data,
            "parameters": _nullable({"type": "object"}),
        },
        ["name", "datatype", "shape", "data"],
    )


def _shape(sizes: list[Any]) -> Schema:
    items = [n if isinstance(n, dict) else {"const": n} for n in sizes]
    return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}


def _taken(spec: TensorSpec) -> Schema:
    """One value of an input; a missing one where its datatype knows such a value."""
    dtype = DTYPES[spec.datatype]
    if dtype.kind in "bO":
        return {"type": "boolean" if dtype.kind == "b" else "string"}
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}
    largest = float(np.finfo(dtype).max)
    return {"type": ["number", "null"], "minimum": -largest, "maximum": largest}


def _given(spec: TensorSpec, contract: Contract) -> Schema:
    """One value of an output; a score is always a number, what a model of tensors gives may be none."""
    kind = DTYPES[spec.datatype].kind
    schema = {"type": {"b": "boolean", "O": "string", "f": "number"}.get(kind, "integer")}
    return _nullable(schema) if kind == "f" and contract.signature is None else schema


def _nested(value: Schema, shape: tuple[int, ...]) -> Schema:
    for size in reversed(shape):
        value = {"type": "array", "items": value}
        if size != -1:
            value |= {"minItems": size, "maxItems": size}
    return value


def _nullable(schema: Schema) -> Schema:
    kind = schema["type"]
    return {**schema, "type": [*(kind if isinstance(kind, list) else [kind]), "null"]}
