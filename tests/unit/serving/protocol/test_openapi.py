"""The OpenAPI document and its page; whether the server does what it says is for test_conformance to judge."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from serving.runtime.options import Options
from serving.runtime.protocol import docs_page, openapi, v1, v2

TOKEN = "t"  # noqa: S105 - nobody else's
MODELS = ("tumours", "flights", "kinds")
Serve = Callable[..., Any]
Document = dict[str, Any]


@pytest.fixture
def document(serve: Serve) -> Document:
    made = serve(*MODELS, token=TOKEN, replay_clock=True)
    return describe(made, made.options)


def describe(made: Any, options: Options) -> Document:
    contracts = [loaded.served.contract for loaded in made.server.repository]
    # as the server sends it: what is no JSON would fail here
    read: Document = json.loads(json.dumps(openapi.document(contracts, options), allow_nan=False))
    return read


def operations(document: Document) -> Iterator[tuple[str, Document]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method in ("get", "post"):
                yield path, operation


def test_every_model_has_all_of_its_paths(document: Document) -> None:
    """Verify the paths of both protocols, of each version and of the server."""
    expected = {"/", "/docs", "/metrics", "/openapi.json", "/v1/models", "/v2"}
    expected |= {f"/v2/health/{state}" for state in ("live", "ready")}
    expected |= {"/v2/repository/index"}
    expected |= {f"/v2/repository/models/{{model}}/{action}" for action in ("load", "unload")}
    for model, version in (("tumours", "1"), ("flights", "3"), ("kinds", "1")):
        expected |= {f"/v1/models/{model}", f"/v1/models/{model}:predict"}
        for place in (f"/v2/models/{model}", f"/v2/models/{model}/versions/{version}"):
            expected |= {place, f"{place}/ready", f"{place}/infer"}
    assert set(document["paths"]) == expected


def test_operations_are_told_apart(document: Document) -> None:
    """Verify that generated clients can name every operation."""
    keys = [operation["operationId"] for _, operation in operations(document)]
    assert len(keys) == len(set(keys))


def test_references_lead_somewhere(document: Document) -> None:
    """Verify that whatever is referred to is there."""
    found = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)))
    assert found
    for reference in found:
        place: Any = document
        for part in reference.split("/"):
            place = place[part]


@pytest.mark.parametrize("model", MODELS)
def test_the_examples_are_requests_that_the_model_takes(serve: Serve, document: Document, model: str) -> None:
    """Verify that a reader who copies an example gets an answer."""
    contract = serve(model).loaded.served.contract
    paths = document["paths"]
    for path, read in ((f"/v1/models/{model}:predict", v1.decode), (f"/v2/models/{model}/infer", v2.decode)):
        example = paths[path]["post"]["requestBody"]["content"]["application/json"]["example"]
        asked = read(json.dumps(example).encode(), contract, 10)
        assert (asked[0] if isinstance(asked, tuple) else asked).count == 1


def test_what_a_row_must_hold_is_in_its_schema(document: Document) -> None:
    """Verify keys, categories, defaults and limits of a model with features."""
    content = document["paths"]["/v1/models/flights:predict"]["post"]["requestBody"]["content"]
    row = content["application/json"]["schema"]["anyOf"][0]["properties"]["instances"]["items"]
    assert row["required"] == ["carrier"]
    assert row["properties"]["carrier"]["type"] == "string"
    assert row["properties"]["distance"]["type"] == ["number", "null"]
    assert row["properties"]["distance"]["default"] == 900.0
    assert row["properties"]["origin"]["examples"] == ["JFK", "LGA"]
    assert "delay_1h" not in row["properties"]


def test_the_document_follows_what_the_server_allows(serve: Serve) -> None:
    """Verify that a switched-off repository asks for no token, and the replay clock's header is there with it alone."""
    made = serve("tumours")
    for options, security, headers in (
        (Options(port=0), None, 1),
        (Options(port=0, token=TOKEN, replay_clock=True), [{"token": []}], 2),
    ):
        paths = describe(made, options)["paths"]
        assert paths["/v2/repository/index"]["post"].get("security") == security
        assert len(paths["/v1/models/tumours:predict"]["post"]["parameters"]) == headers


def test_the_page_shows_every_operation_and_loads_nothing(document: Document) -> None:
    """Verify that the page is whole in itself: no script, nothing from elsewhere, text as text."""
    document["info"]["title"] = "<models> & more"
    page = docs_page.render(document).decode()
    assert "&lt;models&gt; &amp; more" in page
    assert not re.search(r"<script|<link|<img|@import|url\(|\bsrc=", page)
    assert re.findall(r'href="([^"]*)"', page) == ["openapi.json"]
    for path, operation in operations(document):
        assert path in page
        assert operation["summary"] in html.unescape(page)
