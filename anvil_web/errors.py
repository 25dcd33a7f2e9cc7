"""Every error on the wire is `{"detail": …}`, and is made here.

`detail` is a string, and a list of issues for a 422.  Views raise werkzeug's exceptions
(`abort(404, "Run not found")`) and let the store's and the engine's pass; `STATUS` says
what those become.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from flask import Flask, Request, Response, request
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException
from werkzeug.routing.exceptions import WebsocketMismatch

from anvil_engine.errors import UnknownProfile
from anvil_web.db import DatabaseUnavailable
from anvil_web.store.commands import CommandTimeout
from anvil_web.store.runs import RunFinished, RunNotFound

SECRET_FIELDS = frozenset({"password", "new_password"})
LOCATIONS = {"Body": "body", "Query": "query", "Path": "path"}

Loc = tuple[str | int, ...]


def _fixed(text: str) -> Any:
    return lambda _error: text


STATUS: dict[type[Exception], tuple[int, Any]] = {
    UnknownProfile: (400, _fixed("Unknown profile")),
    RunNotFound: (404, _fixed("Run not found")),
    RunFinished: (409, lambda error: f"Run already in terminal status: {error.status}"),
    CommandTimeout: (503, lambda error: f"Runner unreachable: {error}"),
    DatabaseUnavailable: (503, _fixed("Database unavailable")),
}
"""Status and text of exceptions that know nothing of HTTP."""


class InvalidRequest(HTTPException):
    """A request that does not say what it must; `issues` name each place."""

    code = 422

    def __init__(self, issues: list[dict[str, Any]]) -> None:
        super().__init__("invalid request")
        self.issues = issues


class NotSignedIn(HTTPException):
    """A credential is missing or worth nothing; `challenge` goes into WWW-Authenticate."""

    code = 401

    def __init__(self, text: str, challenge: str = "Bearer") -> None:
        super().__init__(text)
        self.challenge = challenge

    def get_headers(self, *args: Any, **kwargs: Any) -> list[tuple[str, str]]:
        """With the challenge, which a 401 must have (RFC 9110 §11.6.1)."""
        return [*super().get_headers(*args, **kwargs), ("WWW-Authenticate", self.challenge)]


def issue(kind: str, loc: Loc, msg: str, found: Any = None) -> dict[str, Any]:
    """One entry of a 422."""
    return {"type": kind, "loc": list(loc), "msg": msg, "input": found}


def invalid(error: ValidationError) -> InvalidRequest:
    """The 422 of a request model that refused its input."""
    place = next(
        (place for suffix, place in LOCATIONS.items() if error.title.endswith(suffix)), "body"
    )
    return InvalidRequest(
        [
            issue(
                found["type"],
                (place, *found["loc"]),
                found["msg"],
                _without_secrets(found["input"], found["loc"]),
            )
            for found in error.errors(include_url=False, include_context=False)
        ]
    )


def _without_secrets(value: Any, loc: Loc) -> Any:
    """`value` as it may be sent back: no password, whether it is one or contains one."""
    if SECRET_FIELDS.intersection(loc):
        return None
    if isinstance(value, dict):
        return {key: _without_secrets(item, (key,)) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_secrets(item, ()) for item in value]
    return value


def _unstorable(text: str) -> bool:
    """Whether no database takes `text`: U+0000 (PostgreSQL) or half a surrogate pair."""
    return "\0" in text or any("\ud800" <= char <= "\udfff" for char in text)


def _bad_texts(value: Any, loc: Loc) -> Iterator[Loc]:
    if isinstance(value, str):
        if _unstorable(value):
            yield loc
    elif isinstance(value, dict):
        for key, item in value.items():
            if _unstorable(key):
                yield loc
            else:
                yield from _bad_texts(item, (*loc, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _bad_texts(item, (*loc, index))


def _refuse_texts(locs: Iterable[Loc]) -> None:
    issues = [
        issue("string_unicode", loc, "Text may hold neither U+0000 nor a lone surrogate")
        for loc in locs
    ]
    if issues:
        raise InvalidRequest(issues)


def check_address() -> None:
    """Refuse a path or query whose text is not UTF-8, or which no database takes."""
    bad: list[Loc] = [
        ("path", name)
        for name, value in (request.view_args or {}).items()
        if isinstance(value, str) and _unstorable(value)
    ]
    for pair in request.query_string.split(b"&"):
        try:
            wrong = _unstorable(unquote_to_bytes(pair).decode())
        except UnicodeDecodeError:
            wrong = True
        if wrong:
            name = unquote_to_bytes(pair.partition(b"=")[0]).decode(errors="replace")
            bad.append(("query", name.replace("\0", "")))
    _refuse_texts(bad)


class StrictRequest(Request):
    """A request whose JSON body is an object or a 422, whatever its Content-Type says."""

    def get_json(self, *_args: Any, **_kwargs: Any) -> Any:
        """The body as a dict.  Raises `InvalidRequest`, whatever the caller would tolerate."""
        data = self.get_data()
        if not data.strip():
            raise InvalidRequest([issue("missing", ("body",), "Field required")])
        try:
            parsed = json.loads(data, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(
                [issue("json_invalid", ("body", 0), f"JSON decode error: {_where(error)}", {})]
            ) from error
        if not isinstance(parsed, dict):
            raise InvalidRequest([issue("dict_type", ("body",), "Input should be an object")])
        _refuse_texts(_bad_texts(parsed, ("body",)))
        return parsed


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _where(error: Exception) -> str:
    """What is wrong, without quoting the body."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at position {error.pos}"
    return "nested too deeply" if isinstance(error, RecursionError) else "not UTF-8 JSON"


def _respond(detail: Any, response: Response) -> Response:
    response.set_data(json.dumps({"detail": detail}))
    response.mimetype = "application/json"
    return response


def _on_http_error(error: HTTPException) -> Response:
    response = Response(status=error.code, headers=_headers_of(error))
    if isinstance(error, InvalidRequest):
        return _respond(error.issues, response)
    if isinstance(error, WebsocketMismatch):
        return _on_protocol_mismatch(response)
    # An own text is an instance's attribute; the class's is prose for a browser.
    return _respond(vars(error).get("description") or error.name, response)


def _headers_of(error: HTTPException) -> list[tuple[str, str]]:
    """The headers that belong to the error: Allow, WWW-Authenticate, Retry-After."""
    return [pair for pair in error.get_headers() if pair[0].lower() != "content-type"]


def _on_protocol_mismatch(response: Response) -> Response:
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return _respond("This address does not speak WebSocket", response)
    response.status_code = 426
    response.headers["Upgrade"] = "websocket"
    response.headers["Connection"] = "Upgrade"
    return _respond("This address speaks WebSocket only", response)


def _on_known_error(error: Exception) -> Response:
    kind = next(kind for kind in type(error).__mro__ if kind in STATUS)
    status, text = STATUS[kind]
    return _respond(text(error), Response(status=status))


def init_app(app: Flask) -> None:
    """Have `app` answer every error in the one shape."""
    app.request_class = StrictRequest
    app.register_error_handler(HTTPException, _on_http_error)
    for kind in STATUS:
        app.register_error_handler(kind, _on_known_error)
