"""Cross-origin requests (API.md §1.2): refused unless origins are configured."""

from __future__ import annotations

from flask import Flask, Response, request

METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
HEADERS = "Authorization, Content-Type"
PREFLIGHT_MAX_AGE_S = "600"
ANY = "*"


def init_app(app: Flask, origins: tuple[str, ...]) -> None:
    """Let pages of `origins` call `app`; a `*` among them lets every page, without cookies."""
    if not origins:
        return
    granted = frozenset(origins)

    def preflight() -> Response | None:
        asked = "Access-Control-Request-Method" in request.headers
        return Response(status=204) if request.method == "OPTIONS" and asked else None

    def allow(response: Response) -> Response:
        origin = request.headers.get("Origin", "")
        if ANY in granted:
            response.headers["Access-Control-Allow-Origin"] = ANY
        else:
            response.vary.add("Origin")
            if origin not in granted:
                return response
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Credentials"] = "true"
        if request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Methods"] = METHODS
            response.headers["Access-Control-Allow-Headers"] = HEADERS
            response.headers["Access-Control-Max-Age"] = PREFLIGHT_MAX_AGE_S
        return response

    app.before_request(preflight)
    app.after_request(allow)
