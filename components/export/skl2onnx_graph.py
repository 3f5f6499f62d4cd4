"""scikit-learn models by skl2onnx: linear models, networks, and pipelines in front of either or of our forests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from components.export import graph, sklearn_forest
from components.export.forest import NotExportableError
from serving.runtime.engines.engine import TensorSpec

if TYPE_CHECKING:
    import onnx


def of(estimator: Any, width: int, output: TensorSpec) -> onnx.ModelProto:
    """Convert an estimator over `width` float32 features.

    Raises:
        NotExportableError: skl2onnx does not know a part of it.
    """
    import onnx
    from sklearn.pipeline import Pipeline

    if isinstance(estimator, Pipeline) and len(estimator) > 1:
        forest = sklearn_forest.read(estimator[-1])
        if forest is not None:
            head = _convert(estimator[:-1], width)
            # both halves must state the same operator sets; what an older set wrote, these read alike
            head.ir_version = graph.IR_VERSION
            del head.opset_import[:]
            head.opset_import.extend(graph.opsets())
            name = head.graph.output[0].name
            tail = graph.of_forest(forest, estimator[-1].n_features_in_, output.name)
            return onnx.compose.merge_models(head, tail, io_map=[(name, "features")], prefix1="head_")
    return _adapted(_convert(estimator, width), output)


def _convert(estimator: Any, width: int) -> onnx.ModelProto:
    import skl2onnx  # type: ignore[import-untyped]
    from skl2onnx.common.data_types import FloatTensorType  # type: ignore[import-untyped]

    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "predict_proba") else None
    try:
        model, _ = (
            skl2onnx.to_onnx(
                estimator,
                initial_types=[("features", FloatTensorType([None, width]))],
                options=options,
                target_opset={"": graph.OPSET, "ai.onnx.ml": graph.ML_OPSET},
            ),
            None,
        )
    except Exception as error:  # each converter refuses in its own way
        text = f"{type(error).__name__}: {error}".strip().splitlines()[0][:200]
        raise NotExportableError(f"skl2onnx cannot convert it: {text}") from error
    return model


def _adapted(model: onnx.ModelProto, output: TensorSpec) -> onnx.ModelProto:
    """Leave the last output alone, of the shape that a server states: of two classes the second one's column."""
    import numpy as np
    from onnx import TensorProto, checker, helper, numpy_helper

    source = model.graph.output[-1].name
    add = model.graph.node.append
    constants = {"second": np.array([1], dtype=np.int64), "flat": np.array([-1], dtype=np.int64)}
    model.graph.initializer.extend(numpy_helper.from_array(v, f"windlass_{k}") for k, v in constants.items())
    if len(output.shape) == 1:
        if output.name == "probability":
            add(helper.make_node("Gather", [source, "windlass_second"], ["windlass_column"], axis=1))
            source = "windlass_column"
        add(helper.make_node("Reshape", [source, "windlass_flat"], [output.name]))
    elif source != output.name:
        add(helper.make_node("Identity", [source], [output.name]))
    shape = ["N", *output.shape[1:]]
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, shape))
    checker.check_model(model)
    return model
