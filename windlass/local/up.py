"""`windlass up`: the champion behind Envoy, with feedback and report, until it is told to stop."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from windlass import catalog
from windlass.errors import AlreadyRunningError, UsageError, WindlassError
from windlass.local import lock, state
from windlass.local.lifeline import Lifeline
from windlass.local.loop import Loop
from windlass.local.progress import Progress
from windlass.settings import Settings

if TYPE_CHECKING:
    from components.registry import Registry


def foreground(settings: Settings, model: str | None, *, port: int | None, as_json: bool) -> int:
    """Serve until SIGINT or SIGTERM.

    Args:
        model: None for the only one that has a champion.

    Raises:
        UsageError: an unknown model, or none is named and several have a champion.
        WindlassError: nothing to serve, a platform runs already, a port is taken, or a process died for good.
    """
    from components.registry import Registry

    registry = Registry(settings)
    model = model or _only_one(settings, registry)
    workload = catalog.load(model, settings.project)
    champion = registry.champion(model)
    if champion is None:
        raise WindlassError(
            f"{model} has no champion to serve; train one first: `windlass train {model} --from DATE --to DATE`"
        )
    _refuse_second(settings)
    progress = Progress()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    lifeline = Lifeline()
    try:
        loop = Loop(settings, workload, champion, port=port)
        with contextlib.closing(loop):
            loop.start(progress)
            description = loop.describe()
            state.write(settings, description)
            _say(description, as_json)
            while not stop.wait(0.2):
                loop.turn()
                state.write_if_changed(settings, loop.describe())
            progress.step("stopping: requests in flight are answered first")
    finally:
        lifeline.close()
    return 0


def detach(
    settings: Settings, model: str | None, *, port: int | None, as_json: bool, timeout: float = 180.0
) -> int:
    """Start the platform in the background and return once it serves.

    Raises:
        WindlassError: it did not come up; its last words are in the message.
    """
    _refuse_second(settings)
    log = settings.logs_dir / "platform.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "windlass", "up"]
    command += [*([model] if model else []), *(["--port", str(port)] if port else [])]
    environment = {
        **os.environ,
        "WINDLASS_HOME": str(settings.home),
        "WINDLASS_PROJECT": str(settings.project),
    }
    with log.open("wb") as sink:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        content = state.running(settings)
        if content is not None and content["pids"].get("windlass") == child.pid:
            _say(content, as_json)
            return 0
        code = child.poll()
        if code is not None:
            words = "\n".join(log.read_text(errors="replace").splitlines()[-8:]).removeprefix(
                "windlass: error: "
            )
            raise (WindlassError if code == 1 else _failure(code))(words)
        time.sleep(0.05)
    child.terminate()
    raise WindlassError(f"the platform did not come up within {timeout:.0f} s; see {log}")


def down(settings: Settings, timeout: float = 60.0) -> int | None:
    """End the running platform; returns its process id, None where none ran.

    Raises:
        WindlassError: it does not end.
    """
    pid = lock.holder(state.lock_path(settings))
    if pid is None:
        return None
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if lock.holder(state.lock_path(settings)) is None:
            return pid
        time.sleep(0.05)
    raise WindlassError(
        f"the platform (process {pid}) does not end; `kill -9 {pid}` ends it and all its children"
    )


def _only_one(settings: Settings, registry: Registry) -> str:
    known = catalog.names(settings.project)
    ready = [name for name in known if registry.champion(name) is not None]
    if len(ready) == 1:
        return ready[0]
    if ready:
        raise UsageError(
            f"{', '.join(ready)} have a champion; name the one to serve: `windlass up {ready[0]}`"
        )
    raise WindlassError(
        f"no model has a champion to serve (known: {', '.join(known) or 'none'}); train one first: "
        "`windlass train MODEL --from DATE --to DATE`"
    )


def _refuse_second(settings: Settings) -> None:
    pid = lock.holder(state.lock_path(settings))
    if pid is not None:
        raise AlreadyRunningError(
            f"a platform already runs on {settings.home} (process {pid}); `windlass status` shows it, "
            "`windlass down` ends it"
        )


def _failure(code: int) -> type[WindlassError]:
    return UsageError if code == 2 else WindlassError


def _say(content: dict[str, Any], as_json: bool) -> None:
    sys.stdout.write((json.dumps(content) if as_json else _text(content)) + "\n")
    sys.stdout.flush()


def _text(content: dict[str, Any]) -> str:
    models = ", ".join(f"{m} (champion: version {v})" for m, v in content["models"].items())
    lines = [f"serving {models}"]
    lines += [f"  {key:<9}{content[key + '_url']}" for key in ("predict", "feedback", "report")]
    if content.get("as_of"):
        lines.append(f"  historical data: the platform's clock stands at {content['as_of']}")
    return "\n".join(lines)
