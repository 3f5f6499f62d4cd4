"""The same protocol, with one prediction for all requests that arrived in one turn of the event loop."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import orjson
import uvloop

from benchmarks.serving.contenders.classifier import NAME, Classifier, arguments
from benchmarks.serving.contenders.floor.protocol import respond, serve


class Turn:
    """The requests of one turn of the loop: the connection and the tensor of each."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._waiting: list[tuple[asyncio.Transport, dict[str, Any]]] = []

    def add(self, transport: asyncio.Transport, body: bytes) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._answer)
        self._waiting.append((transport, orjson.loads(body)["inputs"][0]))

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        width = waiting[0][1]["shape"][1]
        values = [value for _, tensor in waiting for value in tensor["data"]]
        scores = self._classifier(np.array(values, dtype=np.float32).reshape(-1, width)).tolist()
        begin = 0
        for transport, tensor in waiting:
            data = scores[begin : begin + tensor["shape"][0]]
            begin += len(data)
            output = {"name": "probability", "datatype": "FP32", "shape": [len(data)], "data": data}
            respond(transport, orjson.dumps({"model_name": NAME, "outputs": [output]}))


async def main() -> None:
    told = arguments()
    await serve(told.port, Turn(Classifier(told.model)).add)


if __name__ == "__main__":
    uvloop.run(main())
