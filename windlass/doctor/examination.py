"""All checks, in the order in which one thing rests on another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from windlass.doctor import configuration, machine, packages, platform, stores, tools
from windlass.doctor.finding import Finding, fail


def examine(environ: Mapping[str, str], *, port: int | None = None) -> list[Finding]:
    """Run every check; one that breaks is a finding of its own and hides no other."""
    findings = _run("python", machine.python)
    findings += _run("packages", packages.against_lock)
    findings += _run("envoy", tools.envoy)
    findings += _run("memory", machine.memory)
    findings += _run("loopback", machine.loopback)
    if port is not None:
        findings += _run("port", lambda: machine.port(port))
    findings += _run("telemetry", lambda: configuration.telemetry_off(environ))
    settings, stated = configuration.contradictions(environ)
    findings += stated
    if settings is not None:
        known = settings
        findings += _run("home", lambda: machine.home(known))
        findings += _run("workloads", lambda: configuration.project(known))
        findings += _run("registry", lambda: stores.registry(known))
        findings += _run("models", lambda: stores.bundles(known))
        findings += _run("features", lambda: stores.features(known))
        findings += _run("redis", lambda: stores.redis(known))
        findings += _run("object store", lambda: stores.object_store(known))
        findings += _run("platform", lambda: platform.platform(known))
    return findings + _run("browser", tools.browser)


def _run(name: str, check: Callable[[], Finding | Iterable[Finding] | None]) -> list[Finding]:
    try:
        found = check()
    except Exception as error:
        # whatever is broken here, the other checks may still name the cause
        return [
            fail(name, f"the check itself failed: {type(error).__name__}: {error}", "windlass doctor --json")
        ]
    if found is None:
        return []
    return [found] if isinstance(found, Finding) else list(found)
