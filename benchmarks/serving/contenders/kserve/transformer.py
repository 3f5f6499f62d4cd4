"""A KServe transformer that asks Feast for the features, and the model in the same process: no second hop."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from feast import FeatureStore
from kserve import Model, ModelServer
from kserve.logging import trace_logger

from benchmarks.serving.contenders.classifier import NAME, Classifier, arguments
from benchmarks.serving.contenders.kserve.store import ENTITIES, SERVICE, features_of


class Served(Model):  # type: ignore[misc]
    def __init__(self, classifier: Classifier, store: FeatureStore) -> None:
        super().__init__(NAME)
        self._classifier = classifier
        self._store = store
        self._service = store.get_feature_service(SERVICE)
        width = {view.name: len(view.features) for view in self._service.feature_view_projections}
        self._columns = [name for e in ENTITIES for name in features_of(e, width[f"{e}_features"])]
        self.ready = True

    def preprocess(self, payload: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
        found = self._store.get_online_features(self._service, payload["instances"]).to_dict()
        return {"features": np.array([found[name] for name in self._columns], dtype=np.float32).T}

    def predict(self, payload: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
        return {"predictions": self._classifier(payload["features"]).tolist()}


if __name__ == "__main__":
    told = arguments()
    server = ModelServer(
        http_port=told.port, grpc_port=told.grpc_port, workers=1, enable_latency_logging=False
    )
    for log in (trace_logger, logging.getLogger("uvicorn.access"), logging.getLogger("kserve")):
        log.setLevel(logging.ERROR)
    server.start([Served(Classifier(told.model), FeatureStore(str(told.store)))])
