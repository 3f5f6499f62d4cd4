"""Mutations of requests to the repository: loading, unloading and listing models while the server runs."""

from __future__ import annotations

from random import Random

from benchmarks.serving.fuzz_case import Case, Mutation, encoded, one, refused
from benchmarks.serving.fuzz_subject import DAMAGED, TOKEN


def stranger(random: Random) -> Case:
    """The repository, asked by who does not have its token."""
    action = random.choice(("models/plain/load", "models/../unload", "index"))
    given = random.choice(({}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer \xe9" * 50}))
    expected = refused("authorization", statuses=frozenset((401,)))
    return one(f"/v2/repository/{action}", random.choice((b"{}", b"x", b"")), expected, given)


LOADS: tuple[tuple[str, object, int, str], ...] = (
    ("models/plain/load", {"parameters": 3}, 400, "parameters"),
    ("models/plain/load", {"parameters": ["1"]}, 400, "parameters"),
    ("models/plain/load", {"parameters": {"version": 1}}, 400, "parameters.version"),
    ("models/plain/load", {"parameters": {"version": ["1"]}}, 400, "parameters.version"),
    ("models/plain/load", [], 400, "the body"),
    ("models/plain/load", {}, 404, "model"),
    ("models/../load", {}, 404, "model"),
    ("models/%2e%2e/load", {}, 404, "model"),
    ("models/nobody/unload", {}, 404, "model"),
    (f"models/{DAMAGED}/load", {"parameters": {"version": "../1"}}, 404, "version"),
    (f"models/{DAMAGED}/load", {"parameters": {"version": "2"}}, 404, "version"),
    (f"models/{DAMAGED}/load", {"parameters": {"version": "1\x00"}}, 404, "version"),
    (f"models/{DAMAGED}/load", {}, 400, "model.onnx"),
    ("index", {"ready": 3}, 400, "ready"),
    ("index", "x", 400, "the body"),
)


def repository(random: Random) -> Case:
    """The repository, asked with its token for what it does not have."""
    action, document, status, name = random.choice(LOADS)
    token = {"authorization": f"Bearer {TOKEN}"}
    return one(
        f"/v2/repository/{action}", encoded(document), refused(name, statuses=frozenset((status,))), token
    )


MUTATIONS: dict[str, Mutation] = {"repository": repository, "stranger": stranger}
