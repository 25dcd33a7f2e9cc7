"""The Flask application: puts the parts together, and decides nothing."""

from __future__ import annotations

import time
from typing import Any, NoReturn
from urllib.parse import quote

from flask import Response, current_app, redirect, request
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI
from pydantic import ValidationError

from anvil_web import auth, db, errors
from anvil_web import config as configuration
from anvil_web.api import auth as auth_api
from anvil_web.api import cors, devices, docs, live, runs, series, status
from anvil_web.config import Config, InvalidConfig
from anvil_web.schemas.base import IssuesBody
from anvil_web.version import anvil_version

MAX_BODY_BYTES = 1 << 20

NOUNS = (status.bp, auth_api.bp, devices.bp, runs.bp, series.bp, docs.bp)


def create_app(config: Config | None = None) -> OpenAPI:
    """An application over `config`, or over the environment's configuration.

    Creates no account, no secret and no table: that is for `anvil serve` and `anvil
    migrate`.  Raises `InvalidConfig` when they have not been run.
    """
    config = config or configuration.load()
    if config.bearer_token is None or config.jwt_key is None:
        raise InvalidConfig(f"{config.data_dir} holds no secrets yet; run: anvil migrate")
    db.connect(config.database_url, role="web")
    app = _bare_app(config)
    errors.init_app(app)
    app.before_request(_drop_trailing_slash)
    cors.init_app(app, config.cors_origins)
    app.before_request(auth.guard)
    app.before_request(errors.check_address)
    app.after_request(_harden)
    app.teardown_appcontext(_release_connection)
    for blueprint in NOUNS:
        app.register_api(blueprint)
    live.init_app(app)
    auth.check_declared(app)
    return app


def _bare_app(config: Config) -> OpenAPI:
    app = OpenAPI(
        __name__,
        info=Info(title="Anvil", version=anvil_version(), description=docs.DESCRIPTION),
        security_schemes=docs.SECURITY_SCHEMES,
        doc_ui=False,
        validation_error_callback=_refuse,
        validation_error_model=IssuesBody,
        static_folder=None,
    )
    app.config["ANVIL"] = config
    app.config["STARTED_AT"] = time.monotonic()
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    # Only preflights are answered (api/cors.py); another OPTIONS is a wrong method.
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    return app


def _refuse(error: ValidationError) -> NoReturn:
    raise errors.invalid(error)


def _drop_trailing_slash() -> Any:
    """Send `/api/runs/` to `/api/runs`, query and method kept."""
    path = request.path.rstrip("/")
    if request.endpoint is not None or path == request.path or not path:
        return None
    adapter = current_app.create_url_adapter(request)
    if adapter is None or not adapter.allowed_methods(path):
        return None
    query = request.query_string.decode("latin-1")
    return redirect(quote(path) + (f"?{query}" if query else ""), 308)


def _harden(response: Response) -> Response:
    """Keep answers out of caches, unless the view says otherwise, and types as declared."""
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response


def _release_connection(_error: BaseException | None) -> None:
    db.close_connection()
