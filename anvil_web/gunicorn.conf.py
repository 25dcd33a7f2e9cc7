# ruff: noqa: N999 - gunicorn's own name for this file
"""How gunicorn serves Anvil: `gunicorn -c anvil_web/gunicorn.conf.py anvil_web.wsgi:app`.

`anvil serve` and `anvil web` start it so, with `--bind` and `--workers`.  There is no
access log; one that is switched on holds no tokens.
"""

from __future__ import annotations

import logging
import resource
from typing import Any

from anvil_web import config as configuration
from anvil_web.logs import HideTokens

_config = configuration.load()

# sun_path of a Unix socket (unix(7)), with its terminating zero.
_MAX_SOCKET_PATH = 107
# Descriptors of a worker that are not its clients': database, logs, libraries.
_OWN_FILES = 256

bind = _config.bind
workers = _config.web_workers
worker_class = "gevent"
worker_connections = 4000
preload_app = False
graceful_timeout = 10
keepalive = 5
accesslog = None
errorlog = "-"
loglevel = _config.log_level
control_socket = str(_config.data_dir / "gunicorn.ctl")
control_socket_disable = len(control_socket.encode()) > _MAX_SOCKET_PATH

for _name in ("gunicorn.error", "gunicorn.access"):
    logging.getLogger(_name).addFilter(HideTokens())


def on_starting(server: Any) -> None:
    """Allow as many open files as the workers' connections need, or say that it is too few."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    needed = server.cfg.worker_connections + _OWN_FILES
    if hard != resource.RLIM_INFINITY and hard < needed:
        server.log.warning(
            "the limit of open files is %d, and %d connections per worker need %d; "
            "raise it (ulimit -Hn, LimitNOFILE=) or expect refused connections",
            hard,
            server.cfg.worker_connections,
            needed,
        )


def post_worker_init(worker: Any) -> None:
    """Let a stopping worker send its sockets away, so that they resume at another one."""
    worker.wsgi.extensions["tails"].is_stopping = lambda: not worker.alive
