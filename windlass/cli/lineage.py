"""`windlass lineage`: why a version exists, and what became of it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from windlass.local.lineage import Lineage


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "lineage",
        help="show where a version comes from and what became of it",
        description="Prints the chain: signal with its evidence, trigger, data, run, gates, version, release, outcome, "
        "and the version that replaced it.",
        epilog="example: windlass lineage flights 13\n"
        "A retraining that failed made no version: `windlass lineage flights --trigger retrain-flights-…` shows it.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="name of the model")
    parser.add_argument("version", nargs="?", help="default: the champion")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--trigger", metavar="ID", help="instead: what a trigger's run made")
    other.add_argument("--run", metavar="ID", help="instead: what a run made")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json

    from windlass import settings
    from windlass.errors import UsageError
    from windlass.local import lineage

    configured = settings.load()
    run = arguments.trigger or arguments.run
    if run is not None and arguments.version is not None:
        raise UsageError("a version and --trigger or --run: name one of them")
    if run is not None:
        found = lineage.of_run(configured, arguments.model, run)
    else:
        found = lineage.of_version(configured, arguments.model, arguments.version)
    print(json.dumps(found.plain()) if arguments.json else _text(found))
    return 0


def _text(found: Lineage) -> str:
    what = "no version" if found.version is None else f"version {found.version}"
    lines = [f"{found.model}, {what}"]
    for link in found.chain:
        when = f"  {link.at[:19].replace('T', ' ')}" if link.at is not None else ""
        lines.append(f"  {link.kind:<10} {link.id}{when}")
        lines += [f"    {name}: {_value(value)}" for name, value in link.detail.items()]
    if found.open:
        lines.append(f"open triggers: {', '.join(found.open)}")
    return "\n".join(lines)


def _value(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)
