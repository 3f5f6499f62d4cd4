"""Ports that a test knows before anybody listens at them."""

from __future__ import annotations

import socket


def hold() -> socket.socket:
    """A socket that is bound and not listened at: nobody is given its port by chance, and a server that asks for it by
    name may listen there until the holder closes it, and again after it went."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held
