"""`/openapi.json` and `/docs`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask_openapi3.openapi import OpenAPI

from anvil_web.auth import PUBLIC, required_role

UNDOCUMENTED = {"/docs/swagger/<path:name>", "/static/<path:name>"}
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'"
)


@pytest.fixture
def document(admin: Any) -> dict[str, Any]:
    found: dict[str, Any] = admin.get("/openapi.json").json
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def test_every_route_is_documented(app: Flask, document: dict[str, Any]) -> None:
    """The document has exactly the routes of the app, but for static files."""
    routed = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD"}
        if rule.rule not in UNDOCUMENTED
    }
    assert {(path, method) for path, method, _ in operations(document)} == routed


def test_operations_say_what_they_do(document: dict[str, Any]) -> None:
    """Each operation has a summary, an answer, and an id of its own."""
    listed = list(operations(document))
    assert len({operation["operationId"] for _, _, operation in listed}) == len(listed)
    for _, _, operation in listed:
        assert operation["summary"]
        assert operation["responses"].keys() & {"200", "201", "101"}


def test_security_is_documented_as_enforced(app: OpenAPI, document: dict[str, Any]) -> None:
    """An operation asks for the bearer token exactly when its view does, and tells of 401."""
    public = {
        re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for rule in app.url_map.iter_rules()
        if required_role(app, rule.endpoint) == PUBLIC
    }
    for path, _, operation in operations(document):
        assert bool(operation.get("security")) == (path not in public), path
        assert path in public or "401" in operation["responses"], path


def test_every_field_is_described(document: dict[str, Any]) -> None:
    """Each field of each answer has a description; request fields too, but the obvious."""
    for name, schema in document["components"]["schemas"].items():
        if name == "LoginBody":
            continue
        for field, described in schema.get("properties", {}).items():
            assert described.get("description"), f"{name}.{field}"


def test_clat_fields_say_that_they_hold_lat(document: dict[str, Any]) -> None:
    """The compatible name is explained at each field that has it."""
    fields = document["components"]["schemas"]["PhaseOut"]["properties"]
    explained = [name for name, field in fields.items() if "lat, from" in field["description"]]
    assert sorted(explained) == sorted(name for name in fields if "clat" in name)
    assert len(explained) == 10


def test_errors_are_documented_in_their_shape(document: dict[str, Any]) -> None:
    """A 422 documents a list of issues, another error a text; no 422 where nothing is read."""
    for path, _, operation in operations(document):
        for status, response in operation["responses"].items():
            if status[0] != "4" or "content" not in response:
                continue
            schema = response["content"]["application/json"]["schema"]["$ref"].split("/")[-1]
            assert schema == ("IssuesBody" if status == "422" else "ErrorBody"), path
        if not operation.get("parameters") and not operation.get("requestBody"):
            assert "422" not in operation["responses"], path


def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    """Every $ref has its schema."""
    names = set(re.findall(r"#/components/schemas/([\w.\-]+)", str(document)))
    assert names <= set(document["components"]["schemas"])


def test_the_page(client: Any) -> None:
    """It comes with a strict policy, no inline script, and nothing of another host."""
    response = client.get("/docs?token=static-token-0123456789")
    assert response.headers["Content-Security-Policy"] == CSP
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert "//" not in response.text
    assert re.findall(r"<script[^>]*>([^<]*)</script>", response.text) == ["", ""]


def test_its_files_are_public(client: Any) -> None:
    """Every file that the page names is there for anyone."""
    page = client.get("/docs?token=static-token-0123456789").text
    files = re.findall(r'(?:src|href)="(/[^"]+)"', page)
    assert len(files) == 3
    for file in files:
        with client.get(file) as response:
            assert response.status_code == 200
            assert response.mimetype in ("text/javascript", "text/css")


def test_static_files_stay_in_their_folder(client: Any) -> None:
    """No path leads out of it."""
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/docs/swagger/../__init__.py"):
        assert client.get(path).status_code == 404
