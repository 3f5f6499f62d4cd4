"""The project's frame: make targets, the environment's maker, the packages' layers."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def environment() -> ModuleType:
    """`requirements/environment.py`, which runs before there is anything to import it from."""
    spec = importlib.util.spec_from_file_location("environment", PROJECT / "requirements" / "environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    # a make around the tests must not reach into this one
    outside = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "ARGS")}
    return subprocess.run(
        ["make", *arguments], cwd=PROJECT, env=outside, capture_output=True, text=True, check=False
    )


def test_help_shows_every_target() -> None:
    """Verify that every target that is meant for people is explained, the well-known ones among them."""
    shown = set(re.findall(r"^  make ([\w-]+)", make("help").stdout, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.*)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None and shown == set(phony[1].split())
    assert {
        "help",
        "demo",
        "test",
        "lint",
        "format",
        "verify",
        "manifests",
        "kind-up",
        "clean",
        "lock",
    } <= shown


def test_demo_passes_its_arguments_on() -> None:
    """Verify ARGS, without running anything."""
    done = make("--dry-run", "--assume-old=.venv/.complete", "demo", "ARGS=--fast --out some/where")
    assert done.stdout.splitlines()[-1] == ".venv/bin/windlass demo --fast --out some/where"


def test_ci_runs_lint_and_the_tests() -> None:
    """Verify that what CI runs is what a person runs, and that it may be run at all."""
    script = PROJECT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = script.read_text().splitlines()
    assert [line for line in lines if line.startswith("make ")] == [
        "make .venv/.complete",
        "make lint",
        "make test",
        "make test-cluster",
    ]
    assert "set -euo pipefail" in lines


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        pytest.param("PIP_INDEX_URL", "https://mirror.example/simple", "UV_DEFAULT_INDEX", id="index"),
        pytest.param("PIP_EXTRA_INDEX_URL", "https://more.example/simple", "UV_INDEX", id="second-index"),
        pytest.param("PIP_FIND_LINKS", "/some/wheels", "UV_FIND_LINKS", id="wheels"),
        pytest.param("PIP_CERT", "/some/ca.crt", "SSL_CERT_FILE", id="certificates"),
        pytest.param("PIP_TRUSTED_HOST", "mirror.example", "UV_INSECURE_HOST", id="trusted-host"),
    ],
)
def test_what_pip_was_told_uv_is_told(
    variable: str, value: str, name: str, environment: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that a reader's mirror is used: uv does not read pip's configuration."""
    for other in [n for n in os.environ if n.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(other)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv(variable, value)
    assert environment.uv_environment()[name] == value
    monkeypatch.setenv(name, "what the reader said of uv itself")
    assert environment.uv_environment()[name] == "what the reader said of uv itself"


def test_an_environment_of_another_lock_is_made_again(
    environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify when an installation runs: first, after a change of the lock, after an interruption, on repair."""
    lock, venv, ran = tmp_path / "some.lock", tmp_path / "venv", []
    lock.write_text("orjson==1.0\n")
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)

    def run(command: list[object]) -> None:
        ran.append(" ".join(map(str, command[1:3])))
        if interrupted and "install" in ran[-1]:
            raise KeyboardInterrupt

    monkeypatch.setattr(environment, "run", run)

    def install(**options: bool) -> list[str]:
        ran.clear()
        environment.make(Path("uv"), venv, lock, **options)
        return list(ran)

    interrupted = True
    with pytest.raises(KeyboardInterrupt):
        install()
    interrupted = False
    assert install() == ["pip sync", "pip install"], "interrupted: once more"
    assert install() == [], "complete: nothing"
    assert install(repair=True) == ["pip sync", "pip install"]
    lock.write_text("orjson==1.1\n")
    assert install() == ["pip sync", "pip install"], "another lock"
    (venv / "bin" / "python").unlink()
    assert install() == ["venv --quiet", "pip sync", "pip install"], "broken: made anew"


def test_the_layers_hold() -> None:
    """Verify the import contracts: who may import whom, and each heavy client's one importer."""
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_nothing_of_a_machine_or_a_registry_is_in_the_files() -> None:
    """Verify that no tracked file holds a place of somebody's machine, a package index or a secret's look."""
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    pattern = re.compile(
        "|".join(
            [
                "/ro" + "ot/", "/wo" + r"rk/(?:main|shared)", "pypi" + r"\.org", "files\\." + "pythonhosted",
                "AKIA[0-9A-Z]{16}", "BEGIN (?:RSA |EC )?PRIVATE " + "KEY",
            ]
        )
    )  # fmt: skip
    found = []
    for name in tracked:
        path = PROJECT / name
        if path.suffix in (".parquet", ".png", ".onnx", ".zip") or not path.is_file():
            continue
        if match := pattern.search(path.read_text(errors="replace")):
            found.append((name, match[0]))
    assert found == []
