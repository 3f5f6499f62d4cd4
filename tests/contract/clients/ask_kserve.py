"""Ask a server everything that KServe's clients can ask; run in the environment of requirements/conformance.lock.

Reads one JSON object from stdin ({"address", "rows", "token"}), writes one to stdout: what the client made of each
answer, and of each refusal its status and message.

    python ask_kserve.py v1|v2|grpc < questions.json
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable
from typing import Any

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferOutput, InferRequest, RESTConfig
from kserve.protocol.grpc.grpc_predict_v2_pb2 import (
    ModelReadyRequest,
    RepositoryModelLoadRequest,
    RepositoryModelUnloadRequest,
)
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

DATATYPES = {"f4": "FP32", "f8": "FP64", "i8": "INT64"}


def request(
    model: str, tensors: dict[str, Any], *, raw: bool, outputs: list[str] | None = None
) -> InferRequest:
    inputs = []
    for name, values in tensors.items():
        given = InferInput(name, list(values.shape), DATATYPES.get(values.dtype.str[1:], "BYTES"))
        given.set_data_from_numpy(values, binary_data=raw)
        inputs.append(given)
    # of an output that is asked for the client needs no more than its name
    wanted = [InferOutput(name, [], "") for name in outputs or ()]
    return InferRequest(
        model_name=model, infer_inputs=inputs, request_id="request-7", request_outputs=wanted or None
    )


def read(answer: Any) -> dict[str, Any]:
    """The outputs of an answer, and what describes it."""
    outputs = {
        o.name: [v.decode() if isinstance(v, bytes) else v for v in o.as_numpy().reshape(-1).tolist()]
        for o in answer.outputs
    }
    described = {"id": answer.id, "model_name": answer.model_name, "model_version": answer.model_version}
    return {"outputs": outputs, "shapes": {o.name: list(o.shape) for o in answer.outputs}, **described}


async def refused(asked: Awaitable[Any]) -> dict[str, Any]:
    try:
        return {"answered": str(await asked)}
    except httpx.HTTPStatusError as problem:
        return {"status": str(problem.response.status_code), "message": str(problem)}
    except grpc.RpcError as problem:
        return {"status": str(problem.code()), "message": problem.details()}


async def ask_v1(address: str, rows: Any) -> dict[str, Any]:
    client = InferenceRESTClient(RESTConfig(protocol="v1"))
    carriers = [
        {"carrier": "UA", "distance": d, "origin": o} for d, o in ((-0.5, "JFK"), (0.25, "LGA"), (1.5, "LGA"))
    ]
    kinds = [{"text": ["a", "ü"], "count": [1, 2], "amount": [0.5, 1e300]}]

    async def predict(model: str, instances: Any) -> Any:
        return (await client.infer(address, {"instances": instances}, model))["predictions"]

    results = {
        "live": await client.is_server_live(address),
        "model ready": await client.is_model_ready(address, "tumours"),
        "rows": await predict("tumours", rows.tolist()),
        "features": await predict("flights", carriers),
        "kinds": await predict("kinds", kinds),
        "refused": {
            "model": await refused(predict("nobody", [[1.0]])),
            "shape": await refused(predict("tumours", rows[:, :7].tolist())),
            "key": await refused(predict("flights", [{"distance": 1.0}])),
            "explain": await refused(client.explain(address, "tumours", {"instances": []})),
        },
    }
    await client.close()
    return results


async def ask_v2(protocol: str, address: str, rows: Any, token: str) -> dict[str, Any]:
    client = (
        InferenceGRPCClient(address) if protocol == "grpc" else InferenceRESTClient(RESTConfig(protocol="v2"))
    )
    at = () if protocol == "grpc" else (address,)

    async def infer(asked: InferRequest) -> Any:
        if protocol == "grpc":
            return await client.infer(asked)
        return await client.infer(address, asked, asked.model_name)

    carriers = {
        "carrier": np.array(["UA"] * 3, dtype=object),
        "distance": np.array([-0.5, 0.25, 1.5]),
        "origin": np.array(["JFK", "LGA", "LGA"], dtype=object),
    }
    kinds = {
        "text": np.array([["a", "ü"]], dtype=object),
        "count": np.array([[1, 2]]),
        "amount": np.array([[0.5, 1e300]]),
    }
    one = {"features": rows[:1]}
    results: dict[str, Any] = {
        "live": await client.is_server_live(*at),
        "ready": await client.is_server_ready(*at),
        "model ready": await client.is_model_ready(*at, "tumours"),
        "raw": read(await infer(request("tumours", {"features": rows}, raw=True))),
        "typed": read(await infer(request("tumours", {"features": rows}, raw=False))),
        "FP64": read(await infer(request("tumours", {"features": rows.astype(np.float64)}, raw=True))),
        "features raw": read(await infer(request("flights", carriers, raw=True))),
        "features typed": read(await infer(request("flights", carriers, raw=False))),
        "kinds raw": read(await infer(request("kinds", kinds, raw=True))),
        "kinds typed": read(await infer(request("kinds", kinds, raw=False))),
        "one output": read(await infer(request("kinds", kinds, raw=True, outputs=["count_out"]))),
        "refused": {
            "model": await refused(infer(request("nobody", one, raw=True))),
            "shape": await refused(infer(request("tumours", {"features": rows[:, :7]}, raw=True))),
            "key": await refused(infer(request("flights", {"distance": np.array([1.0])}, raw=False))),
        },
    }
    if protocol == "grpc":
        results["loaded"] = await load_and_unload(address, token)
    await client.close()
    return results


async def load_and_unload(address: str, token: str) -> list[bool]:
    """KServe's messages for it, which its client has no methods for; returns what the answers say of it."""
    metadata = (("authorization", f"Bearer {token}"),)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        loaded = await stub.RepositoryModelLoad(
            RepositoryModelLoadRequest(model_name="spare"), metadata=metadata
        )
        ready = await stub.ModelReady(ModelReadyRequest(name="spare", version="2"))
        gone = await stub.RepositoryModelUnload(
            RepositoryModelUnloadRequest(model_name="spare"), metadata=metadata
        )
    return [loaded.isLoaded, ready.ready, gone.isUnloaded]


def main() -> None:
    protocol, questions = sys.argv[1], json.load(sys.stdin)
    rows = np.array(questions["rows"], dtype=np.float32)
    address = questions["address"]
    asked = ask_v1(address, rows) if protocol == "v1" else ask_v2(protocol, address, rows, questions["token"])
    json.dump(asyncio.run(asked), sys.stdout)


if __name__ == "__main__":
    main()
