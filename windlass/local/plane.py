"""The data plane of a home: what answers predictions, and goes on whatever becomes of the engine.

`run/plane.json` says that there is to be one and how its servers are started: as the platform that began it decided,
whatever the environment of whoever must start one later. Three commands meet here: `windlass up` starts or takes over
a plane, `windlass release rollback` starts what it finds dead, and `windlass down` ends it. Which version gets the
traffic is the routing's matter (`serving.release`).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from serving.release.envoy.backend import Endpoints
from serving.release.envoy.files import EnvoyFiles
from serving.release.envoy.process import free_port
from windlass import atomic
from windlass.errors import UsageError, WindlassError
from windlass.local import lock, processes, state
from windlass.local.processes import Child
from windlass.local.proxy import LastingProxy
from windlass.local.records import Records
from windlass.settings import Settings

ENVOY = "envoy"
COLLECTOR = "collector"
RETRAIN = "retrain"
#: A server that starts may be silent for this long before it is taken for one that hangs.
STARTING_S = 30.0
#: One that has run for longer gets this long.
SILENT_S = 3.0


@dataclass(frozen=True)
class Plan:
    """How the servers of a plane are started.

    Attributes:
        python, directory: interpreter and working directory.
        online: address of the online store.
        verify_key: public key that bundles are checked with.
        as_of: epoch seconds of "now" for historical data; None where "now" is the present.
    """

    python: str
    directory: str
    bundles: str
    logs: str
    online: str
    verify_key: str
    as_of: float | None = None

    @classmethod
    def of(cls, settings: Settings, as_of: float | None) -> Plan:
        """The plan for a new plane."""
        from components import signing

        redis = settings.online_store == "redis"
        return cls(
            python=sys.executable,
            directory=str(Path.cwd()),
            bundles=str(settings.bundles_dir),
            logs=str(settings.logs_dir),
            online=str(settings.redis_url) if redis else f"sqlite:{settings.online_db}",
            verify_key=str(signing.keys(settings).public),
            as_of=as_of,
        )

    def command(
        self,
        model: str,
        version: str,
        port: int,
        *,
        words: Sequence[str] | None = None,
        replay_clock: bool = False,
    ) -> list[str]:
        """The command that serves a version; `words` are its first ones, before the runtime's own arguments."""
        log = Path(self.logs) / "predictions" / f"{model}-{version}.jsonl"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [
            *(words or (self.python, "-m", "serving.runtime")),
            *("--bundle", str(Path(self.bundles) / model / version)),
            *("--port", str(port)),
            *("--log", str(log)),
            *("--online", self.online),
            *("--verify-key", self.verify_key, "--require-signature"),
        ]
        if replay_clock or self.as_of is not None:
            command.append("--replay-clock")
        if self.as_of is not None:
            command += ["--as-of", repr(self.as_of)]
        return command


class DataPlane:
    """The recorded processes of one home, by their part in it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.records = Records(settings.run_dir / "processes")
        self.directory = settings.run_dir / "envoy"
        self._path = settings.run_dir / "plane.json"
        self._last = settings.run_dir / "plane-last.json"

    # --- whether there is one

    def exists(self) -> bool:
        """Whether a plane was begun and not ended in order; its processes may have died."""
        return self._path.is_file()

    def configured(self) -> bool:
        """Whether its Envoy was ever told where to listen."""
        return (self.directory / "endpoints.json").is_file()

    def begin(self, plan: Plan) -> None:
        """A plane is to be, before its first process is started."""
        atomic.write_text(self._path, json.dumps(asdict(plan), indent=1) + "\n")

    def plan(self) -> Plan:
        """How this plane's servers are started.

        Raises:
            WindlassError: there is no plane.
        """
        found = _plan(self._path)
        if found is None:
            raise WindlassError(
                f"nothing is to be served on {self.settings.home} now; start it with `windlass up`"
            )
        return found

    def last_plan(self) -> Plan | None:
        """The plan of this plane, or of the one before it."""
        return _plan(self._path) or _plan(self._last)

    def end(self) -> list[str]:
        """End everything, Envoy first so that no request meets a server that is gone; names of what ran."""
        ended = []
        keys = self.records.names()
        for key in sorted(keys, key=lambda k: (k != ENVOY, k == COLLECTOR, k)):
            record = self.records.read(key)
            if self.records.end(key, 5.0 if key == ENVOY else 10.0):
                ended.append(record.name if record is not None else key)
        if strays := self.records.end_strays():
            ended.append(f"{strays} without a record")
        if self._path.is_file():
            self._path.replace(self._last)
        return ended

    # --- its parts

    def proxy(self, endpoints: Endpoints | None = None) -> LastingProxy:
        """The proxy; `endpoints` None takes those on which it was last started.

        Raises:
            WindlassError: none was ever started.
        """
        where = endpoints or EnvoyFiles(self.directory).endpoints()
        return LastingProxy(self.directory, where, self.records, ENVOY)

    def serve(self, model: str, version: str) -> Child:
        """The server of a version, started where none runs; returns once it is ready."""
        key = server_key(model, version)
        child = self.records.find(key)
        if child is None:
            plan = self.plan()
            before = self.records.read(key)
            # on the same port the proxy need not even learn of it
            port = before.port if before is not None and before.port and free(before.port) else free_port()
            child = self.records.start(
                key,
                f"the server of {model} version {version}",
                plan.command(model, version, port),
                Path(plan.logs) / f"server-{model}-{version}.log",
                port=port,
                directory=_folder(plan.directory),
            )
        processes.wait_ready(child, f"http://{address(child)}/v2/health/ready")
        return child

    def collect(self) -> Child:
        """The collector, started where none runs."""
        child = self.records.find(COLLECTOR)
        if child is None:
            before = self.records.read(COLLECTOR)
            port = before.port if before is not None and before.port and free(before.port) else free_port()
            words = [sys.executable, "-m", "monitoring.collector", "--port", str(port)]
            child = self.records.start(
                COLLECTOR,
                "the collector",
                [*words, "--home", str(self.settings.home)],
                self.settings.logs_dir / "collector.log",
                port=port,
            )
        return child

    def retrain(self) -> Child:
        """The retrain trigger, started where none runs; who sends it signals reads its token in `run/retrain-token`."""
        child = self.records.find(RETRAIN)
        if child is None:
            before = self.records.read(RETRAIN)
            port = before.port if before is not None and before.port and free(before.port) else free_port()
            words = [sys.executable, "-m", "windlass.local.retraining", "--port", str(port)]
            words += ["--home", str(self.settings.home), "--token-file", str(token(self.settings))]
            child = self.records.start(
                RETRAIN,
                "the retrain trigger",
                words,
                self.settings.logs_dir / "retrain.log",
                port=port,
                environment={"WINDLASS_PROJECT": str(self.settings.project)},
            )
        return child

    # --- what a rollback asks (see `serving.release.rollback.Plane`)

    def engine_runs(self) -> bool:
        """Whether `windlass up` runs and does not stand still."""
        pid = lock.holder(state.lock_path(self.settings))
        return pid is not None and not processes.stopped(pid)

    def fetch(self, model: str, version: str) -> None:
        """Bring a version's bundle from the registry.

        Raises:
            UsageError: the registry has no such version.
            WindlassError: the registry does not answer.
        """
        from components.registry import Registry

        try:
            registry = Registry(self.settings)
            registry.info(model, version)
            registry.fetch_bundle(model, version)
        except UsageError:
            raise
        except Exception as error:  # a registry fails in its libraries' own ways
            raise WindlassError(
                f"version {version} of {model} is not on this disk and the registry cannot be asked: {error}"
            ) from error

    def ensure_server(self, model: str, version: str, known: str | None) -> tuple[str, bool]:
        """Address of a version's server that answers, and whether it had to be started.

        Args:
            known: the address that the routing has.
        """
        if known is not None and processes.answers(f"http://{known}/v2/health/ready"):
            return known, False
        key = server_key(model, version)
        child, record = self.records.find(key), self.records.read(key)
        if child is not None and record is not None:
            grace = max(SILENT_S, record.at + STARTING_S - time.time())
            with contextlib.suppress(WindlassError):
                processes.wait_ready(child, f"http://{address(child)}/v2/health/ready", grace)
                return address(child), False
            child.process.kill()
            child.process.wait()
        return address(self.serve(model, version)), True

    def ensure_proxy(self) -> bool:
        """Whether Envoy had to be started; it takes the configuration and the ports that are on disk."""
        where = EnvoyFiles(self.directory).endpoints()
        proxy = self.proxy(where)
        deadline = time.monotonic() + SILENT_S
        while proxy.alive():
            if proxy.running():
                return False
            if time.monotonic() > deadline:
                proxy.kill()
        if not free(where.admin):
            # nobody but us asks there; the listener's port is the callers' and stays
            proxy = self.proxy(replace(where, admin=free_port()))
        try:
            proxy.start()
        except WindlassError:
            # an engine that runs may have seen it dead at the same moment
            if not proxy.adopt():
                raise
        return True


def token(settings: Settings) -> Path:
    """The file with the token that the retrain trigger's senders have, made where there is none."""
    path = settings.run_dir / "retrain-token"
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        # under another name first: nobody may find it empty
        new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
            file.write(secrets.token_urlsafe(32) + "\n")
        try:
            path.hardlink_to(new)
        finally:
            new.unlink()
    return path


def server_key(model: str, version: str) -> str:
    """Key of the record of a version's server; neither name may hold what the other could be mistaken for."""
    return f"server-{model}@{version}"


def address(child: Child) -> str:
    return f"127.0.0.1:{child.port}"


def _plan(path: Path) -> Plan | None:
    try:
        return Plan(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def free(port: int) -> bool:
    """Whether a port can be listened on."""
    try:
        processes.require_port(port, "a server")
    except WindlassError:
        return False
    return True


def _folder(path: str) -> Path | None:
    return Path(path) if Path(path).is_dir() else None
