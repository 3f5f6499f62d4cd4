"""`windlass backup`: one file from which everything that is not data of others can be brought back."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "backup",
        help="write registry, bundles, keys, journals, features and events into one file",
        description="Writes everything under the home folder that cannot be computed again into one file that checks "
        "itself. The platform may run meanwhile. The file holds the private key that versions are signed with and what "
        "callers sent: only you may read it; keep it so.",
        epilog="example: windlass backup windlass.tar.gz\n"
        "         windlass backup windlass.tar.gz --cluster --namespace team-a\n"
        "`windlass restore FILE` brings it back. docs/backup.md says what is in it.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file", nargs="?", type=Path, help="where to write it (default: windlass-backup-TIME.tar.gz here)"
    )
    parser.add_argument(
        "--without-events", action="store_true", help="leave out predictions, labels and their analyses"
    )
    parser.add_argument(
        "--upload", action="store_true", help="also put it under WINDLASS_OBJECT_STORE, as backups/NAME"
    )
    parser.add_argument(
        "--cluster",
        action="store_true",
        help="also the Releases, RetrainPolicies, journals and routes of a namespace; the home may be empty then",
    )
    parser.add_argument("--namespace", help="of --cluster (default: POD_NAMESPACE)")
    parser.add_argument(
        "--kubeconfig", type=Path, help="of --cluster (default: the pod's account, then KUBECONFIG)"
    )
    parser.add_argument("--context", help="of --kubeconfig")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json
    import os
    from datetime import UTC, datetime

    from windlass import settings
    from windlass.backup import cluster, taking
    from windlass.errors import UsageError
    from windlass.local.progress import Progress

    configured = settings.load()
    if arguments.upload and configured.object_store is None:
        raise UsageError("--upload needs WINDLASS_OBJECT_STORE=s3://bucket/prefix")
    now = datetime.now(UTC)
    out: Path = arguments.file or Path(f"windlass-backup-{now:%Y%m%dT%H%M%SZ}.tar.gz")
    progress = Progress()
    exported = None
    if arguments.cluster:
        from serving.release.cluster.api import KubernetesApi

        namespace = arguments.namespace or os.environ.get("POD_NAMESPACE")
        if not namespace:
            raise UsageError("--cluster needs --namespace NAME")
        api = KubernetesApi.connect(arguments.kubeconfig, context=arguments.context)
        progress.step(f"reading namespace {namespace}")
        exported = cluster.export(api, namespace)
    elif arguments.namespace or arguments.kubeconfig or arguments.context:
        raise UsageError("--namespace, --kubeconfig and --context say which cluster is meant: add --cluster")
    taken = taking.take(
        configured,
        out.absolute(),
        now,
        events=not arguments.without_events,
        exported=exported,
        step=progress.step,
        tell=lambda done, all_: progress.update(f"{done / 1e6:.0f} of {all_ / 1e6:.0f} MB"),
    )
    address = None
    if arguments.upload:
        from windlass.objectstore import ObjectStore

        store, key = ObjectStore(configured), f"backups/{out.name}"
        store.upload(taken.path, key)
        address = store.address(key)
    champions = dict(taken.manifest.champions)
    if arguments.json:
        print(
            json.dumps(
                {
                    "file": str(taken.path),
                    "bytes": taken.size,
                    "files": len(taken.manifest.files),
                    "objects": len(taken.manifest.objects),
                    "made_at": taken.manifest.made_at,
                    "champions": champions,
                    "uploaded_to": address,
                }
            )
        )
    else:
        serving = ", ".join(f"{model} version {version}" for model, version in champions.items()) or "none"
        objects = "" if exported is None else f"{len(exported.files)} objects of {exported.namespace}, "
        print(
            f"{taken.path}: {len(taken.manifest.files)} files, {objects}{taken.size / 1e6:.1f} MB; champions: {serving}"
        )
        if address is not None:
            print(f"uploaded to {address}")
    return 0
