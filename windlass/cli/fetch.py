"""`windlass fetch`: a registered version's bundle, brought to where model servers load it."""

from __future__ import annotations

import argparse
from typing import Any


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "fetch",
        help="bring a version's bundle from the registry to where model servers load it",
        description="Brings the serving bundle of a registered version, its signature verified, into this home and, "
        "where WINDLASS_OBJECT_STORE is set, to models/MODEL/VERSION/ there. What is there already stays as it is.",
        epilog="example: windlass fetch flights 12\n"
        "On a cluster, onto the claim that model servers mount: "
        "kubectl exec deploy/windlass-retrain -- python3 -m windlass fetch flights 12",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="name of the model")
    parser.add_argument("version", nargs="?", help="default: the champion")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json

    from components.registry import Registry
    from windlass import settings
    from windlass.errors import UsageError
    from windlass.objectstore import bundle_prefix

    configured = settings.load()
    registry = Registry(configured)
    version = arguments.version or registry.champion(arguments.model)
    if version is None:
        raise UsageError(f"model {arguments.model!r} has no champion; name a version")
    registry.info(arguments.model, version)
    places = [str(registry.place(arguments.model, version))]
    if configured.object_store is not None:
        places.append(f"{configured.object_store}/{bundle_prefix(arguments.model, version)}")
    found = {"model": arguments.model, "version": version, "places": places}
    print(json.dumps(found) if arguments.json else "\n".join(places))
    return 0
