"""The OpenAPI document as a static page: no script, nothing loaded from elsewhere, for small screens and dark ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; --line: #d5d9e0; --soft: #f5f6f8; --dim: #59616e; --get: #0b6e4f; --post: #1d4ed8; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a404a; --soft: #1d2127; --dim: #a2abb9; --get: #4ccf9f; --post: #8ab0ff; }
  body { background: #14171b; color: #e6e8ec; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif; }
h1 { margin: .5rem 0 0; font-size: 1.6rem; }
h2 { margin: 2rem 0 .5rem; font-size: 1.2rem; overflow-wrap: anywhere; }
h3 { margin: 1rem 0 .25rem; font-size: .95rem; }
p { margin: .25rem 0; }
code, pre { font: .85rem/1.45 ui-monospace, monospace; }
pre { margin: .25rem 0; padding: .6rem; background: var(--soft); border-radius: .4rem; overflow-x: auto; }
.call { white-space: pre-wrap; overflow-wrap: anywhere; }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .4rem 0; }
details > div { padding: 0 .75rem .75rem; }
details details { margin: .4rem 0 0; }
summary { padding: .5rem .75rem; cursor: pointer; overflow-wrap: anywhere; }
.method { font-weight: 700; margin-right: .25rem; }
.get { color: var(--get); } .post { color: var(--post); }
.dim { color: var(--dim); }
table { border-collapse: collapse; width: 100%; }
td { border-top: 1px solid var(--line); padding: .25rem .5rem .25rem 0; vertical-align: top; overflow-wrap: anywhere; }
td:first-child { white-space: nowrap; }
@media (max-width: 40rem) { td:first-child { white-space: normal; width: 40%; } }
"""


def render(document: dict[str, Any]) -> bytes:
    """Write the page of an OpenAPI document."""
    info = document["info"]
    groups = "".join(_group(document, tag["name"]) for tag in document["tags"])
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(info['title'])}</h1><p>{escape(info['description'])}</p>"
        f'<p class="dim">Version {escape(info["version"])}. The same as a document: '
        f'<a href="openapi.json">openapi.json</a></p>{groups}</body></html>\n'
    )
    return page.encode()


def _group(document: dict[str, Any], tag: str) -> str:
    shown = "".join(
        _operation(document, path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if isinstance(operation, dict) and tag in operation["tags"]
    )
    return f"<h2>{escape(tag)}</h2>{shown}"


def _operation(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> str:
    parts = [f"<p>{escape(operation['description'])}</p>" if "description" in operation else ""]
    if "security" in operation:
        parts.append('<p class="dim">Needs the header <code>authorization: Bearer TOKEN</code>.</p>')
    parameters = [*document["paths"][path].get("parameters", []), *operation.get("parameters", [])]
    if parameters:
        rows = ((f"{p['name']} ({p['in']})", p.get("description", "")) for p in parameters)
        parts.append(f"<h3>Parameters</h3>{_table(rows)}")
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        if "example" in content:
            parts.append(f"<h3>Request</h3>{_call(path, content['example'])}")
        if "schema" in content:
            parts.append(_folded(f"Schema of the request, {media}", content["schema"]))
    responses = operation["responses"]
    for media, content in responses["200"]["content"].items():
        if "schema" in content:
            parts.append(_folded(f"Schema of the answer, {media}", content["schema"]))
    rows = ((status, _resolved(document, response)["description"]) for status, response in responses.items())
    parts.append(f"<h3>Status</h3>{_table(rows)}")
    return (
        f'<details><summary><code class="method {method}">{method.upper()}</code> <code>{escape(path)}</code> '
        f'<span class="dim">{escape(operation["summary"])}</span></summary><div>{"".join(parts)}</div></details>'
    )


def _call(path: str, example: Any) -> str:
    body = json.dumps(example)
    if len(body) > 100:
        body = "\n".join(_wrapped(example))
    return f"<pre class=\"call\">curl http://HOST:PORT{escape(path)} -d '{escape(body)}'</pre>"


def _wrapped(example: dict[str, Any]) -> Iterator[str]:
    """One entry of the example's list a line."""
    [(name, entries)] = example.items()
    yield f'{{"{name}": ['
    for i, entry in enumerate(entries):
        yield f"  {json.dumps(entry)}{',' if i + 1 < len(entries) else ''}"
    yield "]}"


def _folded(title: str, schema: dict[str, Any]) -> str:
    text = escape(json.dumps(schema, indent=2))
    return f"<details><summary>{escape(title)}</summary><div><pre>{text}</pre></div></details>"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in rows)
    return f"<table>{cells}</table>"


def _resolved(document: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in response:
        return response
    found: dict[str, Any] = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
    return found
