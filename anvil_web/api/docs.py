"""`/openapi.json` and `/docs`, for admins.

The page is a shell without data: Swagger UI from its package, and `static/docs.js`, which
takes the token from the query and fetches the document with it.
"""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from flask import Response, current_app, jsonify, send_from_directory
from flask_openapi3.openapi import OpenAPI
from pydantic import BaseModel, Field

from anvil_web.api import live
from anvil_web.api.reply import BEARER, GUARDED, noun
from anvil_web.auth import public, requires

DESCRIPTION = """Benchmarks NVMe drives and keeps what it measured.

Units are in the names: `_bytes`, `_ns`, `_s`, `_seconds`, `_iops` (1/s), `_c` (°C); `_bw_bytes` is
bytes per second. Times are RFC 3339 in UTC. Fields named `*_clat_*` keep that name for
compatibility and hold lat: from the submission stamp to the reaping of the completion.
"""
SECURITY_SCHEMES: Any = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The static token, or a JWT from `/api/auth/login`. GET, HEAD and the "
        "WebSocket also take it as `?token=`.",
    }
}
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'"
)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Anvil: HTTP API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger/css/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="/docs/swagger/js/swagger-ui-bundle.js"></script>
<script src="/static/docs.js"></script>
</body>
</html>
"""
STATIC = Path(__file__).parent.parent / "static"

bp = noun("docs", tag="Documentation")


class OpenApiDocument(BaseModel):
    """An OpenAPI 3.1 document."""

    openapi: str = Field(description="Version of the specification.")
    info: dict[str, Any] = Field(description="Title and version.")
    paths: dict[str, Any] = Field(description="Every route.")
    components: dict[str, Any] = Field(description="The schemas that the routes share.")


@bp.get("/openapi.json", security=BEARER, responses={200: OpenApiDocument, **GUARDED})
@requires("admin")
def openapi() -> Response:
    """The OpenAPI document of all routes."""
    return jsonify(document(cast(OpenAPI, current_app)))


HTML = {"description": "The page", "content": {"text/html": {"schema": {"type": "string"}}}}


@bp.get("/docs", security=BEARER, responses={200: HTML, **GUARDED})
@requires("admin")
def page() -> Response:
    """The document for people: open `/docs?token=…` in a browser."""
    response = Response(PAGE, mimetype="text/html")
    response.headers["Content-Security-Policy"] = CSP
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Frame-Options"] = "DENY"
    return response


@bp.route("/docs/swagger/<path:name>")
@public
def swagger(name: str) -> Response:
    """A file of Swagger UI; they hold no data."""
    spec = find_spec("flask_openapi3_swagger")
    assert spec is not None
    assert spec.origin is not None
    return _public_file(Path(spec.origin).parent / "templates" / "swagger", name)


@bp.route("/static/<path:name>")
@public
def static(name: str) -> Response:
    """A file of ours; they hold no data."""
    return _public_file(STATIC, name)


def _public_file(folder: Path, name: str) -> Response:
    response = send_from_directory(folder, name)
    response.headers["Cache-Control"] = "public, max-age=3600"
    return response


def document(app: OpenAPI) -> dict[str, Any]:
    """The OpenAPI document of every route, the WebSocket's among them."""
    found = copy.deepcopy(app.api_doc)
    for path in found["paths"].values():
        for operation in path.values():
            if not operation.get("parameters") and not operation.get("requestBody"):
                # The library promises a 422 of every operation.
                operation["responses"].pop("422", None)
    found["paths"][live.DOCUMENTED_PATH] = {"get": live.OPERATION}
    return found
