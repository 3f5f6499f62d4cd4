"""Reading a compressed body, bounded: a few bytes must not become gigabytes."""

from __future__ import annotations

import zlib

from serving.runtime.refusal import BadRequest, TooLarge


def inflate(body: bytes | bytearray, encoding: bytes, most_bytes: int) -> bytes:
    """Decompress gzip or deflate (a zlib stream).

    Raises:
        TooLarge: it would exceed `most_bytes`.
        BadRequest: it is damaged or incomplete.
    """
    stream = zlib.decompressobj(31 if encoding == b"gzip" else 15)
    try:
        content = stream.decompress(body, most_bytes + 1)
    except zlib.error as error:
        raise BadRequest(f"the body is no {encoding.decode()}: {error}") from None
    if len(content) > most_bytes:
        raise TooLarge(f"the body is larger than {most_bytes} bytes when decompressed")
    if not stream.eof:
        raise BadRequest(f"the body is no complete {encoding.decode()} stream")
    if stream.unused_data:
        raise BadRequest(f"the body: {len(stream.unused_data)} bytes follow its {encoding.decode()} stream")
    return content
