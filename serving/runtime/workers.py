"""Several processes on one port, each on a core of its own.

The parent verifies the bundles and opens their models before it forks, so that the workers share the pages of what
was loaded; the kernel spreads the connections over them. A worker that dies is replaced, and what it counted is kept.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from serving.runtime import app, loading, metrics
from serving.runtime.bundle import Bundle
from serving.runtime.options import Options
from windlass.errors import UsageError, WindlassError

SHARED = frozenset(("onnx",))
"""Formats whose library may run in a child of the process that opened the model: it has no thread of its own."""
MOST_DEATHS = 5
DEATHS_WITHIN_S = 30.0
PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def serve(bundles: Sequence[Bundle], options: Options) -> int:
    """Serve by `options.workers` processes until SIGTERM or SIGINT; returns the exit code.

    Raises:
        UsageError: a bundle cannot be served, or the repository is asked for.
        PortInUseError: the port is taken.
    """
    if options.repository is not None:
        raise UsageError("--repository and --workers: a model is loaded into one process; give --workers 1")
    if options.grpc_port == 0:
        raise UsageError("--grpc-port is 0 and --workers above 1: all of them need the same port; name one")
    # bound and never listened on: it keeps the port for the workers, whichever of them come and go
    keeper = app.bind(options.host, options.port, shared=True)
    options = replace(options, port=keeper.getsockname()[1])
    opened = {
        (b.model, b.version): loading.opened(b) for b in bundles if {f.format for f in b.forms} <= SHARED
    }
    with tempfile.TemporaryDirectory(prefix="windlass-", dir=_memory()) as folder:
        crew = Crew(bundles, options, opened, Path(folder))
        try:
            return crew.run(keeper)
        finally:
            keeper.close()


class Crew:
    """The workers of one server."""

    def __init__(
        self, bundles: Sequence[Bundle], options: Options, opened: loading.Opened, shared: Path
    ) -> None:
        self._bundles = bundles
        self._options = options
        self._opened = opened
        self._shared = shared
        self._workers: set[int] = set()
        self._deaths: deque[float] = deque(maxlen=MOST_DEATHS)
        self._stopping = False

    def run(self, keeper: socket.socket) -> int:
        """Start the workers, replace those that die, and end them all on a signal."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        for _ in range(self._options.workers):
            self._start(keeper)
        failed = False
        while self._workers:
            pid, status = os.wait()
            self._workers.discard(pid)
            metrics.bury(self._shared, pid)
            if self._stopping:
                continue
            self._deaths.append(time.monotonic())
            code = os.waitstatus_to_exitcode(status)
            sys.stderr.write(f"worker {pid} ended with {code}\n")
            if len(self._deaths) == MOST_DEATHS and self._deaths[-1] - self._deaths[0] < DEATHS_WITHIN_S:
                sys.stderr.write(
                    f"error: {MOST_DEATHS} workers died within {DEATHS_WITHIN_S:.0f} s; giving up\n"
                )
                failed = True
                self._stop()
            else:
                self._start(keeper)
        return 1 if failed else 0

    def _start(self, keeper: socket.socket) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self._workers.add(pid)
            if self._stopping:  # the signal came between the fork and here
                os.kill(pid, signal.SIGTERM)
            return
        code = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            _die_with(parent)
            keeper.close()
            listener = app.bind(self._options.host, self._options.port, shared=True)
            app.serve(
                self._bundles, self._options, listener=listener, shared=self._shared, opened=self._opened
            )
            code = 0
        except WindlassError as error:
            sys.stderr.write(f"error: {error}\n")
            code = error.exit_code
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            # no handler of the parent's may run twice
            os._exit(code)

    def _stop(self, *_: object) -> None:
        self._stopping = True
        for pid in list(self._workers):
            os.kill(pid, signal.SIGTERM)


def _die_with(parent: int) -> None:
    """Drain and end when the parent does, however it ends: nobody else would stop this process."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it is gone already
        os.kill(os.getpid(), signal.SIGTERM)


def _memory() -> str | None:
    """A folder in memory: a container's root may be read-only."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a folder of our own is made in it
