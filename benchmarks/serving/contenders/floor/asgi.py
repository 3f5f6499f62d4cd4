"""A minimal ASGI app on uvicorn: decodes, predicts and encodes V2 JSON, and does nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import orjson
import uvicorn

from benchmarks.serving.contenders.classifier import NAME, Classifier, arguments

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


class App:
    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        answer = infer(self._classifier, body)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


def infer(classifier: Classifier, body: bytes) -> bytes:
    """Answer one V2 inference request."""
    document = orjson.loads(body)
    tensor = document["inputs"][0]
    rows = np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
    scores = classifier(rows)
    output = {"name": "probability", "datatype": "FP32", "shape": [len(scores)], "data": scores.tolist()}
    return orjson.dumps({"model_name": NAME, "outputs": [output]})


if __name__ == "__main__":
    told = arguments()
    app = App(Classifier(told.model))
    uvicorn.run(
        app, host="127.0.0.1", port=told.port, loop="uvloop", http="httptools", lifespan="off",
        access_log=False, log_level="error",
    )  # fmt: skip
