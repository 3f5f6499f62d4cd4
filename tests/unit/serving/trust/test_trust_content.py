"""What a file holds, told by its bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.runtime.trust.content import BadContent, hidden_code
from serving.runtime.trust.pickles import is_pickle

MOST = 64 * 1024 * 1024


class Touch:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def npy(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(values, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_every_value_that_is_pickled_is_found(value: Any, protocol: int) -> None:
    """Verify that no protocol and no type of data hides a pickle."""
    assert is_pickle(pickle.dumps(value, protocol))


@given(st.integers(0, pickle.HIGHEST_PROTOCOL), st.binary(max_size=200), st.integers(0, 40))
def test_a_pickle_that_calls_is_found_whatever_follows(protocol: int, rest: bytes, cut: int) -> None:
    """Verify that neither bytes behind a pickle nor a missing end hides that it calls something."""
    content = pickle.dumps(Touch(Path("x")), protocol)
    assert is_pickle(content + rest)
    assert content[-1:] == b"." and is_pickle(content[:-1] + rest[:cut])


@pytest.mark.parametrize(
    "prologue",
    [
        pytest.param(b"", id="at-once"),
        pytest.param(b"I0x10\n0", id="number-that-genops-refuses"),
        pytest.param(b"L0b1L\n0", id="long-that-genops-refuses"),
        pytest.param(b"(0(N1", id="marks-popped"),
        pytest.param(b"V" + b"x" * 1000 + b"\n0", id="text-thrown-away"),
        pytest.param(b"N0" * 1000, id="many-steps"),
        pytest.param(b"\x95\x00\x00\x00\x00\x00\x00\x00\x00", id="frame-without-protocol"),
    ],
)
def test_a_pickle_that_runs_is_found_however_it_begins(tmp_path: Path, prologue: bytes) -> None:
    """Verify that what makes a real unpickler run code is found, though the pickle has no end."""
    target = tmp_path / "made"
    content = prologue + b"cposix\nmkdir\n(V%s\ntR" % str(target).encode()
    with pytest.raises((EOFError, pickle.UnpicklingError)):
        pickle.loads(content + b"\xff")  # noqa: S301 - it is ours, and shows that the table's rows are no strawmen
    assert target.is_dir()
    assert is_pickle(content + b"\xff")


CALLING = pickle.dumps(Touch(Path("x")), 4)
OLD = pickle.dumps(Touch(Path("x")), 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(CALLING, "is a pickle", id="plain"),
        pytest.param(OLD, "is a pickle", id="protocol-0"),
        pytest.param(gzip.compress(OLD), "is compressed, and inside is a pickle", id="gzip"),
        pytest.param(
            gzip.compress(b"") + gzip.compress(CALLING), "inside is a pickle", id="second-gzip-stream"
        ),
        pytest.param(bz2.compress(CALLING), "inside is a pickle", id="bzip2"),
        pytest.param(lzma.compress(CALLING), "inside is a pickle", id="xz"),
        pytest.param(lzma.compress(CALLING, lzma.FORMAT_ALONE), "inside is a pickle", id="lzma"),
        *(
            pytest.param(zlib.compress(CALLING, level), "inside is a pickle", id=f"zlib-{level}")
            for level in (0, 1, 6, 9)
        ),
        pytest.param(
            gzip.compress(bz2.compress(OLD)), "inside is compressed, and inside is a pickle", id="twice"
        ),
        pytest.param(npy(np.array([{}], dtype=object)), "numpy array of objects", id="npy"),
        pytest.param(npy(np.zeros(1, dtype=[("a", "O")])), "numpy array of objects", id="npy-field"),
        pytest.param(
            zipped({"a.npy": npy(np.array([None]))}), "member 'a.npy' that is a numpy array", id="npz"
        ),
        pytest.param(zipped({"a/data.bin": CALLING}), "member 'a/data.bin' that is a pickle", id="zip"),
        pytest.param(zipped({"a": OLD}, zipfile.ZIP_LZMA), "member 'a' that is a pickle", id="zip-lzma"),
        pytest.param(zipped({"a.pkl": b"?"}), "'a.pkl' that is a pickle by its name", id="zip-name"),
        pytest.param(
            zipped({"b.zip": zipped({"a": CALLING})}), "'b.zip' that has a member 'a'", id="zip-in-zip"
        ),
        pytest.param(
            b"\x08\x0aonnx" + zipped({"a": CALLING}), "member 'a' that is a pickle", id="zip-behind-bytes"
        ),
    ],
)
def test_a_pickle_is_found_where_it_hides(content: bytes, message: str) -> None:
    """Verify that no name and no packing hides a pickle from us that a loader would find."""
    assert message in (hidden_code("model.onnx", content, MOST) or "")


@pytest.mark.parametrize(
    "compress", [0, 3, ("zlib", 1), ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3)], ids=str
)
def test_a_joblib_file_is_found(tmp_path: Path, compress: Any) -> None:
    """Verify that what joblib writes, and loads by unpickling, is found in each of its packings."""
    import joblib

    joblib.dump({"weights": np.arange(1000.0)}, tmp_path / "model", compress=compress)
    assert "is a pickle" in (hidden_code("model", (tmp_path / "model").read_bytes(), MOST) or "")


@pytest.mark.parametrize("name", ["model.pkl", "a/model.JOBLIB", "code.cloudpickle"])
def test_a_pickles_name_is_enough(name: str) -> None:
    """Verify that an engine that goes by the name finds none either."""
    assert hidden_code(name, b"{}", MOST) == "is a pickle by its name"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("empty", b"", id="empty"),
        pytest.param("notes.txt", b"Git v2.31.4 Release Notes\n=====\n", id="text-like-a-number-and-an-end"),
        pytest.param("requirements.txt", b"cloudpickle\nnumpy\nscipy\n", id="text-like-an-import"),
        pytest.param("cities.txt", b"Vienna\nVenice\nberlin\n", id="text-like-a-call"),
        pytest.param(
            "ratios.py", b"import math\n\n\ndef ratios(columns):\n    return columns\n", id="python"
        ),
        pytest.param("a.npy", npy(np.zeros((3, 4))), id="npy"),
        pytest.param("a.npz", zipped({"a.npy": npy(np.zeros(3, dtype=[("x", "f4")]))}), id="npz"),
        pytest.param("config.json.gz", gzip.compress(b'{"a": 1}'), id="gzip"),
        pytest.param("rows.parquet", b"PAR1\n." + bytes(50), id="parquet"),
        pytest.param(
            "model.keras",
            zipped({"config.json": b'{"class_name": "Functional", "module": "keras"}'}),
            id="keras",
        ),
    ],
)
def test_what_is_no_pickle_passes(name: str, content: bytes) -> None:
    """Verify that ordinary files are not taken for one."""
    assert hidden_code(name, content, MOST) is None


def test_the_models_of_our_libraries_pass(tmp_path: Path) -> None:
    """Verify that no native format is taken for a pickle."""
    import lightgbm
    import onnx
    import skops.io
    import xgboost
    from onnx import helper
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 3)), rng.integers(0, 2, 200)
    boosted = xgboost.train({"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(x, label=y), 3)
    for suffix in ("ubj", "json"):
        boosted.save_model(tmp_path / f"x.{suffix}")
    lightgbm.train(
        {"objective": "binary", "verbose": -1, "num_threads": 1}, lightgbm.Dataset(x, y), 3
    ).save_model(tmp_path / "l.txt")
    skops.io.dump(LogisticRegression().fit(x, y), tmp_path / "s.skops")
    value = helper.make_tensor_value_info("location", onnx.TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph([helper.make_node("Neg", ["location"], ["y"])], "g", [value], [
        helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 3])
    ], value_info=[value])  # fmt: skip
    onnx.save(helper.make_model(graph), tmp_path / "o.onnx")
    found = {p.name: hidden_code(p.name, p.read_bytes(), MOST) for p in tmp_path.iterdir()}
    assert found == dict.fromkeys(["x.ubj", "x.json", "l.txt", "s.skops", "o.onnx"])


LAYER: dict[str, Any] = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 1}}


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        pytest.param({**LAYER, "class_name": "Lambda"}, "Keras Lambda layer", id="lambda-layer"),
        pytest.param(
            {**LAYER, "config": {"activation": {"class_name": "__lambda__", "config": {"value": "4wEA"}}}},
            "Keras Lambda layer",
            id="lambda-in-an-argument",
        ),
        pytest.param(
            {**LAYER, "module": "os", "class_name": "function", "config": "system"},
            "module 'os'",
            id="module",
        ),
        pytest.param({**LAYER, "module": "keras_evil"}, "module 'keras_evil'", id="module-like-keras"),
    ],
)
def test_a_keras_model_that_carries_code_is_found(layer: dict[str, Any], message: str) -> None:
    """Verify that neither a marshalled function nor a module to import passes, however deep it lies."""
    config = json.dumps({"class_name": "Sequential", "module": "keras", "config": {"layers": [LAYER, layer]}})
    content = zipped({"metadata.json": b"{}", "config.json": config.encode(), "model.weights.h5": b"\x89HDF"})
    assert message in (hidden_code("model.keras", content, MOST) or "")


def test_a_lambda_layer_in_an_old_keras_file_is_found() -> None:
    """Verify that the attribute of an HDF5 file is read too."""
    content = b"\x89HDF\r\n\x1a\n" + bytes(64) + b'{"class_name": "Lambda", "config": {}}'
    assert "Lambda" in (hidden_code("model.h5", content, MOST) or "")


def test_onnx_weights_outside_are_named(tmp_path: Path) -> None:
    """Verify that a model that reads another file when it is loaded is refused by that file's name."""
    import onnx
    from onnx import helper, numpy_helper

    weights = numpy_helper.from_array(np.arange(512, dtype=np.float32).reshape(2, 256), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 256])],
        [weights],
    )
    model = helper.make_model(graph)
    onnx.save(model, tmp_path / "inside.onnx")
    assert hidden_code("inside.onnx", (tmp_path / "inside.onnx").read_bytes(), MOST) is None
    onnx.save(
        model, tmp_path / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    content = (tmp_path / "m.onnx").read_bytes()
    with pytest.raises(BadContent, match=r"keeps weights outside of it, in 'weights\.bin'"):
        hidden_code("m.onnx", content, MOST)
    outside = content.replace(b"weights.bin", b"../../x.bin")
    with pytest.raises(BadContent, match=r"'\.\./\.\./x\.bin'"):
        hidden_code("m.onnx", outside, MOST)


def encrypted() -> bytes:
    content = bytearray(zipped({"a": b"x"}))
    # the flag of encryption, in the member's header and in the directory
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def nested(levels: int) -> bytes:
    content = b"x"
    for _ in range(levels):
        content = gzip.compress(content)
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(zipped({"z": bytes(200 << 20)}), "expands to more than 67108864 bytes", id="zip-bomb"),
        pytest.param(
            zipped({str(i): bytes(40 << 20) for i in range(2)}),
            "expands to more than",
            id="two-members-together",
        ),
        pytest.param(gzip.compress(bytes(200 << 20)), "expands to more than", id="gzip-bomb"),
        pytest.param(lzma.compress(bytes(200 << 20)), "expands to more than", id="xz-bomb"),
        pytest.param(nested(6), "is packed more than 4 times", id="packed-too-often"),
        pytest.param(zipped({"../../etc/cron.d/x": b""}), "that leaves its folder", id="member-leaves"),
        pytest.param(zipped({"/etc/passwd": b""}), "that leaves its folder", id="member-absolute"),
        pytest.param(encrypted(), "encrypted member 'a'", id="encrypted"),
        pytest.param(zipped({"a": b"x"})[:-10], "damaged archive", id="zip-cut-short"),
        pytest.param(gzip.compress(CALLING)[:-12], "damaged compressed stream", id="gzip-cut-short"),
        pytest.param(gzip.compress(b"x") + b"rest", "damaged compressed stream", id="bytes-behind-a-stream"),
        pytest.param(b"\x28\xb5\x2f\xfd" + CALLING, "compressed by zstd", id="zstd"),
        pytest.param(b"\x04\x22\x4d\x18" + CALLING, "compressed by lz4", id="lz4"),
        pytest.param(b"\x93NUMPY\x01\x00" + struct.pack("<H", 9) + b"{'descr':", "damaged header", id="npy"),
        pytest.param(b"\x93NUMPY", "damaged header", id="npy-cut-short"),
        pytest.param(
            zipped({"config.json": b"[" * 100_000}), "'config.json' that is no JSON", id="deep-json"
        ),
    ],
)
def test_what_cannot_be_looked_into_is_refused(content: bytes, message: str) -> None:
    """Verify that damage, bombs and unknown packings are refused and not passed over."""
    with pytest.raises(BadContent, match=message):
        hidden_code("model.bin", content, MOST)


def test_a_bomb_is_not_unpacked() -> None:
    """Verify that a bomb costs the memory of the limit and not its own."""
    import tracemalloc

    content = gzip.compress(bytes(256 << 20), 1)
    tracemalloc.start()
    try:
        with pytest.raises(BadContent, match="expands to more than 1048576 bytes"):
            hidden_code("model.bin", content, 1 << 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
