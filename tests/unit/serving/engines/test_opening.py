"""Which form runs, and why the ones before it do not."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.runtime import bundle
from serving.runtime.engines.opening import open_engine
from windlass.errors import UsageError

MakeBundle = Callable[..., Path]
ModelOf = Callable[..., bytes]


def form(file: str, *, format: str = "onnx", difference: float = 0.0, holds: bool = True) -> dict[str, Any]:
    parity = {"rows": 10, "max_difference": difference, "bound": 1e-4, "holds": holds}
    return {"format": format, "file": file, "size_bytes": 1, "single_row_us": 8.0, "parity": parity}


def test_the_first_faithful_form_runs(make_bundle: MakeBundle, model_of: ModelOf) -> None:
    """Verify that a form whose parity does not hold is passed over, with the difference that was found."""
    files = {"fast.onnx": model_of(0.9), "exact.onnx": model_of(0.5)}
    forms = [form("fast.onnx", difference=0.4, holds=False), form("exact.onnx")]
    opened = open_engine(bundle.load(make_bundle(files, forms=forms)))
    assert opened.form.file == "exact.onnx"
    assert opened.engine.run([np.zeros((1, 4), np.float32)])[0].tolist() == [0.5]
    assert [(p.form.file, p.reason) for p in opened.passed_over] == [
        ("fast.onnx", "parity does not hold: differs by 4.0e-01, bound 1.0e-04")
    ]


def test_a_form_whose_library_is_missing_is_passed_over(make_bundle: MakeBundle, model_of: ModelOf) -> None:
    """Verify that the library that is not installed is named."""
    assert importlib.util.find_spec("keras") is None, "this environment has Keras: name another library here"
    files = {"model.keras": b"whatever", "model.onnx": model_of(0.5)}
    forms = [form("model.keras", format="keras"), form("model.onnx")]
    opened = open_engine(bundle.load(make_bundle(files, "keras", forms=forms)))
    assert opened.engine.format == "onnx"
    assert opened.passed_over[0].reason.startswith("its library is not installed: No module named")


def test_a_library_compiled_for_another_machine_is_passed_over(
    make_bundle: MakeBundle, model_of: ModelOf
) -> None:
    """Verify that a shared object that this machine cannot load does not keep the model from running."""
    files = {"model.so": b"\x7fELF of another machine", "model.onnx": model_of(0.5)}
    forms = [form("model.so", format="tl2cgen"), form("model.onnx")]
    opened = open_engine(bundle.load(make_bundle(files, "tl2cgen", forms=forms)))
    assert opened.engine.format == "onnx"
    assert "'model.so' cannot be loaded on this machine" in opened.passed_over[0].reason


def test_a_model_that_cannot_run_says_what_was_tried(make_bundle: MakeBundle, model_of: ModelOf) -> None:
    """Verify that every form and its reason are in the message, and what to do."""
    forms = [form("model.onnx", difference=0.4, holds=False)]
    folder = make_bundle({"model.onnx": model_of(0.5)}, forms=forms)
    with pytest.raises(UsageError, match=r"m version 7 has no form that can run here: onnx 'model\.onnx'"):
        open_engine(bundle.load(folder))


def test_only_verified_files_of_a_folder_are_handed_over(make_bundle: MakeBundle, model_of: ModelOf) -> None:
    """Verify that a file slipped into a model's folder is not in the copy that a library reads."""
    folder = make_bundle(
        {"pyfunc/MLmodel": b"flavors: {}", "pyfunc/model.onnx": model_of(0)}, model_file="pyfunc"
    )
    (folder / "pyfunc" / "extra.py").write_text("raise SystemExit")
    loaded = bundle.load(folder)
    with loaded.extracted("pyfunc") as copy:
        assert sorted(p.name for p in copy.iterdir()) == ["MLmodel", "model.onnx"]
    assert not copy.exists()
