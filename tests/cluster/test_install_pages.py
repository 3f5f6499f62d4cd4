"""The install pages can be followed: their commands are rendered, run or parsed, and what they name is there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests.generate import ROOT, documents, environment_values, render
from monitoring import labels
from serving.release.cluster.serving_options import loads
from tests.cluster.tools.build import BUILD_S
from windlass import atomic, catalog
from windlass.cli import app

pytestmark = pytest.mark.timeout(2 * BUILD_S)

DOCS = ROOT / "docs"
PAGES = [*sorted((DOCS / "install").glob("*.md")), *(DOCS / f"{n}.md" for n in ("gitops", "helm", "kind"))]
USING, DEV = DOCS / "install" / "using.md", DOCS / "install" / "dev.md"
REGISTRY = "registry.example"


def commands(page: Path) -> list[str]:
    """Commands of the page's blocks, indented or fenced, those over several lines in one."""
    blocks = re.findall(r"```\n(.*?)```", page.read_text(), re.DOTALL)
    blocks += re.findall(r"(?:^ {4,}\S.*\n)+", page.read_text(), re.MULTILINE)
    found: list[str] = []
    quoted = False
    for line in "".join(blocks).splitlines():
        said = line.strip()
        if found and (quoted or found[-1].endswith("\\")):
            found[-1] = f"{found[-1].removesuffix(chr(92))} {said}"
        else:
            found.append(said)
        # a body of curl goes on until its quote is closed
        quoted = found[-1].count("'") % 2 == 1
    return found


def every(pattern: str, *pages: Path) -> list[Any]:
    return [
        pytest.param(command, id=f"{page.stem}-{number}")
        for page in pages or PAGES
        for number, command in enumerate(c for c in commands(page) if re.search(pattern, c))
    ]


def values(command: str) -> tuple[list[Path], list[str]]:
    """Files and settings of a command of helm; one's own digests are those of the chart."""
    words = shlex.split(command)
    named = [words[i + 1] for i, word in enumerate(words) if word == "-f"]
    settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    assert len(named) + len(settings) > 0, command
    return [
        ROOT / "helm/windlass/values-digests.yaml" if n == "digests.yaml" else ROOT / n for n in named
    ], settings


@pytest.mark.parametrize("command", every(r"helm .*(upgrade --install|template) "))
def test_helm_takes_a_pages_command(command: str) -> None:
    """Verify that it renders, and that every image of ours comes from where it says."""
    assert " helm/windlass " in command
    text = render(*values(command)[0], settings=values(command)[1])
    images = re.findall(r"image: (\S*windlass/\w+[:@]\S+)", text)
    told = f"imageRegistry={REGISTRY}" in command
    assert images and all(image.startswith(f"{REGISTRY}/") for image in images) is told


@pytest.mark.parametrize("options", re.findall(r"`(--set [^`]*)`", DEV.read_text()))
def test_helm_takes_an_exception_of_a_page(options: str) -> None:
    """Verify each case of a cluster that is otherwise, beside the page's own command."""
    (command,) = (c for c in commands(DEV) if "upgrade --install" in c)
    files, settings = values(command)
    more = values(options.replace("NAMESPACE", "elsewhere").replace("NAME", "other"))[1]
    assert len(documents(render(*files, settings=[*settings, *more]))) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_is_there(page: Path) -> None:
    """Verify files of the repository, and objects of the namespace by the values of dev, staging or prod."""
    text = "\n".join(commands(page))
    for name in re.findall(r"(?<![\w/-])(?:manifests|helm|docs)/[\w./-]+", text):
        assert (ROOT / name).exists(), name
    made = {
        (key.kind, key.name)
        for environment in ("dev", "staging", "prod")
        for key in documents(render(*environment_values(environment)))
    }
    kinds = {"deploy": "Deployment", "service": "Service", "cronjob": "CronJob", "statefulset": "StatefulSet"}
    for short, name in re.findall(
        rf"\b({'|'.join(kinds)})/(windlass-[a-z-]+[a-z])", text.replace("NAME", "flights")
    ):
        assert (kinds[short], name) in made, f"{short}/{name}"
    for name in re.findall(r"get configmap (\S+)", text):
        assert ("ConfigMap", name) in made


def test_two_versions_are_trained_by_two_jobs() -> None:
    """Verify what sed makes of the Job: images of one's registry, a name for each, arguments that the command takes."""
    made = []
    for command in (c for c in commands(USING) if c.startswith("sed ")):
        sed = command.rpartition("|")[0]
        done = subprocess.run(["bash", "-c", sed], cwd=ROOT, capture_output=True, text=True, check=True)
        made.append(yaml.safe_load(done.stdout))
    assert [job["metadata"]["name"] for job in made] == ["train-flights", "train-flights-2"]
    ends = []
    for job in made:
        spec = job["spec"]["template"]["spec"]
        for container in (*spec["initContainers"], *spec["containers"]):
            assert container["image"].startswith(f"{REGISTRY}/windlass/training:")
        (trains,) = spec["initContainers"]
        ends.append(app.build_parser().parse_args([*trains["command"][3:], *trains["args"]]).end)
    assert ends == ["2013-02-28", "2013-03-31"]
    waited = [c.rpartition("/")[2] for c in commands(USING) if " wait " in c]
    assert waited == ["train-flights", "train-flights-2"]


@pytest.mark.parametrize(
    "command", every(r"(python3 -m |^)windlass ", USING, DOCS / "install" / "staging-and-prod.md")
)
def test_a_command_of_ours_is_taken(command: str) -> None:
    """Verify its words, as the command line reads them."""
    words = shlex.split(command.partition("|")[0])
    app.build_parser().parse_args(
        words[words.index("windlass", words.index("--") if "--" in words else 0) + 1 :]
    )


def test_the_samples_now_is_taken_by_staging(tmp_path: Path) -> None:
    """Verify the values that a page has one state, and that servers and features get them."""
    stated = "\n".join(c for c in commands(USING) if c.startswith(("operator:", "features:")))
    assert set(yaml.safe_load(stated)) == {"operator", "features"}
    atomic.write_text(tmp_path / "values.yaml", stated)
    found = {
        (k.kind, k.name): d
        for k, d in documents(render(*environment_values("staging"), tmp_path / "values.yaml")).items()
    }
    options = loads(found["ConfigMap", "windlass-operator"]["data"]["serving.yaml"])
    assert options.of("flights").arguments == ("--as-of", "1364774400")
    assert ("CronJob", "windlass-materialize-flights") in found


def test_requests_have_the_fields_of_the_sample() -> None:
    """Verify that a caller who copies them sends what the model takes, by V1 and V2, and feedback that is taken."""
    flights = catalog.load("flights", ROOT)
    wanted = {*flights.entities, *(field.name for field in flights.request_fields)}
    bodies = {}
    for command in (c for c in commands(USING) if c.startswith("curl ") and " -d " in c):
        words = shlex.split(command)
        bodies[words[[w.startswith(("http", "localhost")) for w in words].index(True)]] = json.loads(
            words[words.index("-d") + 1]
        )
    one, tensors, told = bodies.values()
    paths = [url.partition("/v")[2] for url in bodies]
    assert paths[:2] == ["1/models/flights:predict", "2/models/flights/infer"]
    assert set(one["instances"][0]) == wanted
    assert {each["name"] for each in tensors["inputs"]} == wanted
    assert {each["name"]: each["data"][0] for each in tensors["inputs"]} == one["instances"][0]
    (label,) = told
    assert (
        labels.validate(label, now=0.0).request_id == "order-4711"
        and "x-request-id: order-4711" in USING.read_text()
    )


def test_feedback_from_outside_goes_where_the_chart_has_it() -> None:
    """Verify the sample by the chart: the Gateway, the Service and its port, the collector's pods, the proxies."""
    text = (ROOT / "manifests/samples/feedback/outside.yaml").read_text()
    route, policy, flow = yaml.safe_load_all(text)
    found = {(k.kind, k.name): d for k, d in documents(render(*environment_values("prod"))).items()}
    (parent,) = route["spec"]["parentRefs"]
    assert ("Gateway", parent["name"]) in found
    ((rule,),) = (route["spec"]["rules"],)
    (backend,) = rule["backendRefs"]
    (port,) = found["Service", backend["name"]]["spec"]["ports"]
    assert backend["port"] == port["port"] == flow["spec"]["ingress"][0]["ports"][0]["port"]
    assert [match["path"] for match in rule["matches"]] == [{"type": "Exact", "value": "/feedback"}]
    (target,) = policy["spec"]["targetRefs"]
    assert (target["kind"], target["name"]) == (route["kind"], route["metadata"]["name"])
    collector = found["StatefulSet", "windlass-collector"]["spec"]["template"]["metadata"]["labels"]
    assert flow["spec"]["podSelector"]["matchLabels"].items() <= collector.items()
    (peer,) = flow["spec"]["ingress"][0]["from"]
    chart = yaml.safe_load((ROOT / "helm/windlass/values.yaml").read_text())
    assert peer["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": chart["gateway"]["proxyNamespace"]
    }


def test_kubectl_and_helm_are_all_that_a_page_needs() -> None:
    """Verify that no command begins with a program that the pages do not ask for."""
    known = {
        "kubectl", "helm", "openssl", "curl", "sed", "windlass", "docker", "for", "done", "make", "skopeo", "aws",
        "python3.11", "GATEWAY=$(kubectl", "UV_OFFLINE=1",
    }  # fmt: skip
    for page in PAGES:
        for command in commands(page):
            first = command.split()[0]
            assert first in known or first.startswith(("manifests/", "{", "operator:", "features:")), (
                page.name,
                command,
            )
