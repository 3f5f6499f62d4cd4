"""`windlass sim`: the release engine against faults, and against bugs that are planted into it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from windlass.errors import UsageError


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "sim",
        help="simulate releases under faults",
        description="Runs the real release engine on a virtual clock, before a router, a metrics source and an API "
        "that fail on purpose, and holds what happens to invariants; then plants bugs into the engine and looks "
        "whether they are found.",
        epilog="example: windlass sim --seeds 1000 --json\n"
        "         windlass sim --seeds 1 --start 42 --log 42.log --no-bugs\n"
        "The same seed gives the same log. Exit code 1: an invariant was violated, a release did not end as it must, "
        "or too few of the planted bugs were caught.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=1000, metavar="N", help="how many seeds (default 1000)")
    parser.add_argument("--start", type=int, default=0, metavar="SEED", help="the first seed (default 0)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes at a time (default: the cores)")
    parser.add_argument("--no-bugs", action="store_true", help="plant no bugs")
    parser.add_argument("--log", type=Path, metavar="FILE", help="write the log of a seed (with --seeds 1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    from serving.release.simulation import campaign
    from serving.release.simulation.planted import BUGS

    workers = os.cpu_count() or 1 if arguments.workers is None else arguments.workers
    _check(arguments, workers)
    if arguments.log is not None:
        _write_log(arguments.start, arguments.log)
    begun = time.perf_counter()
    hunts = None
    if not arguments.no_bugs:
        hunts = campaign.catch(BUGS, arguments.start, campaign.CAP, workers, _progress)
    found = campaign.run(arguments.start, arguments.seeds, workers, _progress)
    document = campaign.report(found, arguments.start, hunts, time.perf_counter() - begun)
    print(json.dumps(document) if arguments.json else _table(document))
    return 0 if campaign.holds(document) else 1


def _check(arguments: argparse.Namespace, workers: int) -> None:
    if arguments.seeds < 1:
        raise UsageError(f"--seeds {arguments.seeds} simulates nothing; give 1 or more")
    if arguments.start < 0:
        raise UsageError(f"--start {arguments.start} is no seed; give 0 or more")
    if workers < 1:
        raise UsageError(f"--workers {workers} leaves nobody to work; give 1 or more")
    if arguments.log is not None and arguments.seeds != 1:
        raise UsageError(
            f"--log {arguments.log} holds one seed, --seeds {arguments.seeds} are more; give --seeds 1"
        )


def _write_log(seed: int, path: Path) -> None:
    from serving.release.simulation.run import play
    from windlass import atomic

    atomic.write_text(path, "".join(f"{line}\n" for line in play(seed, keep_log=True).log))


def _progress(done: int, total: int, what: str) -> None:
    if done == total or done % max(1, total // 20) == 0:
        print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)


def _table(document: dict[str, Any]) -> str:
    good, harmful = document["good_promoted"], document["harmful_rolled_back"]
    kinds = ", ".join(f"{kind} {count}" for kind, count in document["faults"].items())
    lines = [
        f"{document['seeds']} seeds from {document['start']} on in {document['seconds']} s, "
        f"{document['decisions']} decisions",
        f"faults injected: {document['faults_injected']} of {document['fault_kinds']} kinds ({kinds})",
        f"good candidates promoted: {_share(good)} of {document['good']}",
        f"harmful candidates rolled back: {_share(harmful)} of {document['harmful']}",
        f"violations: {document['violations']}",
        *(
            f"  seed {one['seed']}, tick {one['tick']}: {one['invariant']}: {one['detail']}"
            for one in document["violation_list"]
        ),
    ]
    if document["promises_broken"]:
        lines.append(
            "seeds that did not end as they must: " + ", ".join(map(str, document["promises_broken"]))
        )
    if document["planted_bugs"]:
        lines.append(f"planted bugs caught: {document['caught']} of {document['planted_bugs']}")
        lines += [f"  missed: {name}" for name in document["missed"]]
    return "\n".join(lines)


def _share(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"
