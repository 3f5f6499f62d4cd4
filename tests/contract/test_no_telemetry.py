"""Every reporter among our dependencies has its switch, the switch is the one it reads, and the watch sees it break."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import airgap
import pytest

from windlass import telemetry

# who reads which switch; a package that is not installed here is looked at where it is
READERS = {
    "mlflow": ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"),
    "evidently": ("DO_NOT_TRACK", "EVIDENTLY_DISABLE_TELEMETRY"),
    "iterative_telemetry": ("ITERATIVE_DO_NOT_TRACK",),
    "onnxruntime": ("ORT_DISABLE_TELEMETRY",),
    "ray": ("RAY_USAGE_STATS_ENABLED",),
    "dvc": ("DVC_NO_ANALYTICS",),
}
DVC = Path(__file__).parents[2] / ".tools" / "dvc" / "lib" / "python3.11" / "site-packages"
# neither a switch nor, any more, a reporter
SILENT = {"FEAST_USAGE"}


def bare_environment(**more: str) -> dict[str, str]:
    """This environment without our switches, and without the CI variables that silence reporters by themselves."""
    dropped = ("CI", "GITHUB_", "PYTEST_")
    return {
        k: v for k, v in os.environ.items() if k not in telemetry.SWITCHES and not k.startswith(dropped)
    } | more


@pytest.mark.parametrize("package", READERS)
def test_a_switch_is_one_that_its_package_reads(package: str) -> None:
    """Verify each name in the installed source: an upgrade that renames its switch fails here."""
    assert set(READERS[package]) <= set(telemetry.SWITCHES)
    spec = importlib.util.find_spec(package)
    # DVC is a program with an environment of its own
    folder = DVC / package if spec is None or spec.origin is None else Path(spec.origin).parent
    if not folder.is_dir():
        pytest.skip(f"{package} is in none of the locks of this environment")
    sources = [p for p in folder.rglob("*") if p.suffix in (".py", ".so") and p.is_file()]
    for switch in READERS[package]:
        assert any(switch.encode() in p.read_bytes() for p in sources), f"{package} no longer reads {switch}"


def test_every_switch_has_a_reader() -> None:
    """Verify that the list holds no name that protects nobody without saying so."""
    assert set(telemetry.SWITCHES) - {name for names in READERS.values() for name in names} == SILENT


def test_the_packages_themselves_say_that_they_are_off() -> None:
    """Verify mlflow's and evidently's own answers, in a process that was switched off as ours are."""
    program = (
        "from windlass import telemetry; telemetry.switch_off()\n"
        "from mlflow.telemetry.utils import is_telemetry_disabled\n"
        "from evidently.telemetry import event_logger\n"
        "print(is_telemetry_disabled(), event_logger.is_enabled())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=bare_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False"]


@pytest.mark.skipif(not airgap.possible(), reason="this system lets nobody make a network namespace")
def test_onnxruntime_is_silent_only_with_its_switch(tmp_path: Path) -> None:
    """Verify that the native reporter is real: it leaves an identifier without our switch, and none with it."""
    program = "import onnxruntime; onnxruntime.get_available_providers(); {}"
    session = (
        "import onnx.helper as h; from onnx import TensorProto as T; "
        "v = lambda n: h.make_tensor_value_info(n, T.FLOAT, [1]); "
        "m = h.make_model(h.make_graph([h.make_node('Abs', ['x'], ['y'])], 'g', [v('x')], [v('y')]), "
        "ir_version=8, opset_imports=[h.make_opsetid('', 17)]); "
        "onnxruntime.InferenceSession(m.SerializeToString())"
    )
    left = {}
    for name, switch in (("on", {}), ("off", {"ORT_DISABLE_TELEMETRY": "1"})):
        home = tmp_path / name
        home.mkdir()
        # behind the gap: this test must not do what it tests for
        watched = airgap.watch(
            [sys.executable, "-c", program.format(session)],
            env=bare_environment(HOME=str(home), **switch),
            cwd=home,
            timeout=120,
        )
        assert watched.returncode == 0, watched.stderr
        left[name] = [p.name for p in home.rglob("*") if p.is_file()]
    assert left["off"] == []
    assert left["on"] != [], "onnxruntime reports no more: then the switch and this test can go"


@pytest.mark.parametrize(
    ("program", "stranger"),
    [
        pytest.param(
            "import socket; s = socket.socket(); s.setblocking(False); s.connect_ex(('203.0.113.7', 443))",
            "203.0.113.7",
            id="a-connection",
        ),
        pytest.param(
            "import socket\ntry: socket.getaddrinfo('telemetry.invalid', 443)\nexcept OSError: pass",
            "telemetry.invalid",
            id="a-name-lookup",
        ),
        pytest.param(
            "import subprocess; subprocess.run(['bash', '-c', 'echo x > /dev/udp/203.0.113.7/9'])",
            "203.0.113.7 port 9",
            id="native-code-of-a-child",
        ),
        pytest.param(
            "import socket; a = socket.create_server(('127.0.0.1', 0)); socket.create_connection(a.getsockname())",
            None,
            id="ourselves",
        ),
    ],
)
def test_the_watch_sees_who_leaves(program: str, stranger: str | None, tmp_path: Path) -> None:
    """Verify the instrument: an attempt of every kind is seen, and talking to ourselves is not one."""
    watched = airgap.watch(
        [sys.executable, "-c", program],
        env={**os.environ, "RES_OPTIONS": "timeout:1 attempts:1"},
        cwd=tmp_path,
        timeout=120,
    )
    assert watched.returncode == 0, watched.stderr
    if stranger is None:
        assert watched.strangers == []
    elif watched.whole or "bash" not in program:
        assert any(stranger in where for where in watched.strangers), watched.strangers
    else:
        pytest.skip("this system lets nobody make a network namespace: native code cannot be watched")


def test_the_model_server_is_silent_however_it_is_started() -> None:
    """Verify that importing the server is enough, whoever loads onnxruntime after it and by whatever command."""
    program = (
        "import os, sys; from serving.runtime import __main__; "
        "print('onnxruntime' in sys.modules, os.environ.get('ORT_DISABLE_TELEMETRY'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=bare_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "1"]
