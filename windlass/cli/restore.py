"""`windlass restore`: make the home what it was when a backup was taken."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "restore",
        help="bring back what `windlass backup` wrote",
        description="Checks the whole file, sets aside what the home holds (nothing is removed), and puts the backup "
        "in its place. The platform must be down. A home at another path than the backup's is fine. With --cluster it "
        "makes the namespace's objects again, and leaves the home alone; no operator may work there, and what stands "
        "there otherwise than in the backup is an error before anything is written.",
        epilog="example: windlass down && windlass restore windlass.tar.gz && windlass up\n"
        "         windlass restore windlass.tar.gz --cluster",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, help="the backup")
    parser.add_argument(
        "--check", action="store_true", help="check the file and say what is in it, change nothing"
    )
    parser.add_argument(
        "--download",
        action="store_true",
        help="get it from WINDLASS_OBJECT_STORE first, where `windlass backup --upload` put it as backups/NAME",
    )
    parser.add_argument(
        "--cluster", action="store_true", help="put back what the namespace had, instead of the home"
    )
    parser.add_argument(
        "--kubeconfig", type=Path, help="of --cluster (default: the pod's account, then KUBECONFIG)"
    )
    parser.add_argument("--context", help="of --kubeconfig")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json
    import tempfile
    from datetime import UTC, datetime

    from serving.release.cluster.api import KubernetesApi
    from windlass import settings
    from windlass.backup import archive, cluster, restoring
    from windlass.errors import UsageError
    from windlass.local.progress import Progress

    progress = Progress()

    def tell(done: int, all_: int) -> None:
        progress.update(f"{done / 1e6:.0f} of {all_ / 1e6:.0f} MB")

    if not arguments.cluster and (arguments.kubeconfig or arguments.context):
        raise UsageError("--kubeconfig and --context say which cluster is meant: add --cluster")
    configured, put = settings.load(), None
    if arguments.download:
        from windlass.objectstore import ObjectStore

        if arguments.file.exists():
            raise UsageError(f"{arguments.file} exists; leave --download out, or name another place for it")
        ObjectStore(configured).download(f"backups/{arguments.file.name}", arguments.file)
    if arguments.cluster:
        with tempfile.TemporaryDirectory(prefix="windlass-restore-") as scratch:
            manifest, aside = archive.unpack(arguments.file, Path(scratch)), None
            if manifest.namespace is None:
                raise UsageError(
                    f"{arguments.file} holds nothing of a cluster; it was made without `windlass backup --cluster`"
                )
            if not arguments.check:
                api = KubernetesApi.connect(arguments.kubeconfig, context=arguments.context)
                put = cluster.restore(api, manifest.namespace, Path(scratch) / archive.CLUSTER)
    elif arguments.check:
        with tempfile.TemporaryDirectory(prefix="windlass-check-") as scratch:
            manifest, aside = archive.unpack(arguments.file, Path(scratch)), None
    else:
        found = restoring.restore(
            configured, arguments.file, datetime.now(UTC), step=progress.step, tell=tell
        )
        manifest, aside = found.manifest, found.aside
    champions = dict(manifest.champions)
    if arguments.json:
        print(
            json.dumps(
                {
                    "restored": not arguments.check,
                    "made_at": manifest.made_at,
                    "files": len(manifest.files),
                    "namespace": manifest.namespace,
                    "objects": len(manifest.objects),
                    "created": None if put is None else dict(put.created),
                    "bytes": manifest.size,
                    "champions": champions,
                    "object_store": manifest.object_store,
                    "aside": None if aside is None else str(aside),
                }
            )
        )
        return 0
    serving = ", ".join(f"{model} version {version}" for model, version in champions.items()) or "none"
    what = "sound" if arguments.check else "restored"
    objects = (
        "" if manifest.namespace is None else f", {len(manifest.objects)} objects of {manifest.namespace}"
    )
    if put is not None:
        made = ", ".join(f"{count} {kind}" for kind, count in put.created.items()) or "nothing"
        print(
            f"namespace {manifest.namespace} as of {manifest.made_at}: made {made}; {sum(put.there.values())} objects "
            "were there already"
        )
        return 0
    print(f"{what}: {len(manifest.files)} files{objects} as of {manifest.made_at}; champions: {serving}")
    if aside is not None:
        print(f"what was there before lies in {aside}; remove it when you are sure")
    return 0
