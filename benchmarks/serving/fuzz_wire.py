"""Mutations of HTTP itself: framing, targets, methods, headers, encodings, pipelines."""

from __future__ import annotations

import gzip
import zlib
from random import Random

from benchmarks.serving.fuzz_case import (
    PLAIN_V1,
    PLAIN_V2,
    Case,
    Expected,
    Mutation,
    answered,
    broken,
    encoded,
    one,
    refused,
    request,
)
from benchmarks.serving.fuzz_documents import plain_v2, rows_of
from benchmarks.serving.fuzz_subject import plain_scores

TOO_LARGE = frozenset((413,))
BAD_TARGET = frozenset((400, 404))
LIMIT_BYTES = 4 * 1024 * 1024


def _body(random: Random) -> tuple[bytes, Expected]:
    rows = rows_of(random)
    return encoded(plain_v2(rows)), answered(plain_scores(rows))


def chunked(random: Random) -> Case:
    """A body in chunks, cut anywhere, with extensions and trailers, in several pieces."""
    body, expected = _body(random)
    cuts = sorted(random.randrange(1, len(body)) for _ in range(random.randint(0, 5)))
    parts = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True) if b > a]
    chunks = [b"%x%s\r\n%s\r\n" % (len(p), random.choice((b"", b"", b";a=b")), p) for p in parts]
    end = random.choice((b"0\r\n\r\n", b"000\r\n\r\n", b"0\r\nx-trailer: 1\r\n\r\n"))
    head = f"POST {PLAIN_V2} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return Case((head, *chunks, end), (expected,))


def broken_chunks(random: Random) -> Case:
    """Chunks that do not say where they end."""
    body, _ = _body(random)
    size = b"%x" % len(body)
    chunks = random.choice(
        (
            b"zz\r\n" + body,
            b"-5\r\n" + body,
            b"0x10\r\n" + body,
            b"f" * 17 + b"\r\n" + body,
            b"\r\n" + body,
            size + b"\r\n" + body + b"XX0\r\n\r\n",
            size + b";\x00\r\n" + body + b"\r\n0\r\n\r\n",
            b"1 \x01\r\n" + body,
        )
    )
    head = f"POST {PLAIN_V2} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return Case((head + chunks,), (broken(),))


def broken_length(random: Random) -> Case:
    """Lengths that are none, or two."""
    body, _ = _body(random)
    lines = random.choice(
        (
            "content-length: -1",
            "content-length: 1e3",
            "content-length: 0x10",
            "content-length: 99999999999999999999999999",
            "content-length: ten",
            "content-length: 1, 2",
            f"content-length: {len(body)}\r\ncontent-length: 3",
            f"content-length: {len(body)}\r\ntransfer-encoding: chunked",
            "transfer-encoding: chunked, gzip",
        )
    )
    return Case((f"POST {PLAIN_V2} HTTP/1.1\r\nhost: x\r\n{lines}\r\n\r\n".encode() + body,), (broken(),))


def short_body(random: Random) -> Case:
    """A body that ends before its length says so."""
    body, _ = _body(random)
    cut = random.randrange(len(body))
    return Case((request(PLAIN_V2, body)[: cut - len(body)],), (broken("body"),), half_close=True)


def long_body(random: Random) -> Case:
    """A length that is too small: the rest is read as a request, and is none."""
    body, _ = _body(random)
    stated = random.randrange(1, len(body) - 1)
    return Case((request(PLAIN_V2, body, {"content-length": stated}),), (refused("the body"), broken()))


def too_large(random: Random) -> Case:
    """A body over the limit: stated so, or sent in chunks."""
    if random.random() < 0.8:
        stated = random.choice((LIMIT_BYTES + 1, 1 << 40))
        return Case(
            (request(PLAIN_V1, b"{", {"content-length": stated}),), (broken("body", statuses=TOO_LARGE),)
        )
    head = f"POST {PLAIN_V1} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    return Case((head, *[chunk] * (LIMIT_BYTES // 0x10000 + 1)), (broken("body", statuses=TOO_LARGE),))


def no_http(random: Random) -> Case:
    """What is no HTTP/1.1."""
    return Case(
        (
            random.choice(
                (
                    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + random.randbytes(40) + b"\r\n\r\n",
                    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                    b"hello\r\n\r\n",
                    b"GET\r\n\r\n",
                    b"GET / HTTP/9.9\r\n\r\n",
                    b"GET / HTTP/1.1x\r\n\r\n",
                    b"GET /\xc3\xa4 HTTP/1.1\r\n\r\n",
                    b"GET /\x7f HTTP/1.1\r\n\r\n",
                    b"GET / HTTP/1.1\r\nx: \x7f\r\n\r\n",
                    b"\x00\x00\x00\x00\r\n\r\n",
                    b"BREW /pot HTTP/1.1\r\nhost: x\r\n\r\n",
                    b"GET / HTTP/1.1\r\nhost x\r\n\r\n",
                    b"GET / HTTP/1.1\r\nho st: x\r\n\r\n",
                    b"GET / HTTP/1.1\r\n: x\r\n\r\n",
                    b"GET / HTTP/1.1\r\nx: \x00\r\n\r\n",
                    b"GET / HTTP/1.1\r\nx: a\r\n\x01: b\r\n\r\n",
                    b"\xff" * random.randint(1, 300),
                )
            ),
        ),
        (broken(),),
        half_close=True,
    )


def methods(random: Random) -> Case:
    """Methods that a path does not take."""
    method, path = random.choice(
        (("GET", PLAIN_V1), ("PUT", PLAIN_V2), ("DELETE", "/v2/models/plain"), ("POST", "/metrics"),
         ("PATCH", "/v2"), ("OPTIONS", PLAIN_V2), ("POST", "/v2/health/live"), ("TRACE", "/"))
    )  # fmt: skip
    body, _ = _body(random)
    return Case((request(path, body, method=method),), (refused(path, method, statuses=frozenset((405,))),))


def targets(random: Random) -> Case:
    """Absurd request targets."""
    target = random.choice(
        ("/../../etc/passwd", "/v2/models//infer", "*", "http://other/v2", "/v2/models/plain/infer/x", "/%00",
         "/v1/models/:predict", "/" + "a" * random.randint(1, 1900), "/?" + "a=b&" * 300, "/v2/models/plain%2finfer",
         "/v2/repository/models/plain", "/v1/models/plain:explain", "/v2/models/../../infer")
    )  # fmt: skip
    if target.startswith("/?"):  # a query means nothing here
        return Case((request(target, b"", method="GET"),), (Expected(frozenset((200,))),))
    return Case((request(target, b"{}"),), (refused(statuses=frozenset((404,))),))


def long_target(random: Random) -> Case:
    """A target over the limit."""
    target = "/" + "a" * random.choice((2049, 9000, 60_000))
    return Case((request(target, b"", method="GET"),), (broken("target", statuses=frozenset((414,))),))


def header_flood(random: Random) -> Case:
    """More headers, or longer ones, than anybody needs."""
    many = {f"x-{i}": "y" for i in range(random.choice((101, 400)))}
    headers = random.choice((many, {"x": "y" * 17_000}, {"x" * 17_000: "y"}))
    body, _ = _body(random)
    wire = request(PLAIN_V2, body, headers)
    return Case((wire,), (broken("headers", statuses=frozenset((431,))),))


def headers(random: Random) -> Case:
    """Headers that are read, with values that nobody means."""
    body, expected = _body(random)
    name, value, names = random.choice(
        (
            ("x-request-id", "a b", "x-request-id"),
            ("x-request-id", "é", "x-request-id"),
            ("x-request-id", "x" * 129, "x-request-id"),
            ("inference-header-content-length", "0", "inference-header-content-length"),
            ("inference-header-content-length", "-1", "inference-header-content-length"),
            ("inference-header-content-length", "9" * 5000, "inference-header-content-length"),
            ("inference-header-content-length", "ten", "inference-header-content-length"),
            ("inference-header-content-length", str(len(body) + 1), "inference-header-content-length"),
            ("inference-header-content-length", str(len(body) - 1), "the body"),
            ("x-envoy-expected-rq-timeout-ms", "9" * 5000, ""),
            ("x-envoy-expected-rq-timeout-ms", "9" * 400, ""),
            ("x-envoy-expected-rq-timeout-ms", "-1", ""),
            ("x-envoy-expected-rq-timeout-ms", "soon", ""),
            ("x-windlass-at", "nan", ""),
            ("content-type", "text/plain; charset=utf-16", ""),
            ("authorization", "Basic é", ""),
            ("host", "-shadow:" * 100, ""),
            ("accept-encoding", "gzip;q=nan", ""),
        )
    )
    return one(PLAIN_V2, body, refused(names) if names else expected, {name: value})


def compressed(random: Random) -> Case:
    """A body in an encoding: as it should be, damaged, cut off, a bomb, one that is not read here."""
    body, expected = _body(random)
    # without the time: the same seed gives the same bytes
    packed = gzip.compress(body, mtime=0)
    way = random.randrange(8)
    if way == 0:
        return one(PLAIN_V2, packed, expected, {"content-encoding": "gzip"})
    if way == 1:
        return one(PLAIN_V2, zlib.compress(body), expected, {"content-encoding": "Deflate"})
    if way == 2:
        cut = packed[: random.randrange(len(packed))]
        return one(PLAIN_V2, cut, refused("the body"), {"content-encoding": "gzip"})
    if way == 3:
        at = random.randrange(10, len(packed))  # one bit of what is compressed or of its checksum
        damaged = packed[:at] + bytes((packed[at] ^ 1,)) + packed[at + 1 :]
        return one(PLAIN_V2, damaged, refused("the body"), {"content-encoding": "gzip"})
    if way == 4:
        return one(
            PLAIN_V2, body, refused("the body"), {"content-encoding": random.choice(("gzip", "deflate"))}
        )
    if way == 5:
        expected = refused("the body", statuses=TOO_LARGE)
        return one(PLAIN_V2, random.choice(BOMBS), expected, {"content-encoding": "gzip"})
    if way == 6:
        return one(PLAIN_V2, packed + random.randbytes(9), refused("the body"), {"content-encoding": "gzip"})
    encoding = random.choice(("br", "zstd", "gzip, gzip", "x" * 100, ""))
    return one(
        PLAIN_V2,
        body,
        refused("content-encoding", statuses=frozenset((415,))),
        {"content-encoding": encoding},
    )


BOMBS = (gzip.compress(b" " * (64 << 20), 9, mtime=0), gzip.compress(b"[" * (LIMIT_BYTES + 1), 9, mtime=0))


def pipeline(random: Random) -> Case:
    """Several requests at once, a bad one among them: it costs no other its answer."""
    pieces, expected = [], []
    bad = random.randrange(8)
    for i in range(8):
        body, good = _body(random)
        pieces.append(request(PLAIN_V2, body if i != bad else body[:-2]))
        expected.append(good if i != bad else refused("the body"))
    wire = b"".join(pieces)
    return Case(random.choice(((wire,), (wire[:700], wire[700:]))), tuple(expected))


def broken_pipeline(random: Random) -> Case:
    """What came before broken framing is answered, in its order, and then the framing is told."""
    pieces, expected = [], []
    for _ in range(random.randint(1, 5)):
        body, good = _body(random)
        pieces.append(request(PLAIN_V2, body))
        expected.append(good)
    rubbish = random.choice(
        (b"\x00\x01\x02\r\n\r\n", b"GET nothing\r\n\r\n", b"POST / HTTP/1.1\r\nno\r\n\r\n")
    )
    return Case((b"".join(pieces) + rubbish,), (*expected, broken()))


def in_pieces(random: Random) -> Case:
    """A request that comes in pieces, as the network cuts it."""
    body, expected = _body(random)
    wire = request(PLAIN_V2, body)
    cuts = sorted(random.sample(range(1, len(wire)), random.randint(1, 6)))
    return Case(tuple(wire[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)), (expected,))


PATHS = ("/", "/v1/models", "/v2", "/v2/health/live", "/v2/health/ready", "/metrics", "/v2/models/keyed",
         "/openapi.json", "/v2/models/plain/versions/1/ready", "/v1/models/classes")  # fmt: skip


def documents(random: Random) -> Case:
    """The paths that a person or a machine asks for something else than a prediction."""
    path = random.choice(PATHS)
    method = random.choice(("GET", "HEAD"))
    return Case((request(path, b"", method=method),), (Expected(frozenset((200,)), head=method == "HEAD"),))


MUTATIONS: dict[str, Mutation] = {
    "chunked": chunked,
    "broken chunks": broken_chunks,
    "broken length": broken_length,
    "short body": short_body,
    "long body": long_body,
    "too large": too_large,
    "no HTTP": no_http,
    "method": methods,
    "target": targets,
    "long target": long_target,
    "header flood": header_flood,
    "headers": headers,
    "compressed": compressed,
    "pipeline": pipeline,
    "broken pipeline": broken_pipeline,
    "in pieces": in_pieces,
    "documents": documents,
}
