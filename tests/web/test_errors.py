"""Errors on the wire: always `{"detail": …}`, a string, or for 422 a list of
`{"type", "loc", "msg", "input"}`, whatever went wrong and wherever."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask

from anvil_web import db
from anvil_web.auth import public

BODY = {"device_id": "x"}


def assert_canonical_error(response: Any, status: int) -> Any:
    """The contract's shape; returns the detail."""
    assert response.status_code == status
    assert response.mimetype == "application/json"
    assert set(response.json) == {"detail"}
    detail = response.json["detail"]
    if status != 422:
        assert isinstance(detail, str)
        assert detail
        return detail
    assert detail
    for issue in detail:
        assert {"type", "loc", "msg", "input"} == set(issue)
        assert issue["loc"][0] in ("body", "query", "path")
    return detail


def test_unknown_paths(client: Any) -> None:
    """Nothing there is 404, also below /api and without a credential."""
    for path in ("/nope", "/api/nope", "/api/runs/x/nope", "/static/nope", "/"):
        assert assert_canonical_error(client.get(path), 404) == "Not Found"


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH", "OPTIONS"])
def test_wrong_methods(client: Any, method: str) -> None:
    """A known path with another method is 405 and says which are right."""
    response = client.open("/api/runs", method=method)
    assert assert_canonical_error(response, 405) == "Method Not Allowed"
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "POST"}


def test_a_plain_request_to_the_websocket(client: Any) -> None:
    """It is told to upgrade."""
    response = client.get("/ws/runs/x")
    assert_canonical_error(response, 426)
    assert response.headers["Upgrade"] == "websocket"


def test_an_upgrade_of_a_plain_route(client: Any) -> None:
    """A WebSocket handshake elsewhere is a bad request."""
    headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert_canonical_error(client.get("/api/health", headers=headers), 400)


def test_too_large_a_body(operator: Any) -> None:
    """A body over 1 MiB is 413."""
    response = operator.post("/api/runs", data=b" " * (1 << 20) + b"{}")
    assert_canonical_error(response, 413)


def test_a_bug_shows_no_stack(app: Flask, client: Any) -> None:
    """An unexpected exception is a 500 in JSON, and its text stays inside."""

    @public
    def broken() -> str:
        raise ValueError("the secret reason")

    app.add_url_rule("/broken", "broken", broken)
    response = client.get("/broken")
    assert assert_canonical_error(response, 500) == "Internal Server Error"


def test_an_unreachable_database(app: Flask, bot: Any, tmp_path: Any) -> None:
    """It is 503; only the status call answers, and calls itself degraded."""
    db.connect(f"sqlite:///{tmp_path}/missing/anvil.db", role="web", patience_s=0)
    assert_canonical_error(bot.get("/api/devices"), 503)
    status = bot.get("/api/status")
    assert (status.status_code, status.json["status"]) == (200, "degraded")


@pytest.mark.parametrize(
    ("data", "kind", "loc"),
    [
        (b"{", "json_invalid", ["body", 0]),
        (b"\xff\xfe\xfa", "json_invalid", ["body", 0]),
        (b'{"device_id": NaN}', "json_invalid", ["body", 0]),
        (b"[" * 100_000, "json_invalid", ["body", 0]),
        (b"", "missing", ["body"]),
        (b"[]", "dict_type", ["body"]),
        (b'"{}"', "dict_type", ["body"]),
        (b"{}", "missing", ["body", "device_id"]),
        (b'{"device_id": 7}', "string_type", ["body", "device_id"]),
        (b'{"device_id": "a\\u0000b"}', "string_unicode", ["body", "device_id"]),
        (b'{"device_id": "\\ud800"}', "string_unicode", ["body", "device_id"]),
        (b'{"device_id": "x", "more": [{"y": "\\u0000"}]}', "string_unicode",
         ["body", "more", 0, "y"]),
        (b'{"device_id": "x", "a\\u0000": 1}', "string_unicode", ["body"]),
        (b'{"device_id": "x", "engine": "fio"}', "literal_error", ["body", "engine"]),
        (b'{"device_id": "x", "simulation": "maybe"}', "bool_parsing", ["body", "simulation"]),
    ],
)  # fmt: skip
def test_bad_bodies(operator: Any, data: bytes, kind: str, loc: list[Any]) -> None:
    """Whatever is wrong with a body is a 422 that says where."""
    response = operator.post("/api/runs", data=data, content_type="application/json")
    detail = assert_canonical_error(response, 422)
    assert [(issue["type"], issue["loc"]) for issue in detail] == [(kind, loc)]


@pytest.mark.parametrize(
    ("query", "loc"),
    [
        ("limit=x", ["query", "limit"]),
        ("limit=0", ["query", "limit"]),
        ("limit=501", ["query", "limit"]),
        ("offset=-1", ["query", "offset"]),
        ("offset=99999999999999999999", ["query", "offset"]),
        ("status=a%00b", ["query", "status"]),
        ("status=%ED%A0%80", ["query", "status"]),
        ("unknown=%FF", ["query", "unknown"]),
    ],
)
def test_bad_queries(viewer: Any, query: str, loc: list[Any]) -> None:
    """Whatever is wrong with a query is a 422 that says where."""
    detail = assert_canonical_error(viewer.get(f"/api/runs?{query}"), 422)
    assert [issue["loc"] for issue in detail] == [loc]


def test_zero_bytes_in_a_path(viewer: Any) -> None:
    """A path that no database takes is a 422, not an error of the database."""
    detail = assert_canonical_error(viewer.get("/api/runs/a%00b"), 422)
    assert detail[0]["loc"] == ["path", "run_id"]


@pytest.mark.parametrize(
    "body",
    [
        {"password": "hunter2-secret"},
        {"username": 7, "password": "hunter2-secret"},
        {"username": "u", "password": ["hunter2-secret"]},
        {"user": {"new_password": "hunter2-secret"}, "list": [{"password": "hunter2-secret"}]},
    ],
)
def test_passwords_do_not_come_back(client: Any, body: dict[str, Any]) -> None:
    """`input` never has a password, neither as itself nor inside something larger."""
    response = client.post("/api/auth/login", json=body)
    assert_canonical_error(response, 422)
    assert "hunter2" not in response.text


def test_unknown_keys_are_ignored(operator: Any) -> None:
    """A body with keys that nobody asked for is judged by the others."""
    response = operator.post("/api/runs", json=BODY | {"version": 3})
    assert assert_canonical_error(response, 404) == "Device not found"


def test_a_body_needs_no_content_type(operator: Any) -> None:
    """JSON is read as JSON also when the client forgot to say so."""
    response = operator.post("/api/runs", data=json.dumps(BODY))
    assert assert_canonical_error(response, 404) == "Device not found"


def test_calls_without_a_body_may_claim_json(operator: Any) -> None:
    """An empty body with a JSON content type is no malformed JSON where none is read."""
    for method, path, status in (
        ("GET", "/api/devices", 200),
        ("POST", "/api/runs/unknown/abort", 404),
        ("POST", "/api/devices/rescan", 503),
    ):
        response = operator.open(path, method=method, content_type="application/json")
        assert response.status_code == status


def test_trailing_slashes_are_sent_on(client: Any) -> None:
    """A slash too many is a redirect that keeps method and query; elsewhere it is a 404."""
    response = client.post("/api/runs/?a=%20b&c")
    assert (response.status_code, response.headers["Location"]) == (308, "/api/runs?a=%20b&c")
    assert_canonical_error(client.get("/nope/"), 404)
    assert client.get("//evil.example/%2e%2e/").status_code in (308, 404)


def test_head_is_get_without_a_body(viewer: Any) -> None:
    """HEAD works wherever GET does."""
    response = viewer.head("/api/devices")
    assert (response.status_code, response.data) == (200, b"")
