"""The GitOps samples: Argo CD's own definitions take its kinds, and what every sample names is there and renders."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from manifests.generate import documents, render
from serving.release.state import FINISHED, Phase
from tests.cluster import go_modules
from tests.cluster.api_server import ApiServer, established
from tests.cluster.tools.build import BUILD_S, tool
from windlass import atomic
from windlass.errors import WindlassError
from windlass.operator.seen import REFUSED

pytestmark = pytest.mark.timeout(2 * BUILD_S)

ROOT = Path(__file__).parents[2]
GITOPS = ROOT / "manifests" / "gitops"
ARGOCD = (
    "github.com/argoproj/argo-cd/v3@v3.0.12",
    "h1:wyZQNonPXIWG7sRAwQlqweFyzMURCo8bz4fOQT09bEs=",
)


def read(name: str) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all((GITOPS / name).read_text()) if found]


@pytest.fixture(scope="module")
def argocd(api_server: ApiServer) -> ApiServer:
    folder = go_modules.folder(*ARGOCD) / "manifests" / "crds"
    for name in ("application", "applicationset", "appproject"):
        api_server.kubectl("apply", "--server-side", "-f", folder / f"{name}-crd.yaml")
    established(api_server)
    api_server.kubectl("create", "namespace", "argocd")
    return api_server


@pytest.mark.parametrize("sample", sorted(path.name for path in (GITOPS / "argocd").glob("*.yaml")))
def test_argo_cds_definitions_take_the_samples(argocd: ApiServer, sample: str) -> None:
    """Verify field by field, as Argo CD's API server would: an unknown one is an error."""
    argocd.kubectl("apply", "--server-side", "--validate=strict", "-f", GITOPS / "argocd" / sample)


def test_the_check_above_finds_an_unknown_field(argocd: ApiServer) -> None:
    (application,) = read("argocd/releases.yaml")
    application["spec"]["source"]["directory"]["recursive"] = True
    with pytest.raises(WindlassError, match=r"recursive.* field not declared"):
        argocd.kubectl(
            "apply", "--server-side", "--validate=strict", "-f", "-", given=json.dumps(application)
        )


def stated() -> Iterator[Any]:
    """The values of each sample: files below helm/windlass, and what stands beside them."""
    for found in read("argocd/application.yaml"):
        if found["kind"] == "Application":
            helm = found["spec"]["source"]["helm"]
            yield pytest.param(helm["valueFiles"], helm["valuesObject"], id="application")
    (found,) = read("argocd/applicationset.yaml")
    for element in found["spec"]["generators"][0]["list"]["elements"]:
        helm = found["spec"]["template"]["spec"]["source"]["helm"]
        yield pytest.param(
            element["files"].split(","), helm["valuesObject"], id=f"applicationset-{element['environment']}"
        )
    for environment in ("dev", "staging", "prod"):
        (found,) = read(f"flux/helmrelease-{environment}.yaml")
        files = [
            name.removeprefix("helm/windlass/") for name in found["spec"]["chart"]["spec"]["valuesFiles"]
        ]
        assert f"values-{environment}.yaml" in files
        yield pytest.param(files, found["spec"]["values"], id=f"flux-{environment}")


@pytest.mark.parametrize(("files", "values"), list(stated()))
def test_what_a_sample_names_renders(files: list[str], values: dict[str, Any], tmp_path: Path) -> None:
    """Verify that helm takes exactly these values, and that our images come from the registry that they name."""
    beside = tmp_path / "values.yaml"
    atomic.write_text(beside, yaml.safe_dump(values))
    text = render(*(ROOT / "helm" / "windlass" / name for name in files), beside, hooks=True)
    assert len(documents(text)) > 20
    images = set(re.findall(r"image: (\S*windlass/\S+)", text))
    assert images and all(image.startswith(f"{values['imageRegistry']}/") for image in images)


def test_an_argo_cd_project_may_do_what_an_installation_needs() -> None:
    """Verify that what the chart has outside of a namespace is what the project allows, and no more."""
    project = next(found for found in read("argocd/application.yaml") if found["kind"] == "AppProject")
    allowed = {(each["group"], each["kind"]) for each in project["spec"]["clusterResourceWhitelist"]}
    text = render(
        *(ROOT / "helm" / "windlass" / name for name in ("values-prod.yaml", "values-digests.yaml"))
    )
    needed = {
        (found["apiVersion"].rpartition("/")[0], found["kind"])
        for found in documents(text).values()
        if "namespace" not in found["metadata"]
    }
    # the namespace is made by the option CreateNamespace
    assert allowed == needed | {("", "Namespace")}


def test_fluxs_paths_are_there() -> None:
    """Verify what a schema would not: paths into this repository."""
    (kustomization,) = read("flux/kustomization.yaml")
    overlay = ROOT / kustomization["spec"]["path"]
    assert (overlay / "kustomization.yaml").is_file()
    sources = {found["metadata"]["name"] for found in read("flux/source.yaml")}
    for name in ("kustomization", "releases"):
        assert read(f"flux/{name}.yaml")[0]["spec"]["sourceRef"]["name"] in sources


def test_the_overlay_leaves_no_image_without_registry_and_digest(tmp_path: Path) -> None:
    """Verify that one's digests in it are all that there is of ours, in pods and in what the trigger is told."""
    for part in ("base", "components", "overlays", "gitops"):
        shutil.copytree(GITOPS.parent / part, tmp_path / part)
    written = tmp_path / "gitops" / "overlay" / "kustomization.yaml"
    mine = yaml.safe_load(written.read_text())
    for number, image in enumerate(mine["images"], 1):
        image["digest"] = f"sha256:{number:064x}"
    written.write_text(yaml.safe_dump(mine))
    done = subprocess.run(
        [tool("kustomize"), "build", written.parent], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    named = set(re.findall(r"[^\s\"']*windlass/\w+[@:][\w:.@]+", done.stdout))
    assert named == {f"{image['newName']}@{image['digest']}" for image in mine["images"]}
    assert done.stdout.count("@sha256:") > len(named)
    (trigger,) = (
        found
        for found in documents(done.stdout).values()
        if (found["kind"], found["metadata"]["name"]) == ("Deployment", "windlass-retrain")
    )
    (container,) = trigger["spec"]["template"]["spec"]["containers"]
    told = {each["name"]: each.get("value") for each in container["env"]}
    assert told["WINDLASS_PIPELINE_IMAGE"] == container["image"]


def test_the_health_script_knows_the_phases() -> None:
    (found,) = read("argocd/health.yaml")
    script = found["data"]["resource.customizations.health.windlass.dev_Release"]
    named = set(re.findall(r'status\.phase == "(\w+)"', script))
    assert named <= {*get_args(Phase), REFUSED}
    assert {*FINISHED, REFUSED} <= named, "an end that is not told is shown as progressing for ever"
