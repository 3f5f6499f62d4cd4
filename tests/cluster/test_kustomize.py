"""kustomize's output is the chart's: both are built, and compared object by object."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from manifests import generate
from manifests.difference import Key, compare, key, patched, steps
from manifests.generate import COMPONENTS, ENVIRONMENTS, HERE
from tests.cluster.tools.build import BUILD_S, tool

pytestmark = pytest.mark.timeout(2 * BUILD_S)

Documents = dict[Key, dict[str, Any]]


def built(folder: Path) -> Documents:
    """What kustomize makes of a folder."""
    done = subprocess.run(
        [tool("kustomize"), "build", folder], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    # a deprecated field would be said here
    assert done.stderr == ""
    return generate.documents(done.stdout)


def same(one: Documents, other: Documents) -> None:
    difference = compare(one, other)
    assert not difference.added and not difference.removed and not difference.changed, difference


def test_the_base_is_the_chart() -> None:
    """Verify that helm with the default values and kustomize's base are the same objects."""
    same(built(HERE / "base"), generate.documents(generate.render()))


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_overlay_is_the_chart_with_its_values(name: str) -> None:
    """Verify that an environment is the same either way, but for its namespace, which helm does not make."""
    found = built(HERE / "overlays" / name)
    namespace = found.pop(key(generate.namespace()))
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    same(found, generate.documents(generate.render(*generate.environment_values(name))))


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_on_the_base_is_the_chart_with_its_values(name: str, tmp_path_factory: Any) -> None:
    """Verify that what a component adds and patches is what its values do."""
    folder = HERE / "overlays" / f".test-{name}"  # kustomize follows relative paths only
    folder.mkdir()
    try:
        (folder / "kustomization.yaml").write_text(
            f"resources: [../../base]\ncomponents: [../../components/{name}]\n"
        )
        found = built(folder)
    finally:
        (folder / "kustomization.yaml").unlink(missing_ok=True)
        folder.rmdir()
    same(found, generate.documents(generate.render(HERE / "components" / name / "values.yaml")))


def test_the_components_go_together(tmp_path: Path) -> None:
    """Verify that all of them on one overlay is a thing that kustomize can build."""
    root = tmp_path / "manifests"
    for part in ("base", "components", "overlays"):
        (root / part).parent.mkdir(exist_ok=True)
        subprocess.run(["cp", "-r", HERE / part, root / part], check=True)
    folder = root / "overlays" / "everything"
    folder.mkdir()
    names = ", ".join(f"../../components/{name}" for name in COMPONENTS)
    (folder / "kustomization.yaml").write_text(f"resources: [../../base]\ncomponents: [{names}]\n")
    kinds = {found.kind for found in built(folder)}
    assert {"Gateway", "RayCluster", "ServiceMonitor", "PrometheusRule"} <= kinds


def test_what_is_committed_is_what_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    """Verify that nobody edited a written file or forgot `make manifests`; the chart's copies are among them."""
    assert generate.main(["--check"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        pytest.param({"a": 1}, {"a": 1}, [], id="same"),
        pytest.param({"a": 1}, {"a": 2}, [{"op": "replace", "path": "/a", "value": 2}], id="replaced"),
        pytest.param(
            {"a": 1}, {"a": True}, [{"op": "replace", "path": "/a", "value": True}], id="one-or-true"
        ),
        pytest.param({"a": 1}, {}, [{"op": "remove", "path": "/a"}], id="removed"),
        pytest.param({}, {"a/b~c": 1}, [{"op": "add", "path": "/a~1b~0c", "value": 1}], id="escaped"),
        pytest.param(
            {"a": [{"b": 1}, 2]},
            {"a": [{"b": 3}, 2]},
            [{"op": "replace", "path": "/a/0/b", "value": 3}],
            id="list",
        ),
        pytest.param(
            {"a": [1]}, {"a": [1, 2]}, [{"op": "replace", "path": "/a", "value": [1, 2]}], id="longer"
        ),
    ],
)
def test_a_patch_says_what_changed(before: Any, after: Any, wanted: list[dict[str, Any]]) -> None:
    """Verify the steps, and that they lead where they say."""
    assert steps(before, after) == wanted
    named = {"apiVersion": "v1", "kind": "A", "metadata": {"name": "a"}}
    one, other = ({key(named): {**named, "spec": spec}} for spec in (before, after))
    assert patched(one, compare(one, other)) == other
