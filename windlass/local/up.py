"""`windlass up`: the champion behind Envoy, with feedback and report, until it is told to stop.

This process is the engine: it carries releases out and starts again what dies. What answers predictions is the data
plane, which outlives it: an engine that is killed, stands still or fails leaves the traffic as it was, and the next one
takes over. Only an orderly end (SIGTERM, Ctrl-C, a closed terminal, `windlass down`) ends the plane as well.
"""

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
from windlass.local import in_force, lock, state
from windlass.local.lock import PlatformLock
from windlass.local.loop import Loop
from windlass.local.plane import DataPlane
from windlass.local.progress import Progress
from windlass.settings import Settings

if TYPE_CHECKING:
    from components.registry import Registry

TURN_S = 0.2
#: Longest pause of an engine that fails again and again.
PAUSE_S = 2.0


def foreground(settings: Settings, model: str | None, *, port: int | None, as_json: bool) -> int:
    """Serve until SIGINT or SIGTERM.

    Args:
        model: None for the one whose plane is taken over, or the only one that has a champion.

    Raises:
        UsageError: an unknown model, or none is named and several have a champion.
        WindlassError: nothing to serve, a platform runs already, a port is taken, or a process died for good.
    """
    from components.registry import Registry

    registry = Registry(settings)
    model = _model(settings, registry, model)
    workload = catalog.load(model, settings.project)
    served = in_force.version(settings, model, registry.champion)
    if served is None:
        raise WindlassError(
            f"{model} has no champion to serve; train one first: `windlass train {model} --from DATE --to DATE`"
        )
    _refuse_second(settings)
    progress = Progress()
    if served.warning is not None:
        progress.step(f"warning: {served.warning}")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # `nohup` has said already what a closed terminal means
        if signal.getsignal(number) != signal.SIG_IGN or number != signal.SIGHUP:
            signal.signal(number, lambda *_: stop.set())
    loop = Loop(settings, workload, served.version, port=port)
    # until everything serves, what we started ends with us, and what we took over does not
    leave = loop.resumed
    try:
        loop.start(progress)
        leave = True
        description = loop.describe()
        state.write(settings, description)
        _say(description, as_json)
        _turns(settings, loop, stop, progress)
        leave = False
        progress.step("stopping: requests in flight are answered first")
    finally:
        loop.close(leave=leave)
    return 0


def _turns(settings: Settings, loop: Loop, stop: threading.Event, progress: Progress) -> None:
    """Turn until told to stop; a turn that fails is told and tried again, the traffic stays as it is meanwhile."""
    said, pause = "", TURN_S
    while not stop.wait(pause):
        try:
            loop.turn()
            state.write_if_changed(settings, loop.describe())
            said, pause = "", TURN_S
        except Exception as error:  # whatever fails in the engine must not end what serves
            text = f"{type(error).__name__}: {error}".partition("\n")[0]
            if text != said:
                progress.step(f"the engine failed and tries again, the traffic stays as it is: {text}")
            said, pause = text, min(2 * pause, PAUSE_S)


def detach(
    settings: Settings, model: str | None, *, port: int | None, as_json: bool, timeout: float = 180.0
) -> int:
    """Start the platform in the background and return once it serves.

    Raises:
        WindlassError: it did not come up; its last words are in the message.
    """
    _refuse_second(settings)
    resumed = DataPlane(settings).exists()
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
    # an orderly end would end a plane that serves
    child.kill() if resumed else child.terminate()
    raise WindlassError(f"the platform did not come up within {timeout:.0f} s; see {log}")


def down(settings: Settings, timeout: float = 60.0) -> dict[str, Any]:
    """End the platform: its engine, and its data plane with or without one.

    Returns:
        "stopped": whether anything ran; "pid": the engine's, None where none ran; "ended": names of the processes of a
        data plane that no engine ended.

    Raises:
        WindlassError: a demo does not end.
    """
    pid = lock.holder(state.lock_path(settings))
    plane = DataPlane(settings)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            # one that stands still hears it only once it goes on
            os.kill(pid, signal.SIGCONT)
        if not _released(settings, timeout):
            if not plane.exists():
                raise WindlassError(
                    f"the platform (process {pid}) does not end; `kill -9 {pid}` ends it and all its children"
                )
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            _released(settings, timeout)
    if not plane.exists() and not plane.records.names():
        return {"stopped": pid is not None, "pid": pid, "ended": []}
    # nobody may take over what is being ended
    held = PlatformLock(state.lock_path(settings))
    try:
        ended = plane.end()
        state.clear(settings)
    finally:
        held.release()
    return {"stopped": pid is not None or bool(ended), "pid": pid, "ended": ended}


def _released(settings: Settings, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if lock.holder(state.lock_path(settings)) is None:
            return True
        time.sleep(0.05)
    return False


def _model(settings: Settings, registry: Registry, named: str | None) -> str:
    """The model to serve."""
    before = in_force.models(settings)
    if DataPlane(settings).exists() and before:
        if named is not None and named not in before:
            raise UsageError(
                f"the data plane that runs on {settings.home} serves {', '.join(before)}, not {named}; "
                "`windlass down` ends it"
            )
        return named or before[0]
    if named is not None:
        return named
    try:
        return _only_one(settings, registry)
    except UsageError:
        raise
    except Exception:
        if len(before) != 1:
            raise
        return before[0]


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
