"""`windlass feedback`: say what came of predictions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monitoring.labels import Label
    from windlass.settings import Settings

BATCH = 1000


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "feedback",
        help="send the outcome of predictions",
        description="Sends labels to the running platform, which acknowledges them once they are on the disk. Where "
        "none runs they are appended to its feedback log directly.",
        epilog="example: windlass feedback 6f1c2a 1\n"
        '         windlass feedback --file labels.jsonl   (lines like {"request_id": "6f1c2a", "label": 1})',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("request_id", nargs="?", help="the x-request-id of the prediction")
    parser.add_argument("label", nargs="?", help="the outcome: 0 or 1")
    parser.add_argument("--reward", type=float, help="what the answer was worth, where that is not the label")
    parser.add_argument("--at", metavar="TIME", help="when the outcome became known (default: now)")
    parser.add_argument(
        "--file",
        type=Path,
        metavar="FILE",
        help="JSON lines with request_id, label and optionally reward, per, covariate and at; - reads stdin",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json

    from windlass import settings

    configured = settings.load()
    labels = _labels(arguments)
    url = _address(configured)
    sent = _post(url, labels) if url is not None else _append(configured, labels)
    result = {"accepted": sent, "to": url or str(configured.logs_dir / "feedback.jsonl")}
    print(json.dumps(result) if arguments.json else f"{sent:,} labels are on the disk ({result['to']})")
    return 0


def _labels(arguments: argparse.Namespace) -> list[Label]:
    import json
    import sys
    import time

    from monitoring.labels import validate
    from windlass.errors import UsageError

    now = time.time()
    if arguments.file is None:
        if arguments.request_id is None or (arguments.label is None and arguments.reward is None):
            raise UsageError(
                "name a request and its label, or a file: `windlass feedback REQUEST_ID 1` or --file FILE"
            )
        label = int(arguments.label) if arguments.label in ("0", "1") else arguments.label
        told = {"label": label, "reward": arguments.reward, "at": arguments.at}
        record = {"request_id": arguments.request_id, **{k: v for k, v in told.items() if v is not None}}
        return [validate(record, now=now)]
    if any(given is not None for given in (arguments.request_id, arguments.at, arguments.reward)):
        raise UsageError("--file stands alone; put request_id, label and at into its lines")
    try:
        text = sys.stdin.read() if str(arguments.file) == "-" else arguments.file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"feedback file {arguments.file} cannot be read ({error}); give a file of JSON lines"
        ) from None
    found: list[Label] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UsageError(
                f"{arguments.file} line {number} is not JSON ({error}); nothing was sent"
            ) from None
        found.append(validate(record, now=now, place=f"line {number}."))
    if not found:
        raise UsageError(f"{arguments.file} holds no labels; write one JSON object a line")
    return found


def _address(configured: Settings) -> str | None:
    from windlass.local import state

    running = state.serving(configured)
    return None if running is None else str(running["feedback_url"])


def _post(url: str, labels: list[Label]) -> int:
    import json
    import urllib.error
    import urllib.request

    from monitoring.labels import sent
    from windlass.errors import WindlassError

    done = 0
    for start in range(0, len(labels), BATCH):
        batch = [sent(label) for label in labels[start : start + BATCH]]
        body = json.dumps(batch).encode()
        request = urllib.request.Request(url, body, {"content-type": "application/json"})  # noqa: S310 - the platform's own address
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                answer.read()
        except OSError as error:
            said = (
                error.read().decode(errors="replace").strip()
                if isinstance(error, urllib.error.HTTPError)
                else ""
            )
            raise WindlassError(
                f"{url} did not take the labels ({error}) {said}; {done:,} of {len(labels):,} are acknowledged, "
                "sending all of them again is safe"
            ) from error
        done += len(batch)
    return done


def _append(configured: Settings, labels: list[Label]) -> int:
    # no collector runs, or it would hold the platform's lock: its file is ours for a moment
    from monitoring.collector.feedback_log import FeedbackLog, line
    from monitoring.labels import path

    log = FeedbackLog(path(configured))
    try:
        log.write(b"".join(map(line, labels)))
    finally:
        log.close()
    return len(labels)
