"""Everything that the chart and kustomize render, and each sample, by the schemas of Kubernetes 1.32 to 1.36 and of the
projects around it; kubeconform asks them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests.generate import CHART, COMPONENTS, HERE, render
from tests.cluster import go_modules, json_schemas
from tests.cluster.charts import SOURCES
from tests.cluster.tools.build import BUILD_S, module_dir, tool

pytestmark = pytest.mark.timeout(2 * BUILD_S)

VERSIONS = (*go_modules.KUBERNETES, "1.36")
SWAGGER = Path("api/openapi-spec/swagger.json")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what helm renders for each values file and each component, and every sample."""
    folder = tmp_path_factory.mktemp("rendered")
    texts = {
        **{name: render(*files, hooks=True) for name, files in SOURCES.items()},
        **{f"component-{name}": render(HERE / "components" / name / "values.yaml") for name in COMPONENTS},
    }
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    for sample in [*sorted((HERE / "samples").rglob("*.yaml")), HERE / "kind" / "train-flights.yaml"]:
        (folder / f"sample-{sample.stem}.yaml").write_text(sample.read_text())
    return folder


@pytest.fixture(scope="module")
def custom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Schemas of every custom resource that we write."""
    folder = tmp_path_factory.mktemp("custom")
    prometheus = go_modules.folder(*go_modules.PROMETHEUS_OPERATOR)
    sources = {
        "gateway.networking.k8s.io_*.yaml": module_dir("sigs.k8s.io/gateway-api", "envoygateway")
        / "config/crd/standard",
        "gateway.envoyproxy.io_*.yaml": module_dir("github.com/envoyproxy/gateway", "envoygateway")
        / "charts/gateway-helm/charts/crds/crds/generated",
        "serving.kserve.io_*.yaml": module_dir("github.com/kserve/kserve") / "config/crd/full",
        "monitoring.coreos.com_*.yaml": prometheus / "example/prometheus-operator-crd",
        "ray.io_*.yaml": go_modules.folder(*go_modules.KUBERAY) / "config/crd/bases",
        "*.yaml": HERE / "crds",
    }
    for pattern, source in sources.items():
        assert json_schemas.of_definitions(sorted(source.rglob(pattern)), folder) > 0, source
    return folder


@pytest.fixture(scope="module")
def kinds(rendered: Path) -> set[str]:
    found = {d["kind"] for file in rendered.glob("*.yaml") for d in yaml.safe_load_all(file.read_text()) if d}
    return {*found, "Pod", "Namespace"}


def conform(folder: Path, *locations: Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [tool("kubeconform"), "-strict", "-summary"]
    for location in locations:
        command += ["-schema-location", f"{location}/{json_schemas.LOCATION}"]
    return subprocess.run([*command, folder], capture_output=True, text=True, check=False, timeout=120)


def swagger(version: str) -> Path:
    if version in go_modules.KUBERNETES:
        number, checksum = go_modules.KUBERNETES[version]
        return go_modules.folder(f"k8s.io/kubernetes@{number}", checksum) / SWAGGER
    return module_dir("k8s.io/kubernetes") / SWAGGER


@pytest.mark.parametrize("version", VERSIONS)
def test_whatever_is_rendered_conforms(
    rendered: Path, custom: Path, kinds: set[str], tmp_path: Path, version: str
) -> None:
    """Verify that every object is known to this Kubernetes, with every field, and that none is skipped."""
    json_schemas.of_kubernetes(swagger(version), kinds, tmp_path)
    done = conform(rendered, tmp_path, custom)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Invalid: 0, Errors: 0, Skipped: 0" in done.stdout


def _deployment(**changes: Any) -> dict[str, Any]:
    container = {"name": "a", "image": "b:1"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "a"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container | changes]}},
        },
    }


def _monitor(**changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": "a"},
        "spec": {"selector": {}, "endpoints": [{"port": "http", **changes}]},
    }


@pytest.mark.parametrize(
    ("document", "said"),
    [
        pytest.param(
            _deployment(imagePulPolicy="Always"), "'imagePulPolicy' not allowed", id="unknown-field"
        ),
        pytest.param(
            _deployment(ports=[{"containerPort": "http"}]), "got string, want integer", id="wrong-type"
        ),
        pytest.param(_deployment(env=[{"value": "a"}]), "missing propert", id="missing-field"),
        pytest.param(_monitor(interval=15), "want string", id="custom-wrong-type"),
        pytest.param(_monitor(scrapeEvery="15s"), "'scrapeEvery' not allowed", id="custom-unknown-field"),
    ],
)
def test_the_schemas_refuse_what_is_wrong(
    custom: Path, kinds: set[str], tmp_path: Path, document: dict[str, Any], said: str
) -> None:
    """Verify that conforming means something."""
    schemas = tmp_path / "schemas"
    schemas.mkdir()
    json_schemas.of_kubernetes(swagger("1.36"), kinds, schemas)
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    (wrong / "a.yaml").write_text(yaml.safe_dump(document))
    done = conform(wrong, schemas, custom)
    assert done.returncode == 1 and said in done.stdout, done.stdout + done.stderr


def test_the_chart_asks_for_the_oldest_of_them() -> None:
    """Verify that the chart's kubeVersion is where the tests begin."""
    chart: dict[str, Any] = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["kubeVersion"] == f">={VERSIONS[0]}.0-0"
