"""kustomize's base, components and overlays, written from the chart: `python -m manifests.generate [--check]`.

The chart is the one source. The base is what helm renders with the default values. A component is what its values.yaml
adds to that; an overlay is what an environment's values file changes beyond its components. `--check` writes nothing
and exits 1 where a file is not up to date. It needs helm, which it builds where it is not there yet.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from manifests import values_reference
from manifests.difference import Difference, Key, compare, key, patched
from tests.cluster.tools.build import tool
from windlass.atomic import write_text
from windlass.errors import WindlassError

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "manifests"
CHART = ROOT / "helm" / "windlass"
NAMESPACE = "windlass"
HEADER = "# Written by `make manifests` from helm/windlass; change that instead.\n"
RESTRICTED = "restricted"
PAGE = "docs/helm.md"

COMPONENTS = ("gateway", "monitoring", "ray", "serverless")
#: Of `copies`, below the chart's files.
CHART_COPIES = ("crds", "serving", "dashboards")
Document = dict[str, Any]
#: Ten times as fast where the C library is there; a safe one either way.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Environment:
    """An overlay.

    Attributes:
        values: files of the chart, later ones win.
        components: what it takes over whole.
    """

    values: tuple[str, ...]
    components: tuple[str, ...] = ()


ENVIRONMENTS = {
    "kind": Environment(("values-kind.yaml",), ("gateway", "monitoring")),
    "dev": Environment(("values-dev.yaml",), ("monitoring",)),
    "staging": Environment(("values-staging.yaml",), ("gateway", "monitoring")),
    "prod": Environment(("values-prod.yaml", "values-digests.yaml"), ("gateway", "monitoring")),
}


def copies() -> dict[str, str]:
    """What the chart holds of other folders, since helm reads nothing outside of a chart; by place in the project."""
    found: dict[str, str] = {}
    for source, target in (
        ("manifests/crds", "crds"),
        ("manifests/serving", "serving"),
        ("monitoring/dashboards/generated", "dashboards"),
    ):
        for file in sorted((ROOT / source).glob("*.yaml" if target != "dashboards" else "*.json")):
            if file.name != "kustomization.yaml":
                found[f"helm/windlass/files/{target}/{file.name}"] = file.read_text()
    return found


def render(
    *values: Path, hooks: bool = False, settings: Sequence[str] = (), namespace: str = NAMESPACE
) -> str:
    """What `helm template` prints with the chart's own values and `values`.

    Raises:
        WindlassError: helm refused; its words are in the message.
    """
    command: list[str | Path] = [tool("helm"), "template", "windlass", CHART, "--namespace", namespace]
    command += [] if hooks else ["--no-hooks"]
    for file in values:
        command += ["--values", file]
    for setting in settings:
        command += ["--set", setting]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise WindlassError(
            f"`{' '.join(map(str, command))}` ended with {done.returncode}: {done.stderr.strip()}"
        )
    return done.stdout


def documents(text: str) -> dict[Key, Document]:
    """The objects of a text, by what identifies them."""
    return {key(found): found for found in yaml.load_all(text, _Loader) if found}


def environment_values(name: str) -> list[Path]:
    return [CHART / file for file in ENVIRONMENTS[name].values]


def namespace() -> Document:
    """An overlay brings its namespace, which helm does not make: with Pod Security at its strictest."""
    labels = {f"pod-security.kubernetes.io/{mode}": RESTRICTED for mode in ("enforce", "audit", "warn")}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def files() -> dict[str, str]:
    """Every file that is written, by place in the project; the chart's copies must be up to date."""
    text = render()
    base = documents(text)
    found = _base(text)
    differences: dict[str, Difference] = {}
    for name in COMPONENTS:
        differences[name] = compare(base, documents(render(HERE / "components" / name / "values.yaml")))
        found |= _component(name, differences[name])
    for name, environment in ENVIRONMENTS.items():
        start = base
        for component in environment.components:
            start = patched(start, differences[component])
        target = documents(render(*environment_values(name)))
        found |= _overlay(name, environment, compare(start, target))
    values = values_reference.read((CHART / "values.yaml").read_text())
    return found | {PAGE: values_reference.put((ROOT / PAGE).read_text(), values)}


def _base(text: str) -> dict[str, str]:
    """One file a folder of templates, as helm printed it: the templates' comments are the manifests' as well."""
    parts: dict[str, list[str]] = {}
    for block in re.split(r"^---\n", text, flags=re.MULTILINE):
        source = re.match(r"# Source: windlass/templates/(\S+)\n", block)
        if source is None or not yaml.load(block, _Loader):  # noqa: S506 - a safe loader, in C where there is one
            continue
        place = Path(source[1])
        name = place.stem if place.parent.name in ("", "cluster") else place.parts[0]
        parts.setdefault(name, []).append(block[source.end() :].strip("\n") + "\n")
    found = {
        f"manifests/base/{name}.yaml": HEADER + "---\n".join(["", *blocks]) for name, blocks in parts.items()
    }
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{name}.yaml" for name in sorted(parts)],
    }
    return found | {"manifests/base/kustomization.yaml": HEADER + dump(kustomization)}


def _component(name: str, difference: Difference) -> dict[str, str]:
    folder = f"manifests/components/{name}"
    kustomization: Document = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component"}
    return _written(folder, kustomization, difference)


def _overlay(name: str, environment: Environment, difference: Difference) -> dict[str, str]:
    folder = f"manifests/overlays/{name}"
    kustomization: Document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../../base", "namespace.yaml"],
    }
    if environment.components:
        kustomization["components"] = [
            f"../../components/{component}" for component in environment.components
        ]
    found = _written(folder, kustomization, difference)
    return found | {f"{folder}/namespace.yaml": HEADER + dump(namespace())}


def _written(folder: str, kustomization: Document, difference: Difference) -> dict[str, str]:
    found: dict[str, str] = {}
    resources = list(kustomization.get("resources", []))
    if difference.added:
        found[f"{folder}/added.yaml"] = HEADER + "---\n".join(map(dump, difference.added))
        resources.append("added.yaml")
    if resources:
        kustomization["resources"] = resources
    patches: list[Document] = []
    for removed in difference.removed:
        group = removed.api_version.rpartition("/")[0]
        kept = {"apiVersion": removed.api_version, "kind": removed.kind, "metadata": {"name": removed.name}}
        if removed.namespace:
            kept["metadata"] = {"name": removed.name, "namespace": removed.namespace}
        target = {**({"group": group} if group else {}), "kind": removed.kind, "name": removed.name}
        patches.append({"target": target, "patch": dump({"$patch": "delete", **kept})})
    for changed, steps in difference.changed.items():
        place = f"{changed.kind.lower()}-{changed.name}.yaml"
        found[f"{folder}/patches/{place}"] = HEADER + dump(steps)
        patches.append({"target": {"kind": changed.kind, "name": changed.name}, "path": f"patches/{place}"})
    if patches:
        kustomization["patches"] = patches
    return found | {f"{folder}/kustomization.yaml": HEADER + dump(kustomization)}


class _Dumper(yaml.SafeDumper):
    """Several lines stay several lines."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def dump(document: Any) -> str:
    """YAML in the order given."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)


def _stale(wanted: Mapping[str, str]) -> list[str]:
    return [
        place
        for place, content in wanted.items()
        if not (path := ROOT / place).is_file() or path.read_text() != content
    ]


def _left_over(wanted: Mapping[str, str], folders: Iterable[Path]) -> list[str]:
    """Files of an earlier chart: nobody would see that they mean nothing any more."""
    there = {
        str(file.relative_to(ROOT)) for folder in folders for file in folder.rglob("*") if file.is_file()
    }
    kept = {f"manifests/components/{name}/values.yaml" for name in COMPONENTS}
    return sorted(there - set(wanted) - kept)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m manifests.generate", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if a file is not up to date"
    )
    arguments = parser.parse_args(argv)
    try:
        copied = copies()
        if not arguments.check:
            # before helm renders them
            _put(copied, (CHART / "files" / name for name in CHART_COPIES))
        wanted = copied | files()
    except WindlassError as error:
        print(f"manifests: {error}", file=sys.stderr)  # noqa: T201 - a command prints
        return error.exit_code
    folders = [CHART / "files" / name for name in CHART_COPIES]
    folders += [HERE / "base", *(HERE / "components" / name for name in COMPONENTS), HERE / "overlays"]
    if arguments.check:
        wrong = [*_stale(wanted), *_left_over(wanted, folders)]
        for place in wrong:
            print(f"{place} is not up to date; run make manifests", file=sys.stderr)  # noqa: T201 - a command prints
        return 1 if wrong else 0
    written, removed = _put(wanted, folders)
    print(f"{len(wanted)} files, {written} of them written, {removed} removed")  # noqa: T201 - a command prints
    return 0


def _put(wanted: Mapping[str, str], folders: Iterable[Path]) -> tuple[int, int]:
    stale = _stale(wanted)
    for place in stale:
        write_text(ROOT / place, wanted[place])
    spare = _left_over(wanted, folders)
    for place in spare:
        (ROOT / place).unlink()
    return len(stale), len(spare)


if __name__ == "__main__":
    sys.exit(main())
