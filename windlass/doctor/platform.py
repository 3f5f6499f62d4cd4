"""The platform that runs on this home, or the traces of one that was killed."""

from __future__ import annotations

import shlex
import urllib.error
import urllib.request
from pathlib import Path

from windlass.doctor.finding import Finding, fail, ok, warn
from windlass.local import lock, state
from windlass.local.plane import DataPlane
from windlass.settings import Settings


def platform(settings: Settings) -> Finding:
    """Whether a platform runs and all its processes live; a description without a holder of the lock is stale."""
    described = state.path(settings)
    holder = lock.holder(state.lock_path(settings))
    if holder is None:
        if DataPlane(settings).exists():
            return fail(
                "platform", "its engine died, the data plane goes on without one", "windlass up --detach"
            )
        if described.exists():
            remedy = f"rm -f {shlex.quote(str(described))}"
            return warn("platform", f"{described} was left by a platform that was killed", remedy)
        return ok("platform", "none runs on this home")
    running = state.running(settings)
    if running is None:
        return ok("platform", f"process {holder} is starting one, or runs a demo")
    dead = [
        f"{name} ({pid})"
        for name, pid in running.get("pids", {}).items()
        if not Path(f"/proc/{pid}").exists()
    ]
    if dead:
        return fail("platform", f"ended: {', '.join(dead)}", "windlass down && windlass up --detach")
    url = running.get("report_url")
    if url:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - the platform's own loopback address
                pass
        except (urllib.error.URLError, OSError) as error:
            return fail(
                "platform", f"{url} does not answer: {error}", "windlass down && windlass up --detach"
            )
    return ok("platform", f"{len(running.get('pids', {}))} processes, {running.get('predict_url')}")
