"""Before a release: is its document right, what would happen, what would change; then hand it over."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.release.people.lint import Linted
    from serving.release.people.past import Known
    from serving.release.release import Release
    from windlass.settings import Settings

UNCLEAN = 2
"""Exit code of a document with faults: it cannot be meant."""


def register(actions: Any) -> None:
    from windlass.cli.release import add

    lint = add(
        actions,
        "lint",
        "check Release documents without a platform, with file and line",
        _lint,
        "windlass release lint releases/*.yaml\n         windlass release lint --schema > release.schema.json",
    )
    lint.add_argument("files", nargs="*", type=Path, metavar="FILE", help="Release documents (YAML)")
    lint.add_argument(
        "-f", "--file", action="append", type=Path, default=[], metavar="FILE", dest="named", help="the same"
    )
    lint.add_argument(
        "--schema",
        action="store_true",
        help="print the document's JSON schema (draft 4) instead; it is structural, so a cluster prunes unknown "
        "fields where lint refuses them",
    )
    plan = add(
        actions,
        "plan",
        "what a release would do: steps, sample size, duration, when its checks decide",
        _plan,
        "windlass release plan -f release.yaml --traffic 25 --baseline 4%",
    )
    plan.add_argument(
        "--traffic",
        type=float,
        metavar="PER_SECOND",
        help="requests a second (default: measured from the platform's access log)",
    )
    plan.add_argument(
        "--baseline",
        type=_share,
        metavar="MEAN",
        help="the champion's reward, for example 0.04 or 4%% (default: from earlier releases)",
    )
    plan.add_argument(
        "--deviation", type=float, metavar="SD", help="standard deviation of one reward that is not binary"
    )
    diff = add(
        actions,
        "diff",
        "what a document changes against the model's newest release and against what is routed now",
        _diff,
        "windlass release diff -f release.yaml",
    )
    apply = add(
        actions,
        "apply",
        "start a release on the running platform",
        _apply,
        "windlass release apply -f release.yaml",
    )
    for action in (plan, diff, apply):
        action.add_argument("-f", "--file", type=Path, required=True, help="the Release document (YAML)")


def _share(text: str) -> float:
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number; write 0.04 or 4%") from error


# --- lint


def _lint(arguments: argparse.Namespace) -> int:
    from serving.release.people import lint, schema
    from windlass.errors import UsageError

    if arguments.schema:
        print(json.dumps(schema.json_schema(), indent=None if arguments.json else 2))
        return 0
    files = [*arguments.files, *arguments.named]
    if not files:
        raise UsageError("release lint needs a file; `windlass release lint release.yaml`")
    found = [(file, lint.file(file)) for file in files]
    valid = all(linted.valid for _, linted in found)
    content: dict[str, Any] = {"valid": valid, "files": [_linted(file, linted) for file, linted in found]}
    releases = [release for _, linted in found for release in linted.releases]
    if valid and len(releases) == 1:
        only = releases[0]
        content |= {"release": only.name, "model": only.model, "candidate": only.candidate}
    lines = [line for file, linted in found for line in _lines(file, linted)]
    print(json.dumps(content) if arguments.json else "\n".join(lines))
    return 0 if valid else UNCLEAN


def _linted(file: Path, linted: Linted) -> dict[str, Any]:
    from serving.release.release import strategy_name

    return {
        "file": str(file),
        "valid": linted.valid,
        "releases": [
            {
                "release": release.name,
                "model": release.model,
                "candidates": list(release.candidates),
                "strategy": strategy_name(release.strategy),
            }
            for release in linted.releases
        ],
        "problems": [dict(fault.__dict__) for fault in linted.faults],
    }


def _lines(file: Path, linted: Linted) -> list[str]:
    if not linted.valid:
        return [
            f"{file}:{fault.line}:{fault.column}: {fault.path} = {fault.value}: {fault.remedy}"
            for fault in linted.faults
        ]
    return [f"{file}: {_summary(release)}: fine" for release in linted.releases]


def _summary(release: Release) -> str:
    from serving.release.release import strategy_name

    return (
        f"release {release.name} of {release.model} version {', '.join(release.candidates)}, "
        f"{strategy_name(release.strategy)}, {len(release.checks)} checks"
    )


# --- plan and diff


def _plan(arguments: argparse.Namespace) -> int:
    from serving.release.people import operations, plan_text
    from windlass import settings
    from windlass.cli.release import show
    from windlass.clock import SystemClock

    release = operations.read(arguments.file)
    found = operations.foresee(settings.load(), release, _known(arguments, release), SystemClock())
    show(arguments, found, plan_text.text(found))
    return 0


def _known(arguments: argparse.Namespace, release: Release) -> Known:
    from serving.release.people.past import Baseline, Known
    from windlass.errors import UsageError

    for name in ("traffic", "deviation"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(
                f"--{name} {value:g} is not above 0 and finite; leave it out where it is unknown"
            )
    if arguments.deviation is not None and arguments.baseline is None:
        raise UsageError("--deviation needs --baseline: a spread without its mean says nothing of a lift")
    baselines = {}
    if arguments.baseline is not None:
        if release.decision is None:
            raise UsageError(
                f"--baseline {arguments.baseline:g}: release {release.name!r} has no decision metric; leave it out"
            )
        _require_possible(arguments.baseline, binary=release.decision.value_type == "binary")
        baselines[release.decision.name] = Baseline(arguments.baseline, arguments.deviation, "given")
    if arguments.traffic is None:
        return Known(baselines=baselines)
    return Known(arguments.traffic, "given", baselines)


def _require_possible(baseline: float, *, binary: bool) -> None:
    """Raise for a mean that no champion has, or of which no lift can be told."""
    from windlass.errors import UsageError

    if binary and not 0 < baseline < 1:
        raise UsageError(
            f"--baseline {baseline:g} is no share strictly between 0 and 1; write for example 0.04 or 4%"
        )
    if not math.isfinite(baseline) or baseline == 0:
        raise UsageError(f"--baseline {baseline:g}: a lift is relative to it, so it must be finite and not 0")


def _diff(arguments: argparse.Namespace) -> int:
    from serving.release.people import operations
    from windlass import settings
    from windlass.cli.release import show

    found = operations.compare(settings.load(), operations.read(arguments.file))
    show(arguments, found, "\n".join(_diff_lines(found)))
    return 0


def _diff_lines(found: dict[str, Any]) -> list[str]:
    against = found["against"]
    if against is None:
        lines = [f"{found['model']} has no release yet: all of it is new"]
    else:
        lines = [f"against release {against} ({found['phase']}): {len(found['changes'])} fields differ"]
    for change in found["changes"]:
        before, after = (json.dumps(change[key]) for key in ("from", "to"))
        if change["from"] is None:
            lines.append(f"  + {change['path']}: {after}")
        elif change["to"] is None:
            lines.append(f"  - {change['path']}: {before}")
        else:
            lines.append(f"  ~ {change['path']}: {before} -> {after}")
    routed = found["routed"]
    begins = _weights(found["begins_with"])
    if routed is None:
        lines.append(f"routed now: unknown ({found['routed_unknown']}); it begins with {begins}")
    else:
        lines.append(f"routed now: {_weights(routed['weights'])}; it begins with {begins}")
    return lines


def _weights(weights: dict[str, int]) -> str:
    return ", ".join(f"{version}: {weight} %" for version, weight in weights.items()) or "nothing"


# --- apply


def _apply(arguments: argparse.Namespace) -> int:
    from serving.release.people import operations
    from windlass import settings
    from windlass.cli.release import platform, show
    from windlass.clock import SystemClock

    configured = settings.load()
    release = operations.read(arguments.file)
    operations.require_startable(configured, release)
    for version in operations.absent(configured, release):
        if not _registered(configured, release.model, version):
            raise operations.unknown_version(configured, release, version)
    done = operations.apply(configured, release, SystemClock(), platform(configured))
    when = (
        "the platform starts it"
        if done["platform_runs"]
        else "it starts with `windlass up`, no engine runs now"
    )
    how = "is handed over"
    if done["waited_already"]:
        how = "waits in the inbox already, with the same document"
    elif done["replaced"]:
        how = "is handed over in place of the letter that waited under its name"
    show(arguments, done, f"release {done['release']} of {done['model']} {how}: {when}")
    return 0


def _registered(configured: Settings, model: str, version: str) -> bool:
    """Whether the registry may have a version that has no bundle on this disk; one that cannot be asked may."""
    from components.registry import Registry
    from windlass.errors import UsageError

    try:
        Registry(configured).info(model, version)
    except UsageError:
        return False
    except Exception:  # a registry fails in its libraries' own ways; the platform asks again
        return True
    return True
