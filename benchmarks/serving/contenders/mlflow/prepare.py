"""Write the model folder that `mlflow models serve` takes: the model in MLflow's ONNX flavour."""

from __future__ import annotations

import mlflow
import numpy as np
import onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from benchmarks.serving.contenders.classifier import arguments

if __name__ == "__main__":
    told = arguments()
    model = onnx.load(str(told.model))
    width = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    mlflow.onnx.save_model(
        model,
        str(told.scratch / "model"),
        pip_requirements=[],
        onnx_session_options={"intra_op_num_threads": 1, "inter_op_num_threads": 1},
        signature=ModelSignature(
            Schema([TensorSpec(np.dtype(np.float32), (-1, width), "features")]),
            Schema([TensorSpec(np.dtype(np.float32), (-1,), "probability")]),
        ),
    )
