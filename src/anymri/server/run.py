"""Run of the server: uvicorn with limits, logs without names, and an end that loses nothing."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable

import uvicorn

from anymri.errors import UserError
from anymri.server.app import create_app
from anymri.server.guard import HEADER_BYTES
from anymri.server.settings import ServerSettings

__all__ = ["run_server"]

#: Connections at a time; beyond it answers 503.
CONNECTIONS = 512


def run_server(settings: ServerSettings, say: Callable[[str], None] = lambda text: None) -> None:
    """Serve until a signal asks to end.

    Parameters
    ----------
    settings : ServerSettings
    say : callable, optional
        Told in a line where it listens.

    Raises
    ------
    UserError
        If the port is taken, the address is not one of this machine, or the data folder cannot be used.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("anymri.server").setLevel(logging.INFO)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            raise UserError(
                f"--host {settings.host} --port {settings.port}: cannot be listened at ({error.strerror or error}); "
                "choose another"
            ) from None
        app = create_app(settings)
        config = uvicorn.Config(
            app, http="h11", ws="none", lifespan="on", access_log=False, log_config=None, server_header=False,
            date_header=True, limit_concurrency=CONNECTIONS, h11_max_incomplete_event_size=HEADER_BYTES,
            timeout_keep_alive=15, timeout_graceful_shutdown=10, proxy_headers=False,
        )  # fmt: skip
        address = f"[{settings.host}]" if family == socket.AF_INET6 else settings.host
        say(f"anymri: http://{address}:{listener.getsockname()[1]}{settings.root_path}/ (Ctrl-C ends it)")
        uvicorn.Server(config).run(sockets=[listener])
