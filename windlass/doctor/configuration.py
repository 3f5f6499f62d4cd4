"""The settings: contradictions, names nobody reads, telemetry switches."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Mapping

from windlass import settings, telemetry
from windlass.doctor.finding import Finding, fail, ok, warn
from windlass.errors import UsageError
from windlass.settings import Settings

# set by the platform for its own children
INTERNAL = {"WINDLASS_TREE"}


def contradictions(environ: Mapping[str, str]) -> tuple[Settings | None, list[Finding]]:
    """Load the settings; None where they contradict themselves."""
    try:
        loaded = settings.load(environ)
    except UsageError as error:
        variable = re.search(r"WINDLASS_[A-Z0-9_]+", str(error))
        return None, [fail("settings", str(error), f"unset {variable[0] if variable else 'WINDLASS_HOME'}")]
    findings = []
    if loaded.redis_url and loaded.online_store != "redis":
        findings.append(
            warn(
                "settings",
                f"WINDLASS_REDIS_URL={loaded.redis_url!r} is not used: the online store is {loaded.online_store}",
                "export WINDLASS_ONLINE_STORE=redis",
            )
        )
    if loaded.s3_endpoint and not loaded.object_store:
        findings.append(
            warn(
                "settings",
                f"WINDLASS_S3_ENDPOINT={loaded.s3_endpoint!r} is set and not used: there is no object store",
                "unset WINDLASS_S3_ENDPOINT",
            )
        )
    known = set(re.findall(r"WINDLASS_[A-Z0-9]+(?:_[A-Z0-9]+)*", inspect.getsource(settings))) | INTERNAL
    for name in sorted(n for n in environ if n.startswith("WINDLASS_") and n not in known):
        close = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        remedy = f'export {close[0]}="${name}"; unset {name}' if close else f"unset {name}"
        findings.append(warn("settings", f"{name} is set, and nothing reads it{hint}", remedy))
    return loaded, findings or [ok("settings", f"home {loaded.home}, online store {loaded.online_store}")]


def telemetry_off(environ: Mapping[str, str]) -> Finding:
    """Whether every switch is as `windlass.telemetry` sets it: our own commands set them, another program may not."""
    open_ones = [
        f"{name}={value}" for name, value in telemetry.SWITCHES.items() if environ.get(name) != value
    ]
    if open_ones:
        return warn(
            "telemetry", f"not switched off here: {', '.join(open_ones)}", f"export {' '.join(open_ones)}"
        )
    return ok("telemetry", f"all {len(telemetry.SWITCHES)} switches of our dependencies are off")


def project(loaded: Settings) -> Finding:
    """Whether the project folder holds, or can reach, a workload that loads."""
    from windlass import catalog
    from windlass.errors import WindlassError

    names = catalog.names(loaded.project)
    for name in names:
        try:
            catalog.load(name, loaded.project)
        except WindlassError as error:
            return fail(
                "workloads", str(error), f"${{EDITOR:-vi}} {loaded.project}/workloads/{name}/workload.py"
            )
        except Exception as error:
            # a person's own file: any exception may come out of it
            return fail(
                "workloads",
                f"workload {name!r} cannot be loaded: {type(error).__name__}: {error}",
                f"${{EDITOR:-vi}} {loaded.project}/workloads/{name}/workload.py",
            )
    return ok("workloads", ", ".join(names) or "none")
