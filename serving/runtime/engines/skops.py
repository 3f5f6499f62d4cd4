"""A scikit-learn model from a skops file, which holds no code: only types that are known or stated are made."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Sequence
from typing import Any

from serving.runtime.bundle import Bundle, Form
from serving.runtime.engines.engine import Array, ModelError, TensorSpec, conform, of_positive_class
from windlass.errors import UsageError


class SkopsEngine:
    """A scikit-learn estimator: `predict` where the output is "prediction", else `predict_proba`."""

    format = "skops"

    def __init__(self, estimator: Any, bundle: Bundle) -> None:
        self.inputs: tuple[TensorSpec, ...] = bundle.tensor_inputs
        self.outputs: tuple[TensorSpec, ...] = bundle.tensor_outputs
        self._predict = estimator.predict if bundle.output == "prediction" else estimator.predict_proba
        self._title = bundle.title

    def run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        """See `Engine.run`."""
        (rows,) = arrays
        spec = self.outputs[0]
        try:
            given = of_positive_class(self._predict(rows), spec)
        except Exception as error:  # whatever the library raises is this request's failure
            raise ModelError(f"{self._title} failed: {error}") from error
        return [conform(given, spec, len(rows), self._title)]


def load(bundle: Bundle, form: Form) -> SkopsEngine:
    """Open a form from its verified bytes.

    Raises:
        UsageError: it holds a type that neither skops nor the bundle trusts.
    """
    # read when the OpenMP runtime is loaded: a second thread costs one row of a boosted model ten times its time
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import skops.io  # type: ignore[import-untyped]

    content = bundle.read(form.file)
    try:
        unknown = sorted(set(skops.io.get_untrusted_types(data=content)) - set(form.trusted))
        if unknown:
            raise UsageError(
                f"{bundle.title}: {form.file!r} holds {', '.join(unknown)}, which the bundle does not trust; "
                "name the types under `trusted` if they are yours, and sign the bundle"
            )
        estimator = skops.io.loads(content, trusted=list(form.trusted))
    except (zipfile.BadZipFile, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{bundle.title}: skops cannot load {form.file!r}: {error}") from error
    # trained on a table, served an array: the columns' order is the bundle's own, so each row's warning is noise
    warnings.filterwarnings("ignore", message="X does not have valid feature names", category=UserWarning)
    return SkopsEngine(estimator, bundle)
