"""The locks against pyproject.toml, against each other, and against what is installed."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parent.parent.parent
ROOTS = {
    "serving": ({"serving-native", "redis"}, None),
    "training": ({"local", "flights", "redis", "postgres"}, "build"),
    "local": ({"local", "flights", "redis", "operator"}, "dev"),
    "all": (
        {"serving-native", "redis", "local", "flights", "cluster", "operator", "scale", "postgres"},
        "dev",
    ),
}
# The project's own promise: these are what it stands on, at these versions, and they resolve together.
NAMED = {
    "kfp": "2.16.1", "kserve": "0.21.0", "kubernetes": "30.1.0", "mlflow": "3.17.2", "optuna": "5.0.0",
    "ray": "2.60.0", "tensorflow": "2.21.0", "scikit-learn": "1.9.1", "evidently": "0.7.23",
    "prometheus-client": "0.24.1", "feast": "0.67.0", "boto3": "1.44.5",
}  # fmt: skip


@cache
def locked(name: str) -> dict[str, tuple[str, int]]:
    """Package -> version and number of hashes."""
    found: dict[str, tuple[str, int]] = {}
    package = ""
    for line in (PROJECT / "requirements" / f"{name}.lock").read_text().splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)==([^ ;]+)", line):
            package = canonicalize_name(match[1])
            found[package] = (match[2], 0)
        elif "--hash=sha256:" in line:
            found[package] = (found[package][0], found[package][1] + 1)
    return found


def roots(name: str) -> list[Requirement]:
    extras, group = ROOTS[name]
    document = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    texts = list(document["project"]["dependencies"])
    for extra in extras:
        texts += document["project"]["optional-dependencies"][extra]
    groups = [group] if group else []
    for group in groups:
        for entry in document["dependency-groups"][group]:
            if isinstance(entry, str):
                texts.append(entry)
            else:
                groups.append(entry["include-group"])
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("name", ROOTS)
def test_a_lock_fulfils_what_the_project_asks_for(name: str) -> None:
    """Verify that each requirement is in the lock at a version it allows (else: `make lock`)."""
    unmet = [
        str(requirement)
        for requirement in roots(name)
        if not requirement.specifier.contains(
            locked(name).get(canonicalize_name(requirement.name), ("0", 0))[0], prereleases=True
        )
    ]
    assert unmet == []


@pytest.mark.parametrize(
    "name", [*ROOTS, "bootstrap", "conformance", "dvc", "go", "grafana", "keras", "operator"]
)
def test_a_lock_holds_hashes_and_no_address(name: str) -> None:
    """Verify that what is installed is what was locked, from whatever index the reader has."""
    text = (PROJECT / "requirements" / f"{name}.lock").read_text()
    assert [package for package, (_, hashes) in locked(name).items() if hashes == 0] == []
    assert re.findall(r"https?://|--index|--find-links|file:", text) == []


@pytest.mark.parametrize("name", ["serving", "training", "local", "operator"])
def test_a_package_has_one_version_in_all_locks(name: str) -> None:
    """Verify that what the tests ran with is what the images carry, and what a cluster user installs."""
    everything = locked("all")
    different = {
        p: (v, everything.get(p)) for p, (v, _) in locked(name).items() if everything.get(p, ("",))[0] != v
    }
    assert different == {}


def test_the_twelve_named_packages_resolve_together() -> None:
    """Verify that one environment can hold all of them at the versions that we promise."""
    assert {p: locked("all")[p][0] for p in NAMED} == NAMED


def test_a_model_server_needs_no_trainer() -> None:
    """Verify that the serving image carries neither the heavy frameworks nor anything close to their weight."""
    assert not {"tensorflow", "mlflow", "ray", "feast", "kfp", "pandas", "evidently", "xgboost"} & set(
        locked("serving")
    )
    assert len(locked("serving")) < 30


def test_an_operator_needs_no_trainer() -> None:
    """Verify that the operator's image carries what its extra asks for, and none of what its memory has no room for."""
    document = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    asked = map(Requirement, document["project"]["optional-dependencies"]["operator"])
    found = locked("operator")
    assert [str(r) for r in asked if not r.specifier.contains(found.get(r.name, ("0", 0))[0])] == []
    assert not {"mlflow", "pandas", "scipy", "feast", "kfp", "pyarrow", "boto3", "scikit-learn"} & set(found)


def test_xgboost_comes_without_its_gpu_libraries() -> None:
    """Verify that no lock holds the wheel that pulls half a gigabyte of nccl."""
    assert not any({"xgboost", "nvidia-nccl-cu12"} & set(locked(name)) for name in ROOTS)


def test_this_environment_is_what_the_lock_says() -> None:
    """Verify that the tests run on locked versions, not on whatever was there."""
    different = {}
    for package, (version, _) in locked("local").items():
        try:
            present = metadata.version(package)
        except metadata.PackageNotFoundError:
            present = "absent"
        if present != version:
            different[package] = (present, version)
    assert different == {}, (
        "run `make test` (or python3.11 requirements/environment.py) to bring .venv up to date"
    )


def test_nobody_else_owns_our_package_names() -> None:
    """Verify that no installed distribution ships a top-level package that would hide one of ours, or be hidden."""
    ours = {"windlass", "components", "pipelines", "serving", "monitoring", "workloads"}
    owners: dict[str, set[str]] = {}
    for distribution in metadata.distributions():
        name = canonicalize_name(distribution.metadata["Name"])
        for file in distribution.files or ():
            if len(file.parts) > 1 and file.parts[0] in ours:
                owners.setdefault(name, set()).add(file.parts[0])
    owners.pop("windlass", None)
    assert owners == {}


def test_every_package_of_ours_is_in_the_wheel() -> None:
    """Verify that no folder with code of ours is left out of the image."""
    document = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    stated = set(document["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    present = {
        path.parent.name
        for path in PROJECT.glob("*/__init__.py")
        if path.parent.name not in ("tests", "benchmarks", "feature_repo")
    }
    assert stated == present
    # what writes the manifests is typed too, and stays at home
    assert stated | {"manifests"} == set(document["tool"]["mypy"]["packages"])


def test_the_image_of_mlflows_server_has_the_driver_of_its_database() -> None:
    """Verify that what the chart's example address loads is in the lock of the image that runs the server: MLflow gives
    it to SQLAlchemy, which takes `postgresql://` for this driver."""
    import yaml
    from sqlalchemy.engine import make_url

    values = (PROJECT / "helm" / "windlass" / "values.yaml").read_text()
    (scheme,) = set(re.findall(r"database address \(`(\w+)://…`\)", values))
    driver = make_url(f"{scheme}://db/mlflow").get_dialect().driver
    assert {driver, f"{driver}-binary"} <= set(locked("training")) & set(locked("all"))
    assert "training" in yaml.safe_load(values)["mlflow"]["image"]["repository"]
    assert "requirements/training.lock" in (PROJECT / "docker" / "training.Dockerfile").read_text()
