"""Why a request went to its version, told to the model server in a header that the route itself sets.

Each rule of a model's HTTPRoute overwrites `x-windlass-route`, so a caller cannot say it: "weights", "arm" (its unit is
assigned), "unassigned" (units are, but it names none), "match" (its caller chose) or "segment/VALUE" (weights by a
header's value). They are the kinds that the local proxy's access log knows (`envoy.routes`). A value that a filter of
a route could not hold, or that Envoy would read as a command, is written in its bytes: "=25" is a percent sign.
"""

from __future__ import annotations

import re

from serving.release.envoy.routes import Kind

ROUTE_HEADER = "x-windlass-route"

_SEGMENT = "segment/"
_KINDS: tuple[Kind, ...] = ("weights", "arm", "unassigned", "match")
_ODD = re.compile(r"[^A-Za-z0-9_.:/-]")
_QUOTED = re.compile(r"=([0-9A-F]{2})")


def segment(value: str) -> str:
    """What the header says of requests that a header's value was decisive for."""
    return _SEGMENT + _ODD.sub(lambda odd: "".join(f"={byte:02X}" for byte in odd[0].encode()), value)


def read(text: str) -> tuple[Kind, str | None] | None:
    """Kind and segment that the header says; None where it says nothing that we write."""
    if text.startswith(_SEGMENT):
        quoted = text.removeprefix(_SEGMENT)
        plain = _QUOTED.sub(lambda code: chr(int(code[1], 16)), quoted).encode("latin-1", "replace")
        value = plain.decode("utf-8", "replace")
        return ("segment", value) if segment(value) == text else None
    return next(((kind, None) for kind in _KINDS if kind == text), None)
