"""The model server's image, as far as its text tells; it is built by hand, since a test has no image builder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import dockerfile
from tests.support.dockerfile import PROJECT, environment, said
from windlass import telemetry


@pytest.fixture(scope="module")
def stages() -> list[dockerfile.Stage]:
    return dockerfile.stages("serving")


def test_both_stages_start_from_the_training_images_base(stages: list[dockerfile.Stage]) -> None:
    """Verify that an environment made in one stage finds its Python in the other, and that one base is to be kept."""
    (base,) = re.findall(r"^FROM (\S+)$", (PROJECT / "docker/training.Dockerfile").read_text(), re.MULTILINE)
    assert [said(stage, "FROM")[0].split(" AS ")[0] for stage in stages] == [base, base]
    assert re.fullmatch(r"python:3\.11\.\d+-\S+", base)


def test_what_is_installed_is_what_was_locked(stages: list[dockerfile.Stage]) -> None:
    """Verify that nothing comes by another way than the lock with its hashes."""
    runs = " && ".join(run for stage in stages for run in said(stage, "RUN"))
    (install,) = re.findall(r"pip install ([^&]*)", runs)
    assert {"--no-deps", "--require-hashes", "--requirement"} <= set(install.split())
    assert said(stages[0], "COPY")[0].split()[0] == "requirements/serving.lock"
    assert not re.search(r"apt|curl|wget", runs)


def test_the_server_runs_from_what_is_copied_alone(stages: list[dockerfile.Stage], tmp_path: Path) -> None:
    """Verify that every module of the server finds all it imports among the files that the image has."""
    dockerfile.copy(stages[0], tmp_path)
    modules = sorted(
        ".".join(p.relative_to(tmp_path).with_suffix("").parts)
        for p in (tmp_path / "serving" / "runtime").rglob("*.py")
        if p.stem not in ("__init__", "__main__")
    )
    assert "serving.runtime.trust.verify" in modules
    program = (
        "import importlib, json, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "ours = ('windlass', 'serving', 'components', 'pipelines', 'monitoring', 'workloads')\n"
        "print(json.dumps([m.__file__ for n, m in sys.modules.items() if n.split('.')[0] in ours and m.__file__]))"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, *modules], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [f for f in json.loads(done.stdout) if not f.startswith(str(tmp_path))] == []


def test_the_image_needs_neither_root_nor_a_place_to_write(stages: list[dockerfile.Stage]) -> None:
    """Verify a numeric user, and bytecode made before nothing can be written any more."""
    final = stages[-1]
    assert said(final, "USER") == ["65532"]
    names = [name for name, _ in final]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name in ("RUN", "COPY"))
    assert said(final, "VOLUME") == []
    assert environment(final)["PYTHONDONTWRITEBYTECODE"] == "1"
    compiled = [run for stage in stages for run in said(stage, "RUN") if "compileall" in run]
    assert len(compiled) == 2
    assert all("--invalidation-mode unchecked-hash" in run for run in compiled)
    assert all(path in compiled[0] for path in ("/opt/venv", "/opt/windlass"))


def test_nothing_of_the_build_stays_in_the_image(stages: list[dockerfile.Stage]) -> None:
    """Verify that the builder's certificates and installer end with their stage."""
    final = stages[-1]
    assert said(final, "ARG") == []
    assert not any("PIP" in name for name in environment(final))
    assert [line.split()[0] for line in said(final, "COPY")] == ["--from=packages"] * 2


def test_the_container_starts_the_server_and_stops_it_as_it_drains(
    stages: list[dockerfile.Stage],
) -> None:
    """Verify the command, that it listens beyond its container, and the signal that the server drains on."""
    final = stages[-1]
    (entry,) = said(final, "ENTRYPOINT")
    assert json.loads(entry) == ["python3", "-m", "serving.runtime", "--host", "0.0.0.0", "--port", "8080"]  # noqa: S104
    assert said(final, "EXPOSE") == ["8080"]
    assert said(final, "STOPSIGNAL") == ["SIGTERM"]
    assert said(final, "HEALTHCHECK") == ["NONE"]
    variables = environment(final)
    assert variables["ORT_DISABLE_TELEMETRY"] == telemetry.SWITCHES["ORT_DISABLE_TELEMETRY"]
    assert variables["PYTHONSAFEPATH"] == "1"
