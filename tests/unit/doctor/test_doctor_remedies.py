"""Each check is shown something broken; its remedy, run by a shell, puts it right."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from windlass import settings as settings_module
from windlass import telemetry
from windlass.doctor import configuration, machine, packages, platform, stores, tools
from windlass.doctor.examination import examine
from windlass.doctor.finding import Finding
from windlass.settings import Settings


def shell(remedy: str | None, environ: dict[str, str] | None = None) -> dict[str, str]:
    """Run a remedy as a person would, and return the environment that it leaves."""
    assert remedy is not None
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"set -e\n{remedy}\nenv -0"],
        env={**os.environ, "PATH": path, **(environ or {})},
        capture_output=True,
        check=True,
        timeout=120,
    )
    return dict(item.split("=", 1) for item in done.stdout.decode().split("\0") if "=" in item)


@pytest.fixture
def scratch(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", project=tmp_path)


def old_registry(settings: Settings) -> None:
    """A database as the release before this mlflow's left it: without the newest migration."""
    settings.registry_dir.mkdir(parents=True)
    program = (
        "from alembic import command; from alembic.script import ScriptDirectory\n"
        "from mlflow.store.db.utils import InitialBase, _get_alembic_config\n"
        "from sqlalchemy import create_engine\n"
        f"address = 'sqlite:///{settings.registry_dir / 'mlflow.db'}'\n"
        "InitialBase.metadata.create_all(create_engine(address))\n"
        "config = _get_alembic_config(address)\n"
        "scripts = ScriptDirectory.from_config(config)\n"
        "command.upgrade(config, scripts.get_revision(scripts.get_current_head()).down_revision)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def corrupt_registry(settings: Settings) -> None:
    settings.registry_dir.mkdir(parents=True)
    (settings.registry_dir / "mlflow.db").write_bytes(b"this is no database at all" * 100)


def foreign_registry(settings: Settings) -> None:
    settings.registry_dir.mkdir(parents=True)
    with sqlite3.connect(settings.registry_dir / "mlflow.db") as connection:
        connection.execute("CREATE TABLE something (x)")


def corrupt_online(settings: Settings) -> None:
    settings.online_db.parent.mkdir(parents=True)
    settings.feast_registry.write_bytes(b"applied")
    settings.online_db.write_bytes(b"this is no database at all" * 100)


def emptied_feast_registry(settings: Settings) -> None:
    settings.feast_registry.parent.mkdir(parents=True)
    settings.feast_registry.touch()


def torn_bundle(settings: Settings) -> None:
    folder = settings.bundles_dir / "flights" / "3"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"half a mod")
    digest = hashlib.sha256(b"half a model").hexdigest()
    (folder / "serving.json").write_text(json.dumps({"sha256": {"model.onnx": digest}}))


def home_is_a_file(settings: Settings) -> None:
    settings.home.parent.mkdir(parents=True, exist_ok=True)
    settings.home.write_text("")


def stale_platform(settings: Settings) -> None:
    settings.run_dir.mkdir(parents=True)
    (settings.run_dir / "platform.json").write_text(json.dumps({"pids": {"envoy": 999999999}}))


@pytest.mark.parametrize(
    ("broken", "check", "status"),
    [
        pytest.param(corrupt_registry, stores.registry, "fail", id="registry-is-no-database"),
        pytest.param(foreign_registry, stores.registry, "fail", id="registry-of-something-else"),
        pytest.param(old_registry, stores.registry, "fail", id="registry-of-an-older-mlflow"),
        pytest.param(corrupt_online, stores.features, "fail", id="online-store-is-no-database"),
        pytest.param(emptied_feast_registry, stores.features, "fail", id="empty-feature-registry"),
        pytest.param(torn_bundle, stores.bundles, "fail", id="model-file-is-not-what-was-registered"),
        pytest.param(home_is_a_file, machine.home, "fail", id="home-is-a-file"),
        pytest.param(stale_platform, platform.platform, "warn", id="platform-was-killed"),
    ],
)
def test_the_remedy_puts_it_right(
    broken: Callable[[Settings], None],
    check: Callable[[Settings], Finding | list[Finding]],
    status: str,
    scratch: Settings,
) -> None:
    """Verify that a check finds what is broken, and finds nothing once its remedy was run."""

    def found() -> list[Finding]:
        result = check(scratch)
        return [result] if isinstance(result, Finding) else result

    assert {f.status for f in found()} == {"ok"}
    broken(scratch)
    problems = [f for f in found() if f.status != "ok"]
    assert [f.status for f in problems] == [status]
    shell(problems[0].remedy, {"WINDLASS_HOME": str(scratch.home), "WINDLASS_PROJECT": str(scratch.project)})
    assert {f.status for f in found()} == {"ok"}, found()


@pytest.mark.parametrize(
    ("environ", "status", "cause"),
    [
        pytest.param({"WINDLASS_ONLINE_STORE": "mysql"}, "fail", "mysql", id="unknown-store"),
        pytest.param(
            {"WINDLASS_ONLINE_STORE": "redis"}, "fail", "WINDLASS_REDIS_URL", id="redis-without-address"
        ),
        pytest.param({"WINDLASS_OBJECT_STORE": "bucket"}, "fail", "s3://", id="object-store-is-no-address"),
        pytest.param({"WINDLASS_REDIS_URL": "redis://h:1/0"}, "warn", "not used", id="redis-address-unused"),
        pytest.param({"WINDLASS_S3_ENDPOINT": "http://h:1"}, "warn", "not used", id="endpoint-without-store"),
        pytest.param({"WINDLASS_HOMES": "/somewhere"}, "warn", "did you mean WINDLASS_HOME?", id="misspelt"),
        pytest.param({"WINDLASS_QQQ": "1"}, "warn", "nothing reads it", id="unknown-name"),
    ],
)
def test_a_contradiction_in_the_settings_is_undone(environ: dict[str, str], status: str, cause: str) -> None:
    """Verify that what the remedy leaves in the environment contradicts itself no more."""
    _, (finding,) = configuration.contradictions(environ)
    assert finding.status == status
    assert cause in finding.cause
    left = shell(finding.remedy, environ)
    loaded, again = configuration.contradictions({k: v for k, v in left.items() if k.startswith("WINDLASS_")})
    assert loaded is not None
    assert {f.status for f in again} == {"ok"}, again


def test_open_telemetry_switches_are_closed() -> None:
    """Verify that a shell without our switches is told how to set them."""
    finding = configuration.telemetry_off({"PATH": "/bin"})
    assert finding.status == "warn"
    assert configuration.telemetry_off(shell(finding.remedy)).status == "ok"
    assert configuration.telemetry_off(telemetry.SWITCHES).status == "ok"


def test_a_port_in_use_is_told_with_one_that_is_free() -> None:
    """Verify that the remedy's port passes the check that the port asked for failed."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        finding = machine.port(holder.getsockname()[1])
        assert finding.status == "fail"
        assert finding.remedy is not None
        assert machine.port(int(finding.remedy.split()[-1])).status == "ok"


def test_an_envoy_that_may_not_run_may_run_again(tmp_path: Path) -> None:
    """Verify that a lost permission is told from a lost file."""
    binary = tmp_path / "envoy"
    binary.write_text("#!/bin/sh\necho 'envoy  version: 0a/1.40.0/Clean'\n")
    binary.chmod(0o644)
    finding = tools.envoy(binary)
    assert finding.status == "fail"
    shell(finding.remedy)
    assert tools.envoy(binary).status == "ok"
    assert "1.40.0" in tools.envoy(binary).cause
    binary.write_text("#!/bin/sh\necho 'GLIBC_2.99 not found' >&2; exit 1\n")
    assert "GLIBC_2.99" in tools.envoy(binary).cause
    binary.unlink()
    assert tools.envoy(binary).status == "fail"
    assert tools.envoy().status == "ok"


def test_a_missing_package_is_named_with_the_repair(tmp_path: Path) -> None:
    """Verify that absent and differing packages are told apart, and that the repair is a program that exists."""
    (tmp_path / "requirements").mkdir()
    lock = tmp_path / "requirements" / "local.lock"
    lock.write_text("orjson==1.0 \\\n    --hash=sha256:00\nNumpy_Financial==2.0 \\\n    --hash=sha256:00\n")
    absent = packages.against_lock(tmp_path, {"orjson": "1.0"})
    assert (absent.status, "numpy-financial 2.0" in absent.cause) == ("fail", True)
    other = packages.against_lock(tmp_path, {"orjson": "1.1", "numpy-financial": "2.0"})
    assert (other.status, "orjson 1.1 instead of 1.0" in other.cause) == ("warn", True)
    assert packages.against_lock(tmp_path, {"orjson": "1.0", "numpy-financial": "2.0"}).status == "ok"
    python, script, *options = packages.repair().split()
    done = subprocess.run([python, script, "--help"], capture_output=True, text=True, check=True)
    assert all(option in done.stdout for option in options if option.startswith("--"))


def test_too_little_memory_is_a_warning(tmp_path: Path) -> None:
    """Verify that a small machine is told of the story that fits it."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:        3900000 kB\n")
    assert machine.memory(meminfo).status == "warn"
    meminfo.write_text("MemTotal:       16000000 kB\n")
    assert machine.memory(meminfo).status == "ok"


@pytest.mark.parametrize(
    ("free", "status"),
    [(10**8, "fail"), (10**9, "warn"), (10**10, "ok")],
    ids=["nothing-can-run", "the-demo-may-not-fit", "enough"],
)
def test_free_disk_is_judged(
    free: int, status: str, scratch: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify the two bounds on free space."""
    monkeypatch.setattr(
        machine.shutil, "disk_usage", lambda _: machine.shutil._ntuple_diskusage(10**11, 0, free)
    )
    assert machine.home(scratch)[-1].status == status


def test_a_redis_that_is_not_there_is_found(tmp_path: Path) -> None:
    """Verify that an address without a redis behind it fails, and one with something else behind it too."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
    environ = {"WINDLASS_ONLINE_STORE": "redis", "WINDLASS_REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    finding = stores.redis(settings_module.load(environ))
    assert finding is not None
    assert finding.status == "fail"
    assert f"redis-server --bind 127.0.0.1 --port {port}" in (finding.remedy or "")


def test_an_object_store_that_is_not_there_is_found() -> None:
    """Verify that an endpoint nobody listens on fails, and that without an object store nothing is said."""
    environ = {"WINDLASS_OBJECT_STORE": "s3://bucket", "WINDLASS_S3_ENDPOINT": "http://127.0.0.1:1"}
    finding = stores.object_store(settings_module.load(environ))
    assert finding is not None
    assert finding.status == "fail"
    left = shell(finding.remedy, environ)
    assert stores.object_store(settings_module.load(left)) is None


def test_a_check_that_breaks_hides_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Verify that the examination goes on behind a check of ours that raises."""

    def broken() -> Finding:
        raise RuntimeError("bug")

    monkeypatch.setattr(machine, "memory", broken)
    findings = {f.name: f for f in examine({"WINDLASS_HOME": str(tmp_path)})}
    assert "bug" in findings["memory"].cause
    assert findings["registry"].status == "ok"


def test_every_problem_has_a_remedy_and_the_exit_code_says_so(tmp_path: Path) -> None:
    """Verify the command itself: JSON alone on stdout, 1 where a check fails, 0 where none does."""
    windlass = Path(sys.executable).parent / "windlass"
    for store, code in (("mysql", 1), ("sqlite", 0)):
        environ = {**os.environ, "WINDLASS_HOME": str(tmp_path), "WINDLASS_ONLINE_STORE": store}
        done = subprocess.run(
            [windlass, "doctor", "--json"], env=environ, capture_output=True, text=True, check=False
        )
        answer = json.loads(done.stdout)
        assert (done.returncode, answer["ok"]) == (code, code == 0), done.stdout
        assert [c for c in answer["checks"] if c["status"] != "ok" and not c["remedy"]] == []
