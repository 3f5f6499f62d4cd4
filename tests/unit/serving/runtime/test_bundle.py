"""A bundle is checked before anything of it is loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.runtime import bundle
from windlass.errors import UsageError

MakeBundle = Callable[..., Path]


def test_reads_what_training_wrote(make_bundle: MakeBundle) -> None:
    loaded = bundle.load(make_bundle())
    assert (loaded.model, loaded.version, loaded.output) == ("flights", "3", "probability")
    assert [v.features for v in loaded.views] == [("delay_1h", "late_share"), ("departures",)]
    assert loaded.views[0].ttl_seconds == 86_400
    assert [i.default for i in loaded.inputs[:4]] == [4.5, 0.25, 12.0, 900.0]
    assert math.isnan(loaded.inputs[4].default)
    assert loaded.inputs[4].categories == ("9E", "AA", "UA")
    assert loaded.entity_types == {"carrier": "string", "origin": "string"}
    assert loaded.read(loaded.model_file) == (loaded.folder / "model.onnx").read_bytes()


def test_refuses_one_changed_byte(make_bundle: MakeBundle) -> None:
    folder = make_bundle()
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(UsageError, match=r"'model\.onnx' has SHA-256 .* changed after registration"):
        bundle.load(folder)


def test_refuses_a_byte_that_changes_after_the_check(make_bundle: MakeBundle) -> None:
    loaded = bundle.load(make_bundle())
    with (loaded.folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UsageError, match="changed after registration"):
        loaded.read(loaded.model_file)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("../secret.onnx", id="parent"),
        pytest.param("link.onnx", id="symbolic-link"),
        pytest.param("folder/../../secret.onnx", id="through-a-folder"),
    ],
)
def test_refuses_a_file_outside_its_folder(make_bundle: MakeBundle, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret.onnx"
    secret.write_bytes(b"x")
    folder = make_bundle(model_file=name, sha256={name: "0" * 64})
    (folder / "folder").mkdir()
    (folder / "link.onnx").symlink_to(secret)
    with pytest.raises(UsageError, match="lies outside the bundle's folder"):
        bundle.load(folder)


def test_refuses_an_absolute_path(make_bundle: MakeBundle, tmp_path: Path) -> None:
    secret = tmp_path / "secret.onnx"
    secret.write_bytes(b"x")
    with pytest.raises(UsageError, match="lies outside the bundle's folder"):
        bundle.load(make_bundle(model_file=str(secret), sha256={str(secret): "0" * 64}))


VIEW = {"name": "v", "entity": "carrier", "ttl_seconds": 1, "features": ["f"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"format_version": 2}, "format_version is 2, this server reads 1", id="other-format"),
        pytest.param({"format_version": True}, "format_version is True", id="boolean-is-no-number"),
        pytest.param({"model_format": "pickle"}, "model_format is 'pickle'", id="other-model-format"),
        pytest.param({"model": ""}, "model is empty", id="no-name"),
        pytest.param({"model": "a/b"}, "model and version take letters", id="name-with-slash"),
        pytest.param(
            {"entities": ["carrier", 3]}, "entities is not a list of texts", id="entity-is-a-number"
        ),
        pytest.param(
            {"views": [{**VIEW, "entity": "tail"}]}, "view 'v' is about 'tail'", id="unknown-entity"
        ),
        pytest.param(
            {"views": [{**VIEW, "ttl_seconds": "1d"}]}, r"views\[0\]\.ttl_seconds is '1d'", id="ttl-is-text"
        ),
        pytest.param(
            {"views": [VIEW, VIEW], "inputs": [{"name": "f", "view": "v"}]}, "a view twice", id="view-twice"
        ),
        pytest.param({"inputs": []}, "inputs are empty", id="no-input"),
        pytest.param(
            {"inputs": [{"name": "x", "view": "origin_load"}]}, "has no such feature", id="no-such-feature"
        ),
        pytest.param(
            {"inputs": [{"name": "x", "view": None, "categories": ["a"], "default": "b"}]},
            "default of 'x' is 'b'",
            id="default-is-no-category",
        ),
        pytest.param({"sha256": {}}, "sha256 has no digest of 'model.onnx'", id="no-digest"),
        pytest.param(
            {"sha256": {"model.onnx": "0" * 64, "gone": "0"}}, "SHA-256|cannot read", id="file-gone"
        ),
        pytest.param(
            {"entity_types": {"carrier": "float"}}, "entity_types.carrier is 'float'", id="entity-type"
        ),
    ],
)
def test_refuses_what_contradicts_itself(
    make_bundle: MakeBundle, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        bundle.load(make_bundle(**changes))


@pytest.mark.parametrize(
    "key", ["format_version", "model", "version", "views", "inputs", "sha256", "feast_project", "output"]
)
def test_names_a_missing_field(make_bundle: MakeBundle, key: str) -> None:
    folder = make_bundle()
    path = folder / "serving.json"
    content = json.loads(path.read_text())
    del content[key]
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=f"{key} is missing"):
        bundle.load(folder)


def test_names_the_folder_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"serving\.json is missing"):
        bundle.load(tmp_path / "nowhere")


def test_refuses_half_a_document(make_bundle: MakeBundle) -> None:
    folder = make_bundle()
    path = folder / "serving.json"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UsageError, match="cannot read the serving bundle"):
        bundle.load(folder)
