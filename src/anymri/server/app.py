"""The application: its parts put together, what it does by itself, and how it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from anymri.server.demo import add_demo
from anymri.server.guard import Guard
from anymri.server.intake import Intake
from anymri.server.metrics import Metrics
from anymri.server.places import Places
from anymri.server.routes import router
from anymri.server.sending import Sender
from anymri.server.settings import ServerSettings
from anymri.server.store import Busy, Store
from anymri.server.stow import Stow
from anymri.server.supervisor import Supervisor
from anymri.version import __version__

__all__ = ["STATIC", "Parts", "create_app"]

log = logging.getLogger("anymri.server")

#: The page.
STATIC = Path(__file__).parent / "static"
#: How often studies whose time is over are looked for, in seconds.
SWEEP_S = 20.0
#: Age at which a folder that belongs to no study is removed; a younger one may be about to be written down.
ORPHAN_S = 600.0
#: How long jobs under way may go on when the server is asked to end, in seconds.
PATIENCE_S = 8.0


class Parts:
    """Parts of one server.

    Parameters
    ----------
    settings : ServerSettings
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.places = Places(settings.folder)
        self.places.make()
        self.store = Store(self.places.database)
        self.metrics = Metrics(self.store)
        self.supervisor = Supervisor(settings, self.places, self.store)
        self.supervisor.count = self.metrics.job
        self.intake = Intake(settings, self.places, self.store)
        self.demo: str | None = None
        self.stow = Stow(self.intake)
        self.sender: Sender | None = None
        if settings.send_to is not None:
            self.sender = Sender(settings, self.places, self.store, self.supervisor.stopping)
            self.supervisor.done = self.sender.queue

    def remove(self, study: str) -> None:
        """Remove a study: its rows, what is under way for it, its files."""
        self.store.remove(study)
        self.supervisor.remove(study)
        self.places.remove(study)

    def sweep(self) -> None:
        """Remove studies whose time is over, and files that belong to none."""
        for study in self.store.expired():
            log.info("a study has expired")
            self.remove(study)
        for orphan in self.places.orphans(self.store.known(), older_s=ORPHAN_S):
            self.places.remove(orphan)

    def begin(self) -> None:
        """Sweep up after an earlier start, and take jobs."""
        for orphan in self.places.orphans(self.store.known()):
            self.places.remove(orphan)
        self.sweep()
        if self.settings.demo:
            self.demo = add_demo(self.settings, self.places, self.store)
        self.supervisor.start()
        if self.sender is not None:
            self.sender.start()

    def end(self) -> None:
        """Let jobs come to their end for a while, and close the store."""
        self.intake.stopping = True
        self.supervisor.stop(PATIENCE_S)
        self.store.close()


def create_app(settings: ServerSettings) -> FastAPI:
    """Make the application of a server; it holds the data folder while it runs.

    Parameters
    ----------
    settings : ServerSettings

    Raises
    ------
    UserError
        If the data folder cannot be used.
    """
    parts = Parts(settings)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        parts.begin()
        sweeper = asyncio.create_task(_sweep(parts))
        yield
        sweeper.cancel()
        await asyncio.to_thread(parts.end)

    app = FastAPI(
        title="anymri", version=__version__, docs_url=None, redoc_url=None, lifespan=life, root_path=settings.root_path,
        summary="MRI studies with missing sequences: segment, complete. Research use only.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )  # fmt: skip
    app.state.parts = parts
    app.include_router(router)
    if STATIC.is_dir():
        app.mount("/", StaticFiles(directory=STATIC, html=True), name="page")
    app.add_exception_handler(RequestValidationError, _say_invalid)
    app.add_exception_handler(HTTPException, _say_http)
    app.add_middleware(Guard, settings=settings, observe=parts.metrics.request)
    return app


async def _sweep(parts: Parts) -> None:
    """Remove what has expired, now and then, and close studies that came by DICOMweb."""
    pause, since = min(1.0, parts.settings.settle_s / 4), 0.0
    while True:
        await asyncio.sleep(pause)
        since += pause
        try:
            if await asyncio.to_thread(parts.stow.close_settled):
                parts.supervisor.wake.set()
            if since >= SWEEP_S:
                since = 0.0
                await asyncio.to_thread(parts.sweep)
        except Busy:
            log.warning("the database cannot be used just now")
        except OSError as error:
            log.error("an expired study could not be removed: %s", type(error).__name__)


async def _say_invalid(request: Request, error: Any) -> JSONResponse:
    """One line for the first thing that is wrong with a request; never the value itself."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")[:80] or "request"
    text = "".join(letter for letter in f"{place}: {first['msg']}" if letter.isprintable() and letter not in "<>")
    return JSONResponse({"detail": f"{text[:300]}; see /openapi.json"}, 422)


async def _say_http(request: Request, error: Any) -> JSONResponse:
    """One line for what the framework refuses."""
    words = {
        404: "path: there is nothing here; see /openapi.json",
        405: "method: is not served here; see /openapi.json",
    }
    detail = words.get(error.status_code, f"request: {error.detail}; see /openapi.json")
    return JSONResponse({"detail": detail}, error.status_code, headers=error.headers)
