"""The floor of the comparison: an asyncio protocol that decodes, predicts and encodes, and does nothing else.

It is given the whole feature vector in the request, keeps no log, checks nothing and knows one path: what is
left of a Python server when everything that makes it one is taken away.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import httptools
import numpy as np
import onnxruntime
import orjson
import uvloop


class Floor(asyncio.Protocol):
    run = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        rows = np.array(orjson.loads(self.body)["instances"], dtype=np.float32)
        self.body = b""
        answer = orjson.dumps(
            {"predictions": type(self).run(["probability"], {"features": rows})[0].tolist()}
        )
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
            % (len(answer), answer)
        )


async def main(model: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    Floor.run = staticmethod(onnxruntime.InferenceSession(model.read_bytes(), options).run)
    server = await asyncio.get_running_loop().create_server(Floor, "127.0.0.1", 0)
    sys.stderr.write(f"serving the floor on http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stderr.flush()
    await server.serve_forever()


parser = argparse.ArgumentParser()
parser.add_argument("--model", type=Path, required=True)
uvloop.run(main(parser.parse_args().model))
