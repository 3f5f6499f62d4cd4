"""Ask a server everything that Triton's clients can ask; run in the environment of requirements/conformance.lock.

Reads one JSON object from stdin ({"address", "rows", "token"}), writes one to stdout: what the client made of each
answer, and of each refusal its status and message.

    python ask_triton.py http|grpc < questions.json
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException

DATATYPES = {"f4": "FP32", "f8": "FP64", "i8": "INT64"}


class Asker:
    """The client and what it was told."""

    def __init__(self, protocol: str, questions: dict[str, Any]) -> None:
        self._module = importlib.import_module(f"tritonclient.{protocol}")
        self._http = protocol == "http"
        self.client = self._module.InferenceServerClient(questions["address"])
        self.rows = np.array(questions["rows"], dtype=np.float32)
        self.bearer = {"authorization": f"Bearer {questions['token']}"}

    def infer(self, model: str, tensors: dict[str, Any], *, binary: bool = True, **more: Any) -> Any:
        """Ask for a prediction; `binary` chooses between raw tensors and JSON, where there is a choice."""
        choice = {"binary_data": binary} if self._http else {}
        inputs = []
        for name, values in tensors.items():
            datatype = DATATYPES.get(values.dtype.str[1:], "BYTES")
            given = self._module.InferInput(name, list(values.shape), datatype)
            given.set_data_from_numpy(values, **choice)
            inputs.append(given)
        wanted = more.pop("outputs", None)
        if wanted is not None:
            more["outputs"] = [self._module.InferRequestedOutput(name, **choice) for name in wanted]
        return self.client.infer(model, inputs, **more)

    def scores(self, rows: Any, **more: Any) -> list[float]:
        found: list[float] = (
            self.infer("tumours", {"features": rows}, **more).as_numpy("probability").tolist()
        )
        return found

    def kinds(self, *, binary: bool) -> dict[str, Any]:
        tensors = {
            "text": np.array([["a", "ü"], ["", "b c"]], dtype=object),
            "count": np.array([[1, 2], [-3, 2**62]]),
            "amount": np.array([[0.5, 1e300], [-2.0, 3.0]]),
        }
        outputs = ["amount_out", "text_out", "count_out"]
        found = self.infer("kinds", tensors, binary=binary, outputs=outputs)
        return {
            name: [str(v) if isinstance(v, str) else plain(v) for v in found.as_numpy(name).flat]
            for name in outputs
        }

    def compressed(self, algorithm: str) -> list[float]:
        name = "request_compression_algorithm" if self._http else "compression_algorithm"
        return self.scores(self.rows, **{name: algorithm})

    def document(self, answer: Any) -> Any:
        """What the client gave for a description, as JSON has it."""
        if self._http:
            return answer
        from google.protobuf.json_format import MessageToDict

        return MessageToDict(answer, preserving_proto_field_name=True)


def plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value.item()


def refused(ask: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"answered": str(ask())}
    except InferenceServerException as problem:
        return {"status": problem.status(), "message": problem.message()}


def main() -> None:
    asker = Asker(sys.argv[1], json.load(sys.stdin))
    client, rows = asker.client, asker.rows
    carriers = {
        "carrier": np.array(["UA"] * 3, dtype=object),
        "distance": np.array([-0.5, 0.25, 1.5]),
        "origin": np.array(["JFK", "LGA", "LGA"], dtype=object),
    }
    one = {"features": rows[:1]}
    results: dict[str, Any] = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model ready": client.is_model_ready("tumours"),
        "version ready": client.is_model_ready("tumours", "1"),
        "server": asker.document(client.get_server_metadata()),
        "metadata": {
            name: asker.document(client.get_model_metadata(name)) for name in ("tumours", "flights", "kinds")
        },
        "raw": asker.scores(rows),
        "one row": asker.scores(rows[:1]),
        "JSON": asker.scores(rows, binary=False),
        "FP64": asker.scores(rows.astype(np.float64)),
        "version": asker.scores(rows, model_version="1"),
        "output named": asker.scores(rows, outputs=["probability"]),
        "timeout": asker.scores(rows, timeout=2_000_000),
        "gzip": asker.compressed("gzip"),
        "deflate": asker.compressed("deflate"),
        "features": asker.infer("flights", carriers).as_numpy("probability").tolist(),
        "kinds raw": asker.kinds(binary=True),
        "kinds JSON": asker.kinds(binary=False),
        "answer": asker.document(asker.infer("tumours", one, request_id="request-7").get_response()),
        "index": asker.document(client.get_model_repository_index(headers=asker.bearer)),
    }
    client.load_model("spare", headers=asker.bearer)
    results["loaded"] = [
        client.is_model_ready("spare", "2"),
        asker.infer("spare", {"features": rows}).as_numpy("probability").tolist(),
    ]
    client.unload_model("spare", headers=asker.bearer)
    results["refused"] = {
        "unloaded": refused(lambda: asker.infer("spare", one)),
        "model": refused(lambda: asker.infer("nobody", one)),
        "version": refused(lambda: asker.infer("tumours", one, model_version="9")),
        "shape": refused(lambda: asker.infer("tumours", {"features": rows[:, :7]})),
        "datatype": refused(
            lambda: asker.infer("tumours", {"features": rows[:1].astype(object).astype(str).astype(object)})
        ),
        "output": refused(lambda: asker.infer("tumours", one, outputs=["logits"])),
        "key": refused(lambda: asker.infer("flights", {"distance": np.array([1.0])})),
        "timeout": refused(lambda: asker.infer("tumours", one, timeout=-1)),
        "no token": refused(client.get_model_repository_index),
        "wrong token": refused(
            lambda: client.unload_model("tumours", headers={"authorization": "Bearer wrong"})
        ),
        "load": refused(lambda: client.load_model("nobody", headers=asker.bearer)),
        "config": refused(lambda: client.get_model_config("tumours")),
    }
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
