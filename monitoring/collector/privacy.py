"""Personal values never reach a disk: they are hashed or dropped before an event goes into the journal.

A workload names what is personal (`Workload.privacy`). "hash" keeps a keyed hash (HMAC-SHA-256, RFC 2104, of name and
value, cut to 128 bits): rows of one person can be grouped and nobody can try values without the key. The key comes from
`WINDLASS_PRIVACY_KEY_FILE` or `WINDLASS_PRIVACY_KEY` and is written nowhere. A number that the model saw is dropped in
either case, since few values are possible: its place in the feature vector becomes missing.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from windlass.errors import UsageError, WindlassError

KEY, KEY_FILE = "WINDLASS_PRIVACY_KEY", "WINDLASS_PRIVACY_KEY_FILE"
SHORTEST_KEY = 16
Rules = Mapping[str, str]


class KeyMissingError(WindlassError):
    """A workload asks for hashes and there is no key: nothing of it can be taken."""


def key(environ: Mapping[str, str] | None = None) -> bytes | None:
    """The key of the hashes, None where none is set.

    Raises:
        WindlassError: its file cannot be read, or it is too short to keep anything.
    """
    env = os.environ if environ is None else environ
    found: bytes | None = env[KEY].encode() if env.get(KEY) else None
    if env.get(KEY_FILE):
        path = Path(env[KEY_FILE])
        try:
            found = path.read_bytes().strip()
        except OSError as error:
            raise WindlassError(
                f"cannot read {KEY_FILE} {path}: {error.strerror}; name a readable file"
            ) from error
    if found is not None and len(found) < SHORTEST_KEY:
        raise WindlassError(f"the privacy key has {len(found)} bytes; use {SHORTEST_KEY} or more")
    return found


def hashed(secret: bytes, name: str, value: Any) -> str:
    """The keyed hash of a value of a column."""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return hmac.new(secret, f"{name}\0{text}".encode(), hashlib.sha256).hexdigest()[:32]


class Privacy:
    """The rules of a model, applied to rows.

    Args:
        secret: key of the hashes.

    Raises:
        KeyMissingError: a rule is "hash", and there is no key.
    """

    def __init__(self, model: str, rules: Rules, secret: bytes | None) -> None:
        self._rules = dict(rules)
        if secret is None and "hash" in self._rules.values():
            raise KeyMissingError(
                f"workload {model!r} hashes {sorted(n for n, w in rules.items() if w == 'hash')} and there is no key; "
                f"set {KEY_FILE} to a file with {SHORTEST_KEY} or more random bytes, and start the collector again"
            )
        self._secret = secret or b""

    def __bool__(self) -> bool:
        return bool(self._rules)

    def applied(self, row: Mapping[str, Any], inputs: Sequence[str]) -> dict[str, Any]:
        """A row without what is personal.

        Args:
            row: with `entities`, `request`, `features` and `score`, each of them optional.
            inputs: names of the feature vector's positions. Where they do not fit the vector, all of it is dropped:
                what stands where is not known.

        Raises:
            UsageError: it is nested too deeply to be looked through.
        """
        clean = dict(row)
        if "score" in row:
            clean["score"] = self.answer(row["score"])
        for place in ("entities", "request"):
            if given := row.get(place):
                try:
                    clean[place] = self._fields(given)
                except RecursionError:
                    raise UsageError(f"{place!r} is nested too deeply; send flatter values") from None
        vector = row.get("features")
        if vector is not None and self._rules:
            fits = len(vector) == len(inputs)
            clean["features"] = [
                value if fits and inputs[i] not in self._rules else None for i, value in enumerate(vector)
            ]
        return clean

    def answer(self, value: Any) -> Any:
        """An answer without what it repeats of personal columns; what has no name is the model's own.

        Raises:
            UsageError: it is nested too deeply to be looked through.
        """
        try:
            return self._answered(value) if self._rules else value
        except RecursionError:
            raise UsageError("an answer is nested too deeply; send flatter values") from None

    def _answered(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._answered(member) for member in value]
        if not isinstance(value, Mapping):
            return value
        kept = {}
        for name, member in value.items():
            way = self._rules.get(name)
            if way is None or member is None:
                kept[name] = self._answered(member)
            elif way == "hash":
                kept[name] = hashed(self._secret, name, member)
        return kept

    def _fields(self, given: Mapping[str, Any]) -> dict[str, Any]:
        kept = {}
        for name, value in given.items():
            # values that are told apart by their place only may be anything
            way = "drop" if name.isdigit() and self._rules else self._rules.get(name)
            if way is None or value is None:
                kept[name] = self._inside(value)
            elif way == "hash":
                kept[name] = hashed(self._secret, name, value)
        return kept

    def _inside(self, value: Any) -> Any:
        """A value without what is personal in it: objects have names, members of a list have none."""
        if not self._rules:
            return value
        if isinstance(value, Mapping):
            return self._fields(value)
        if isinstance(value, list):
            return [self._fields(member) if isinstance(member, Mapping) else None for member in value]
        return value
