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
        "in its place. The platform must be down. A home at another path than the backup's is fine.",
        epilog="example: windlass down && windlass restore windlass.tar.gz && windlass up",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, help="the backup")
    parser.add_argument(
        "--check", action="store_true", help="check the file and say what is in it, change nothing"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json
    import tempfile
    from datetime import UTC, datetime

    from windlass import settings
    from windlass.backup import archive, restoring
    from windlass.local.progress import Progress

    progress = Progress()

    def tell(done: int, all_: int) -> None:
        progress.update(f"{done / 1e6:.0f} of {all_ / 1e6:.0f} MB")

    if arguments.check:
        with tempfile.TemporaryDirectory(prefix="windlass-check-") as scratch:
            manifest, aside = archive.unpack(arguments.file, Path(scratch)), None
    else:
        found = restoring.restore(
            settings.load(), arguments.file, datetime.now(UTC), step=progress.step, tell=tell
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
    print(f"{what}: {len(manifest.files)} files as of {manifest.made_at}; champions: {serving}")
    if aside is not None:
        print(f"what was there before lies in {aside}; remove it when you are sure")
    return 0
