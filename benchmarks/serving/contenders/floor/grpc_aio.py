"""A bare grpc.aio server with the model: decodes, predicts and encodes ModelInfer, and does nothing else."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import uvloop
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.serving.contenders.classifier import NAME, Classifier, arguments


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        shape = tuple(request.inputs[0].shape)
        scores = self._classifier(np.frombuffer(request.raw_input_contents[0], np.float32).reshape(shape))
        output = service_pb2.ModelInferResponse.InferOutputTensor(
            name="probability", datatype="FP32", shape=[len(scores)]
        )
        return service_pb2.ModelInferResponse(
            model_name=NAME, id=request.id, outputs=[output], raw_output_contents=[scores.tobytes()]
        )


async def serve(told: Any) -> None:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(Classifier(told.model)), server)
    server.add_insecure_port(f"127.0.0.1:{told.grpc_port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(arguments()))
