"""MLServer: a custom runtime in the server's own process, without access log, gzip and tracing."""

from __future__ import annotations

import asyncio
from typing import Any

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.serving.contenders.classifier import NAME, Classifier, arguments


class Served(MLModel):  # type: ignore[misc]
    async def load(self) -> bool:
        self._classifier = Classifier(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        scores = self._classifier(NumpyCodec.decode_input(payload.inputs[0]))
        outputs = [NumpyCodec.encode_output("probability", scores)]
        return InferenceResponse(id=payload.id, model_name=self.name, outputs=outputs)


async def serve(told: Any) -> None:
    settings = Settings(
        debug=False,
        host="127.0.0.1",
        http_port=told.port,
        grpc_port=told.grpc_port,
        parallel_workers=0,
        gzip_enabled=False,
        metrics_endpoint=None,
    )
    # found again by its import path, which `__main__` has too
    model = ModelSettings(name=NAME, implementation=Served, parameters=ModelParameters(uri=str(told.model)))
    await MLServer(settings).start([model])


if __name__ == "__main__":
    asyncio.run(serve(arguments()))
