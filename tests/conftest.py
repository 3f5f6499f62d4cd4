"""What every test gets: no telemetry, and a home of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis.internal.conjecture import providers

from windlass import telemetry


def pytest_configure() -> None:
    # before any test imports a package that would report home
    telemetry.switch_off()
    # a thread of OpenMP that waits for the others takes a processor from them: there are as many workers as processors
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # hypothesis tries the constants of our modules that are loaded, which tests that ran before decide: what is drawn
    # would differ from run to run, derandomized or not
    providers.is_local_module_file = lambda path: False


@pytest.fixture(autouse=True)
def _scratch_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that forgets to name a home must not find, or leave, one in the project folder."""
    for name in (
        "WINDLASS_ONLINE_STORE",
        "WINDLASS_REDIS_URL",
        "WINDLASS_OBJECT_STORE",
        "WINDLASS_S3_ENDPOINT",
        "WINDLASS_SIGNING_KEY",
        "WINDLASS_SIGNING_KEY_PASSWORD",
        "WINDLASS_VERIFY_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WINDLASS_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="session")
def project() -> Path:
    """The project folder."""
    return Path(__file__).parent.parent
