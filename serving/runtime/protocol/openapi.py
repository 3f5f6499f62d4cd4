"""The server's OpenAPI 3.1 document: every path of `routes`, exact for the models that are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serving.runtime.contract import Contract
from serving.runtime.options import Options
from serving.runtime.protocol import examples, schemas
from windlass import __version__

JSON = "application/json"
RAW = "application/octet-stream"
STATUSES = {
    "400": "the request is malformed; the message names the field, the value and what is expected",
    "401": "the path asks for a token, and the request bears none that is known",
    "403": "the path is switched off: the server was started without a token",
    "404": "there is no such path, model or version here",
    "405": "the path exists for other methods",
    "408": "the request did not arrive completely in time",
    "413": "the body is over the limit",
    "414": "the request target is over the limit",
    "415": "the body is in an encoding that is not read here",
    "431": "the header section is over the limit",
    "500": "the model or the server failed on this request",
    "503": "the server cannot answer now, or sheds load; `retry-after` says when to ask again",
    "504": "the time that the caller gave is over",
}
ALWAYS = ("400", "405", "408", "413", "414", "415", "431", "500", "503")
"""What framing, limits and a bug can answer on any path."""
_NAME = {"type": "string", "pattern": "^[A-Za-z0-9._-]+$"}

Document = dict[str, Any]


def document(contracts: Sequence[Contract], options: Options) -> Document:
    """Describe every path that this server answers.

    Args:
        contracts: of the loaded versions; of each model's, the last one answers where no version is named.
    """
    defaults = {c.name: c for c in contracts}
    paths = {**_server(list(defaults)), **_repository(options)}
    for contract in defaults.values():
        paths |= _v1(contract, options) | _v2(contract, f"/v2/models/{contract.name}", options)
    for contract in contracts:
        paths |= _v2(contract, f"/v2/models/{contract.name}/versions/{contract.version}", options)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Windlass model server",
            "version": __version__,
            "description": "KServe's V1 and the Open Inference Protocol V2, for the models that are loaded now.",
        },
        "tags": [{"name": name} for name in dict.fromkeys((*defaults, "server", "repository"))],
        "paths": paths,
        "components": {
            "schemas": {"Error": schemas.object_of({"error": {"type": "string"}})},
            "headers": {
                "request-id": {
                    "description": "the id that the request stated, else a new one",
                    "schema": {"type": "string"},
                },
                "retry-after": {
                    "description": "seconds after which it is worth to ask again",
                    "schema": {"type": "integer", "minimum": 1},
                },
            },
            "responses": {status: _refused(text, status) for status, text in STATUSES.items()},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "the token that the server was started with",
                }
            },
        },
    }


def _server(models: list[str]) -> Document:
    state = {"live": "whether a restart would not help", "ready": "whether the server takes traffic"}
    listed = {"models": {"type": "array", "items": {"enum": models} if models else False}}
    described = schemas.object_of(
        {
            "name": {"const": "windlass"},
            "version": {"type": "string"},
            "extensions": {"type": "array", "items": {"type": "string"}},
        }
    )
    paths = {
        "/": _get("alive", "Say that the server is there", schemas.object_of({"status": {"const": "alive"}})),
        "/v1/models": _get("models", "List the models", schemas.object_of(listed)),
        "/v2": _get("server", "Describe the server", described),
        "/metrics": _get("metrics", "Counters in Prometheus' text format", {"type": "string"}, "text/plain"),
        "/openapi.json": _get("openapi", "This document", {"type": "object"}),
        "/docs": _get("docs", "This document as a page", {"type": "string"}, "text/html"),
    }
    for name, text in state.items():
        paths[f"/v2/health/{name}"] = _state(name, f"Say {text}", {name: {"type": "boolean"}}, "server")
    return paths


def _repository(options: Options) -> Document:
    entry = schemas.object_of(
        {
            "name": _NAME,
            "version": _NAME,
            "state": {"enum": ["READY", "UNAVAILABLE"]},
            "reason": {"type": "string"},
        }
    )
    ready = {"ready": {"type": "boolean", "description": "list those alone that answer now"}}
    version = schemas.object_of({"version": {"type": ["string", "null"]}}, [])
    load = schemas.object_of({"parameters": {**version, "type": ["object", "null"]}}, [])
    loaded = schemas.object_of({"name": _NAME, "version": _NAME, "state": {"const": "READY"}})
    unloaded = schemas.object_of({"name": _NAME, "state": {"const": "UNAVAILABLE"}})
    model = {"name": "model", "in": "path", "required": True, "schema": _NAME}
    at = "/v2/repository/models/{model}"
    return {
        "/v2/repository/index": {
            "post": _guarded(
                "index",
                "List the versions that answer or could be loaded",
                {"type": "array", "items": entry},
                schemas.object_of(ready, []),
                options,
            )
        },
        f"{at}/load": {
            "parameters": [model],
            "post": _guarded(
                "load", "Load a version, or the newest, in place of those that answer", loaded, load, options
            ),
        },
        f"{at}/unload": {
            "parameters": [model],
            "post": _guarded("unload", "Take all versions of a model out", unloaded, None, options),
        },
    }


def _v1(contract: Contract, options: Options) -> Document:
    path, name = f"/v1/models/{contract.name}", contract.name
    state = {"name": {"const": name}, "ready": {"type": "boolean"}}
    body = {
        JSON: {
            "schema": schemas.v1_request(contract, options.most_rows),
            "example": examples.v1(contract),
        }
    }
    answer = {JSON: {"schema": schemas.v1_response(contract)}}
    return {
        path: _state(f"{name}-v1-ready", "Say whether the model answers", state, name, "404"),
        f"{path}:predict": {
            "post": _predicting(f"{name}-v1-predict", "Predict, V1", contract, options, body, answer)
        },
    }


def _v2(contract: Contract, path: str, options: Options) -> Document:
    name = contract.name
    key = path.removeprefix("/v2/models/").replace("/versions/", "-")
    state = {"name": {"const": name}, "ready": {"type": "boolean"}}
    tensors = {
        "type": "array",
        "items": schemas.object_of(
            {
                "name": {"type": "string"},
                "datatype": {"type": "string"},
                "shape": {"type": "array", "items": {"type": "integer"}},
            }
        ),
    }
    metadata = schemas.object_of(
        {
            "name": {"const": name},
            "versions": {"const": [contract.version]},
            "platform": {"type": "string"},
            "inputs": tensors,
            "outputs": tensors,
            "parameters": {"type": "object"},
        }
    )
    body = {
        JSON: {
            "schema": schemas.v2_request(contract, options.most_rows),
            "example": examples.v2(contract),
        },
        RAW: {},
    }
    answer: Document = {JSON: {"schema": schemas.v2_response(contract)}, RAW: {}}
    infer = _predicting(f"{key}-v2-infer", "Infer, V2", contract, options, body, answer)
    infer["description"] = (
        "Where the header inference-header-content-length says how many bytes of the body are JSON, raw little-endian "
        "tensors follow, in the order of the inputs whose parameter binary_data_size gives their bytes. The answer is "
        "such a body too where outputs ask for binary_data, or the request for binary_data_output."
    )
    # of the binary extension; a body without it is JSON, whatever its content type says
    infer["parameters"].append(
        {
            "name": "inference-header-content-length",
            "in": "header",
            "schema": {"type": "integer", "minimum": 1},
            "description": "bytes of the body's JSON, where raw tensors follow",
        }
    )
    return {
        path: {"get": _operation(f"{key}-v2-metadata", "Describe the model", name, metadata, ("404",))},
        f"{path}/ready": _state(f"{key}-v2-ready", "Say whether the version answers", state, name, "404"),
        f"{path}/infer": {"post": infer},
    }


# ---- operations


def _predicting(
    key: str, summary: str, contract: Contract, options: Options, body: Document, answer: Document
) -> Document:
    operation = _operation(key, summary, contract.name, {}, ("404", "504"))
    operation["requestBody"] = {"required": True, "content": body}
    operation["parameters"] = [
        {
            "name": "x-request-id",
            "in": "header",
            "schema": schemas.ID,
            "description": "the id of the request in answers and logs",
        }
    ]
    if options.replay_clock:
        operation["parameters"].append(
            {
                "name": "x-windlass-at",
                "in": "header",
                "schema": {"type": "number"},
                "description": "the time for which features are read, seconds since the epoch",
            }
        )
    done = operation["responses"]["200"]
    done["content"] = answer
    done["headers"] |= {
        "x-windlass-version": {"schema": {"const": contract.version}},
        "x-windlass-feature-source": {"schema": schemas.ANSWERED["feature_source"]},
    }
    return operation


def _guarded(key: str, summary: str, answer: Document, body: Document | None, options: Options) -> Document:
    if options.token is None:
        operation = _operation(key, summary, "repository", answer, ("403",))
        operation["description"] = "Switched off here: the server was started without a token."
    else:
        operation = _operation(key, summary, "repository", answer, ("401", "404"))
        operation["security"] = [{"token": []}]
    if body is not None:
        operation["requestBody"] = {"content": {JSON: {"schema": body}}}
    return operation


def _state(key: str, summary: str, properties: Document, tag: str, *statuses: str) -> Document:
    schema = schemas.object_of(properties)
    operation = _operation(key, summary, tag, schema, statuses)
    # the same document says no, where the server itself does not refuse
    operation["responses"]["503"] = {
        **_refused("it does not, or the server cannot answer now", "503"),
        "content": {JSON: {"schema": {"anyOf": [schema, {"$ref": "#/components/schemas/Error"}]}}},
    }
    return {"get": operation}


def _get(key: str, summary: str, schema: Document, media: str = JSON) -> Document:
    return {"get": _operation(key, summary, "server", schema, (), media)}


def _operation(
    key: str, summary: str, tag: str, schema: Document, statuses: Sequence[str], media: str = JSON
) -> Document:
    done = {
        "description": "done",
        "headers": {"x-request-id": {"$ref": "#/components/headers/request-id"}},
        "content": {media: {"schema": schema}},
    }
    refused = {s: {"$ref": f"#/components/responses/{s}"} for s in sorted({*ALWAYS, *statuses})}
    return {"operationId": key, "summary": summary, "tags": [tag], "responses": {"200": done, **refused}}


def _refused(text: str, status: str) -> Document:
    headers: Document = {"x-request-id": {"$ref": "#/components/headers/request-id"}}
    if status == "503":
        headers["retry-after"] = {"$ref": "#/components/headers/retry-after"}
    if status == "405":
        headers["allow"] = {"schema": {"type": "string"}}
    return {
        "description": text,
        "headers": headers,
        "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
