"""BentoML: one service with one API of numpy arrays, one worker, access log off."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import DType
from numpy.typing import NDArray

from benchmarks.serving.contenders.classifier import Classifier


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Served:
    def __init__(self) -> None:
        self._classifier = Classifier(Path(os.environ["BENCH_MODEL"]))

    @bentoml.api
    def predict(self, features: Annotated[NDArray[np.float32], DType("float32")]) -> NDArray[np.float32]:
        return self._classifier(features)
