"""Asking redis without an event loop: for whoever wraps a reader and needs the answer as a value.

A server never does: its loop would stand still meanwhile.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from serving.runtime.features.reader import StoreError, StoreLostError, StoreTimeoutError
from serving.runtime.features.redis_address import Address
from serving.runtime.features.redis_connection import Replies, pack

CONNECT_TIMEOUT_S = 0.25
_CHUNK = 1 << 16


class BlockingConnection:
    """One connection, opened by the first question and again after a failure."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._replies = Replies(address.name)

    def ask(self, payload: bytes, commands: int, budget_s: float) -> list[Any]:
        """Send `commands` commands and return as many replies.

        Raises:
            StoreError: they did not all come within `budget_s` seconds, or are not redis' protocol.
        """
        name = self._address.name
        try:
            if self._socket is None:
                self._open(max(budget_s, CONNECT_TIMEOUT_S))
            return self._exchange(payload, commands, time.monotonic() + budget_s)
        except TimeoutError as error:
            self.close()
            raise StoreTimeoutError(f"online store {name}: no complete answer in time") from error
        except OSError as error:
            self.close()
            raise StoreLostError(f"online store {name}: {error}") from error
        except StoreError:
            # what still comes over this connection would answer the wrong question
            self.close()
            raise

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self, timeout_s: float) -> None:
        address = self._address
        self._replies = Replies(address.name)
        if address.path is not None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(timeout_s)
            self._socket.connect(address.path)
        else:
            self._socket = socket.create_connection((address.host, address.port), timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if address.tls is not None:
                self._socket = address.tls.wrap_socket(self._socket, server_hostname=address.host)
        entry = b"".join(pack(*command) for command in address.entry)
        for reply in self._exchange(entry, len(address.entry), time.monotonic() + timeout_s):
            if isinstance(reply, Exception):
                raise StoreError(f"online store {address.name}: entry was refused: {str(reply)[:60]}")

    def _exchange(self, payload: bytes, commands: int, deadline: float) -> list[Any]:
        assert self._socket is not None  # noqa: S101 - opened by the caller
        replies: list[Any] = []
        if commands:
            self._socket.settimeout(max(deadline - time.monotonic(), 1e-4))
            self._socket.sendall(payload)
        while len(replies) < commands:
            self._socket.settimeout(max(deadline - time.monotonic(), 1e-4))
            data = self._socket.recv(_CHUNK)
            if not data:
                raise ConnectionResetError("the connection was closed")
            replies += self._replies.take(data)
        if len(replies) > commands:
            raise StoreError(f"online store {self._address.name}: more replies than questions")
        return replies
