"""A server with faults around its real parts, as another process composes one; run by the tests."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from serving.runtime import workers
from serving.runtime.app import Options, serve
from serving.runtime.bundle import load
from serving.runtime.features.reader import FeatureReader, open_reader
from serving.runtime.transport.http import HttpProtocol


class WrongUnit:
    """Serves the first feature a hundred times too large."""

    def __init__(self, real: FeatureReader) -> None:
        self._real = real

    def read(self, entities: Mapping[str, str], now: float) -> list[float]:
        values = self._real.read(entities, now)
        return [values[0] * 100, *values[1:]]


class Delayed(HttpProtocol):
    """Answers a while later."""

    seconds = 0.0

    def write_response(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(self.seconds, super().write_response, data)


parser = argparse.ArgumentParser()
parser.add_argument("--bundle", type=Path)
parser.add_argument("--port", type=int)
parser.add_argument("--log")
parser.add_argument("--online")
parser.add_argument("--replay-clock", action="store_true")
parser.add_argument("--delay", type=float, default=0.0)
parser.add_argument("--wrong-unit", action="store_true")
parser.add_argument("--most-body-bytes", type=int, default=4 * 1024 * 1024)
parser.add_argument("--request-timeout", type=float, default=30.0)
parser.add_argument("--linger", type=float, default=0.2)
parser.add_argument("--workers", type=int, default=1)
arguments = parser.parse_args()
bundle = load(arguments.bundle)
options = Options(
    port=arguments.port,
    log=arguments.log,
    online=arguments.online,
    replay_clock=arguments.replay_clock,
    most_body_bytes=arguments.most_body_bytes,
    request_timeout_s=arguments.request_timeout,
    drain_linger_s=arguments.linger,
    workers=arguments.workers,
)
Delayed.seconds = arguments.delay
if options.workers > 1:
    sys.exit(workers.serve([bundle], options))
serve(
    bundle,
    options,
    reader=WrongUnit(open_reader(options.online, bundle)) if arguments.wrong_unit else None,
    protocol_factory=Delayed if arguments.delay else None,
)
