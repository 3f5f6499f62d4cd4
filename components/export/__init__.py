"""From a trained model to the forms that serve it: the fastest faithful first, each measured on real rows.

Trees are written as ONNX by our own exporter (`forest`, its three readers, `graph`), other scikit-learn models by
skl2onnx, compiled forms by tl2cgen, Keras models by Keras; the library's own file always comes along. Whatever is
written is opened by the server's own engines and held to the library's prediction before it is used.
"""

from components.export.forest import float32_below
from components.export.pipeline import ExportReport, check_parity, export, load, score, single_row_ms

__all__ = ["ExportReport", "check_parity", "export", "float32_below", "load", "score", "single_row_ms"]
