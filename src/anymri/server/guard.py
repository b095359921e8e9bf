"""Guard in front of every request: who asks, from where, for how much; and the headers of every answer."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import logging
import secrets
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anymri.server.refusal import Refusal, refusal_of_disk
from anymri.server.settings import NOBODY, ServerSettings
from anymri.server.store import Busy

__all__ = ["HEADER_BYTES", "Guard", "report_policy"]

log = logging.getLogger("anymri.server")

#: Largest body of requests that are no uploads.
BODY_BYTES = 2**18
#: Longest headers of a request in bytes.
HEADER_BYTES = 2**15
#: What may be loaded and done by the page.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; worker-src 'self' blob:; frame-src 'self' blob:; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
#: Requests with a body that is read as it comes, within limits of its own.
_UPLOADS = ("/studies", "/dicomweb/studies")
#: First parts of paths that ask for a token.
_PRIVATE = ("studies", "models", "limits", "metrics", "dicomweb")


def report_policy(scripts: list[str]) -> str:
    """Policy of a report: apart from the page, without network, with no script but its own.

    Parameters
    ----------
    scripts : list of str
        Texts of its scripts.
    """
    digests = " ".join(f"'sha256-{_base64_digest(text)}'" for text in scripts)
    return (
        f"default-src 'none'; script-src {digests or chr(39) + 'none' + chr(39)}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox allow-scripts"
    )


def _base64_digest(text: str) -> str:
    import base64

    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


class Guard:
    """Middleware that everything goes through.

    Parameters
    ----------
    app : ASGIApp
    settings : ServerSettings
    observe : callable
        Told method, route, code and seconds of every request.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, observe: Callable[[str, str, int, float], None]) -> None:
        self._app, self._settings, self._observe = app, settings, observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return
        started, code, body = time.monotonic(), 0, _Body(scope, receive)

        async def answer(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                _add_headers(message)
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, body.read, answer)
        except Exception as error:
            if code:  # half-way; nothing can be said any more
                log.error("an answer was cut off: %s", type(error).__name__)
                raise
            refusal = _refusal_of(error)
            await _drain(scope, body, receive)
            await _refuse(refusal, answer)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", "") or "(page)"
            seconds = time.monotonic() - started
            self._observe(scope["method"], path, code, seconds)
            log.info("%s %s %d %.3f s", scope["method"] if len(scope["method"]) < 10 else "?", path, code, seconds)

    def _check(self, scope: Scope) -> None:
        """Refuse what comes from elsewhere or without a token, and write the owner into the scope.

        Raises
        ------
        Refusal
        """
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
            raise Refusal(431, f"request: its headers are longer than {HEADER_BYTES} bytes; send less")
        headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._is_own(host):
            raise Refusal(403, "Host: is not a name of this server; add it with --name, or use its address")
        origin = headers.get(b"origin")
        if origin is not None and not self._is_same(origin.decode("latin-1"), host):
            raise Refusal(403, "Origin: is another site; open the server's own page")
        if (
            origin is None
            and headers.get(b"sec-fetch-site") == b"cross-site"
            and scope["method"] not in ("GET", "HEAD")
        ):
            raise Refusal(403, "Sec-Fetch-Site: is another site; open the server's own page")
        scope.setdefault("state", {})["owner"] = NOBODY
        first = _path_of(scope).lstrip("/").partition("/")[0]
        if self._settings.tokens and first in _PRIVATE:
            scope["state"]["owner"] = self._owner(headers.get(b"authorization", b""))
        if b"," in headers.get(b"range", b""):
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"range"]

    def _is_own(self, host: str) -> bool:
        """Whether a host is this server: an address, ``localhost`` or a name of the settings; so no rebound name."""
        name = _host_name(host)
        if name is None:
            return False
        if name == "localhost" or name in self._settings.names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _is_same(self, origin: str, host: str) -> bool:
        """Whether a page belongs to this server; the scheme may differ behind a proxy."""
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()

    def _owner(self, authorization: bytes) -> str:
        """Owner of the token of a request.

        Raises
        ------
        Refusal
            401 if there is none.
        """
        scheme, _, token = authorization.partition(b" ")
        digest = hashlib.sha256(token.strip()).hexdigest()
        owner = None
        for known, name in self._settings.tokens.items():  # all of them, so that time tells nothing
            if hmac.compare_digest(known, digest):
                owner = name
        if scheme.lower() != b"bearer" or owner is None:
            raise Refusal(
                401, "Authorization: no token, or an unknown one; send Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        return owner


def _path_of(scope: Scope) -> str:
    """Path of a request below the place where a proxy mounts the server."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(root + "/") else path


def _host_name(host: str) -> str | None:
    """Name in a Host header, without the port; None if it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname.lower() if parts.hostname and parts.netloc == host and "@" not in host else None


class _Body:
    """Body of a request: how much of it came, and whether there is more."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        path = _path_of(scope).rstrip("/")
        upload = scope["method"] == "POST" and (path in _UPLOADS or path.startswith("/dicomweb/studies/"))
        self._receive, self._left = receive, None if upload else BODY_BYTES
        self.ended = False

    async def read(self) -> Message:
        """The next part.

        Raises
        ------
        Refusal
            If it is too large for a request that is no upload.
        """
        message = await self._receive()
        self.ended = message["type"] != "http.request" or not message.get("more_body", False)
        if self._left is not None:
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                raise Refusal(413, f"request: is larger than {BODY_BYTES} bytes; send less")
        return message


async def _drain(scope: Scope, body: _Body, receive: Receive, most: int = 2**24, most_s: float = 3.0) -> None:
    """Take a little more of a refused body, so that clients that send first and listen then hear why."""
    import asyncio

    end = time.monotonic() + most_s
    names = {name for name, _ in scope["headers"]}
    # Nothing more comes; or it listens before it sends.
    if body.ended or b"expect" in names or not {b"content-length", b"transfer-encoding"} & names:
        return
    for name, value in scope["headers"]:
        if name == b"content-length" and (not value.isdigit() or int(value[:18]) > most):
            return
    while most > 0 and (left := end - time.monotonic()) > 0:
        try:
            message = await asyncio.wait_for(receive(), left)
        except Exception:
            return
        most -= len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return


def _refusal_of(error: Exception) -> Refusal:
    """What is answered to an exception; a fault is logged by its place, as its text may hold names."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, Busy) and "full" in str(error):
        return Refusal(507, "server: its disk is full; delete studies, or ask who runs it", {"Retry-After": "600"})
    if isinstance(error, Busy):
        return Refusal(503, "server: its database is busy; come again in 5 s", {"Retry-After": "5"})
    if isinstance(error, OSError) and (refusal := refusal_of_disk(error)) is not None:
        return refusal
    number = secrets.token_hex(4)
    places = traceback.extract_tb(error.__traceback__)[-3:]
    where = " < ".join(f"{Path(place.filename).name}:{place.lineno}" for place in reversed(places))
    log.error("fault %s: %s at %s", number, type(error).__name__, where)
    return Refusal(500, f"server: a fault of the program (number {number}); ask who runs it")


async def _refuse(refusal: Refusal, send: Send) -> None:
    body = json.dumps({"detail": refusal.detail}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
    raw: Any = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _add_headers(message: Message) -> None:
    """Add what every answer says, where it does not say otherwise."""
    there = {name.lower() for name, _ in message["headers"]}
    wanted = {**_HEADERS, "content-security-policy": _POLICY}
    added = [(name.encode(), value.encode()) for name, value in wanted.items() if name.encode() not in there]
    message["headers"] = [*message["headers"], *added]
