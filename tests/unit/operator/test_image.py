"""The operator's image: locked, light, without rights, and complete."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.support import dockerfile
from tests.support.dockerfile import PROJECT, said

#: What a package of the lock takes where it is there, and does without.
OPTIONAL = {"blinker"}

PROGRAM = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
import kopf, kubernetes.client, kubernetes.config, yaml
ours = ("windlass", "serving", "components", "pipelines", "monitoring", "workloads")
files = [m.__file__ for n, m in sys.modules.items() if n.split(".")[0] in ours and getattr(m, "__file__", None)]
others = {n.split(".")[0] for n, m in sys.modules.items() if getattr(m, "__file__", None)}
others -= {*ours, *sys.stdlib_module_names}
print(json.dumps([files, sorted(others)]))
"""


@pytest.fixture(scope="module")
def stages() -> list[dockerfile.Stage]:
    return dockerfile.stages("operator")


@pytest.fixture(scope="module")
def copied(stages: list[dockerfile.Stage], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the image has of us."""
    folder = tmp_path_factory.mktemp("image")
    dockerfile.copy(stages[0], folder)
    return folder


def run(copied: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(copied),
        "PYTHONSAFEPATH": "1",
        "HOME": str(copied),
        **more,
    }
    return subprocess.run([sys.executable, *words], env=env, cwd=copied, capture_output=True, text=True)


def test_the_operator_runs_from_what_is_copied_and_locked_alone(copied: Path) -> None:
    """Verify that every module finds all it imports in the image: our files there, and packages of its lock."""
    modules = sorted(
        ".".join(p.relative_to(copied).with_suffix("").parts)
        for p in (copied / "windlass" / "operator").rglob("*.py")
        if p.stem != "__init__"
    )
    assert "windlass.operator.handlers" in modules and "windlass.operator.__main__" in modules
    done = run(copied, "-c", PROGRAM, *modules)
    assert done.returncode == 0, done.stderr
    files, others = json.loads(done.stdout)
    assert [file for file in files if not file.startswith(str(copied))] == []
    lock = (PROJECT / "requirements" / "operator.lock").read_text()
    locked = {name.lower() for name in re.findall(r"^([A-Za-z0-9_.-]+)==", lock, re.MULTILINE)}
    owners = metadata.packages_distributions()
    unlocked = {
        module
        for module in others
        if not {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners.get(module, [])} & locked
        and not module.startswith("_")
    }
    assert unlocked - OPTIONAL == set()


def test_it_says_what_it_lacks(copied: Path) -> None:
    """Verify that outside of a cluster it ends with one line that names the remedy."""
    for more, words in (
        ({}, "WINDLASS_NAMESPACES"),
        ({"POD_NAMESPACE": "team", "WINDLASS_PORT": "0"}, "no cluster around us and no kubeconfig"),
    ):
        done = run(copied, "-m", "windlass.operator", **more)
        assert done.returncode == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1


def test_it_needs_neither_root_nor_a_place_to_write(stages: list[dockerfile.Stage]) -> None:
    """Verify the base of the other images, packages by hash, bytecode from the build, a numeric user, probes' port."""
    bases = re.findall(r"^FROM (\S+)", (PROJECT / "docker" / "serving.Dockerfile").read_text(), re.MULTILINE)
    assert [said(stage, "FROM")[0].split()[0] for stage in stages] == bases
    runs = " && ".join(run for stage in stages for run in said(stage, "RUN"))
    (install,) = re.findall(r"pip install ([^&]*)", runs)
    assert {"--no-deps", "--require-hashes"} <= set(install.split()) and not re.search(r"apt|curl|wget", runs)
    assert said(stages[0], "COPY")[0].split()[0] == "requirements/operator.lock"
    assert runs.count("compileall") == 2
    last = stages[-1]
    assert said(last, "USER") == ["65532"] and said(last, "EXPOSE") == ["8080"]
    assert json.loads(said(last, "ENTRYPOINT")[0]) == ["python3", "-m", "windlass.operator"]
    assert "PYTHONDONTWRITEBYTECODE=1" in shlex.split(" ".join(said(last, "ENV")))
