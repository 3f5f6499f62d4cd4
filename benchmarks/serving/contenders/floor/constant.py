"""A server that answers the same bytes to every request: what parsing and writing HTTP costs in Python."""

from __future__ import annotations

import uvloop

from benchmarks.serving.contenders.classifier import arguments
from benchmarks.serving.contenders.floor.protocol import respond, serve

ANSWER = b'{"outputs":[{"name":"probability","datatype":"FP32","shape":[1],"data":[0.5]}]}'

if __name__ == "__main__":
    uvloop.run(serve(arguments().port, lambda transport, body: respond(transport, ANSWER)))
