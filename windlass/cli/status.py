"""`windlass status`: what runs, and who gets the traffic."""

from __future__ import annotations

import argparse
from typing import Any


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "status",
        help="show what runs and who gets the traffic",
        description="Shows the running platform: engine and data plane, addresses, processes, the champion and the "
        "weights on the wire.",
        epilog="example: windlass status --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json

    from windlass import settings
    from windlass.local import status

    found = status.status(settings.load())
    if arguments.json:
        print(json.dumps(found))
    elif "processes" not in found:
        starting = found["engine"] == "starting"
        print(
            "a platform is being started, or a demo runs"
            if starting
            else "no platform runs; start one with `windlass up --detach`"
        )
    else:
        print(_text(found))
    return 0


def _text(found: dict[str, Any]) -> str:
    lines = []
    if found["remedy"] is not None:
        lines += [f"engine {found['engine']}, data plane {found['data_plane']}: {found['remedy']}"]
    for name in ("predict", "feedback", "report"):
        if found.get(f"{name}_url"):
            lines.append(f"{name:<10}{found[f'{name}_url']}")
    for model, weights in found["weights"].items():
        split = (
            ", ".join(f"version {v}: {w} %" for v, w in weights.items())
            if weights
            else "unknown, Envoy does not answer"
        )
        lines.append(f"{model}: champion version {found['models'][model]}; traffic {split}")
    for name, process in found["processes"].items():
        lines.append(f"  {name:<20} {process['pid'] or '-':>8}  {'running' if process['alive'] else 'DEAD'}")
    return "\n".join(lines)
