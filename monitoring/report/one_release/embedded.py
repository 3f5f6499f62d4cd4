"""A release's journal inside its page: `windlass release replay PAGE` decides everything again from the page alone.

It is JSON in a script element that no browser runs, and compressed: evidence repeats itself from look to look, and
its journal would otherwise be most of the page.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from typing import Any

from monitoring.report.markup import Markup

NAME = "journal"


class EmbeddedError(ValueError):
    """A page that holds no journal, or a damaged one."""


def embed(records: Iterable[Mapping[str, Any]]) -> Markup:
    """The element that holds a journal."""
    lines = [json.dumps(record, separators=(",", ":"), allow_nan=False) for record in records]
    # without the time of compression: the same journal gives the same page
    packed = gzip.compress("\n".join(lines).encode(), mtime=0)
    content = {
        "records": len(lines),
        "encoding": "base64(gzip(JSON lines))",
        "data": base64.b64encode(packed).decode(),
    }
    # nothing of it is markup: base64 and fixed texts
    return Markup(f'<script type="application/json" id="{NAME}">{json.dumps(content)}</script>')


def extract(text: str) -> list[dict[str, Any]]:
    """The records of the journal in a page.

    Raises:
        EmbeddedError: there is none, or it is damaged.
    """
    reader = _Reader()
    reader.feed(text)
    reader.close()
    if not reader.found:
        raise EmbeddedError(f'no script element with id="{NAME}"')
    try:
        content = json.loads("".join(reader.found))
        lines = gzip.decompress(base64.b64decode(content["data"], validate=True)).decode().splitlines()
        records = [json.loads(line) for line in lines]
    except (ValueError, KeyError, TypeError, OSError, EOFError, binascii.Error) as error:
        raise EmbeddedError(f"its journal is damaged ({error})") from error
    if len(records) != content.get("records"):
        raise EmbeddedError(f"its journal has {len(records)} of {content.get('records')} records")
    return records


class _Reader(HTMLParser):
    """Takes the text of the one element out of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "script" and dict(attrs).get("id") == NAME

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found.append(data)
