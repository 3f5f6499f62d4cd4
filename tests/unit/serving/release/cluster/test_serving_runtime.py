"""The ClusterServingRuntimes: written down as they are made, and understood by the server that they start."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from serving.release.cluster import serving_runtime
from serving.runtime import __main__ as runtime
from windlass.cli.app import run

ROOT = Path(__file__).parents[5]
RUNTIMES = {document["metadata"]["name"]: document for document in serving_runtime.documents()}


def test_the_committed_files_are_what_is_made(tmp_path: Path) -> None:
    """Verify that `windlass render --runtimes --out manifests/serving` would change nothing."""
    assert run(["render", "--runtimes", "--out", str(tmp_path)]) == 0
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_text() for path in (ROOT / "manifests/serving").iterdir()}


@pytest.mark.parametrize("name", RUNTIMES)
def test_the_server_takes_the_arguments(name: str) -> None:
    """Verify that the server's own command line reads them, and that unsigned bundles are refused by it."""
    (container,) = RUNTIMES[name]["spec"]["containers"]
    folders, options = runtime.parse(["--port", "8080", *container["args"]])
    assert folders == [Path("/mnt/models")]
    assert options.require_signature
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert options.verify_key is not None
    assert mounts[str(options.verify_key.parent)] == "windlass-verify-key"
    ports = [port["containerPort"] for port in container["ports"]]
    assert ports == [8080] + ([options.grpc_port] if options.grpc_port else [])
    assert ("grpc-v2" in RUNTIMES[name]["spec"]["protocolVersions"]) == bool(options.grpc_port)


def test_a_drain_ends_before_the_kubelet_does() -> None:
    """Verify that the shortest grace period that is rendered covers the pause and the server's own drain."""
    from serving.release.cluster import inference_service
    from serving.release.cluster.serving_options import parse
    from serving.runtime.options import Options

    options = parse({"storage": "s3://{model}/{version}", "stopSeconds": 1})
    predictor = inference_service.render("m", "1", options)[0]["spec"]["predictor"]
    pause = predictor["model"]["lifecycle"]["preStop"]["sleep"]["seconds"]
    server = Options(port=0)
    assert predictor["terminationGracePeriodSeconds"] > pause + server.drain_linger_s + server.drain_timeout_s


def test_the_user_and_the_port_are_the_images() -> None:
    """Verify that what the runtime says of the image is what its Dockerfile says."""
    dockerfile = (ROOT / "docker/serving.Dockerfile").read_text()
    assert re.findall(r"^USER (\d+)$", dockerfile, re.M) == [str(serving_runtime.USER)]
    assert f'"--port", "{serving_runtime.HTTP_PORT}"' in dockerfile


def test_only_one_runtime_is_picked_without_being_named() -> None:
    """Verify that an InferenceService that names only the format gets the one of Standard mode."""
    picked = [
        name
        for name, document in RUNTIMES.items()
        if any(entry.get("autoSelect") for entry in document["spec"]["supportedModelFormats"])
    ]
    assert picked == ["windlass"]


def test_the_image_can_be_another() -> None:
    """Verify that both take a digest, and nothing else changes."""
    image = "registry.example/serving@sha256:" + 64 * "0"
    changed = yaml.safe_dump(serving_runtime.documents(image))
    assert changed == yaml.safe_dump(serving_runtime.documents()).replace(serving_runtime.IMAGE, image)
