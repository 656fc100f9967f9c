"""The page and what it calls.

A page of another site, open in the same browser, can reach this server too. It gets nothing: the
name of the host is checked (a foreign name may resolve to 127.0.0.1), whatever changes something
must come from the page itself, and results are shown inside the page alone.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from svp_lightning import __version__
from svp_lightning.data.classes import display_name
from svp_lightning.errors import DataError, SvpError
from svp_lightning.report.style import class_colours
from svp_lightning.runtime.settings import first_problem
from svp_lightning.web.desk import KINDS, Asked, Desk
from svp_lightning.web.jobs import Job, counts_of, files_of
from svp_lightning.web.settings import ServeSettings
from svp_lightning.web.uploads import ARCHIVE, SUFFIXES

MAX_ASKED = 64 * 1024
"""Bytes of what the page asks for."""
LOOPBACK = ("127.0.0.1", "localhost")
STATIC = {"style.css": "text/css", "page.css": "text/css", "page.js": "text/javascript"}
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
POLICY = "Content-Security-Policy"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; frame-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
RESULT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "form-action 'none'; frame-ancestors 'self'"
)
"""Reports are one file each: their scripts are inside, and can call nobody."""


def application(
    settings: ServeSettings, predict: Sequence[str], outputs: Path, preferred: Path | None = None
) -> Starlette:
    """The web application.

    Args:
        settings: limits, and the host's name.
        predict: the command that classifies; what the page chooses is appended.
        outputs: folder of evaluated runs, whose classifiers are offered.
        preferred: a run whose classifier is offered first.
    """
    desk = Desk(settings, predict, outputs, preferred)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        with TemporaryDirectory(prefix="svp_lightning_") as folder:
            desk.folder = Path(folder)
            yield
            if desk.job is not None:
                await run_in_threadpool(desk.job.cancel)

    hosts = LOOPBACK if settings.host in LOOPBACK else (settings.host,)
    return Starlette(
        routes=[*_pages(desk), *_calls(desk)],
        lifespan=lifespan,
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
            Middleware(SameOrigin),
        ],
        exception_handlers={SvpError: _refused, ClientDisconnect: _refused},
    )


def _pages(desk: Desk) -> list[Route]:
    """What is shown."""

    def page(_: Request) -> Response:
        values = {
            "classifiers": list(desk.classifiers()),
            "kinds": KINDS,
            "suffixes": sorted({*SUFFIXES, ARCHIVE}),
            "limits": desk.settings,
        }
        return HTMLResponse(_rendered("page.html.j2", values), headers={POLICY: PAGE_POLICY})

    def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in STATIC:
            raise HTTPException(404)
        loader, environment = _environment()
        return Response(loader.get_source(environment, name)[0], media_type=STATIC[name])

    def result(request: Request) -> Response:
        folder, name = desk.results(request.path_params["job"]), request.path_params["name"]
        if folder is None or name not in files_of(folder):
            raise HTTPException(404)
        how = "inline" if name.endswith(".html") else "attachment"
        return FileResponse(
            folder / name,
            filename=name,
            content_disposition_type=how,
            headers={POLICY: RESULT_POLICY},
        )

    return [
        Route("/", page),
        Route("/static/{name}", static),
        Route("/results/{job}/{name}", result),
    ]


def _calls(desk: Desk) -> list[Route]:
    """What the page asks for."""

    def new_upload(_: Request) -> Response:
        return JSONResponse({"id": desk.new_upload().id})

    async def receive(request: Request) -> Response:
        upload = desk.upload(request.path_params["id"])
        await upload.receive(request.query_params.get("path", ""), request.stream())
        return JSONResponse({})

    async def start(request: Request) -> Response:
        try:
            asked = Asked.model_validate_json(await _short_body(request))
        except ValidationError as error:
            raise DataError(f"{first_problem(error)}.") from error
        await run_in_threadpool(desk.start, asked)
        return JSONResponse(_described(desk.job))

    def job(_: Request) -> Response:
        return JSONResponse(_described(desk.job))

    def cancel(_: Request) -> Response:
        if desk.job is not None:
            desk.job.cancel()
        return JSONResponse(_described(desk.job))

    return [
        Route("/uploads", new_upload, methods=["POST"]),
        Route("/uploads/{id}", receive, methods=["PUT"]),
        Route("/job", start, methods=["POST"]),
        Route("/job", job, methods=["GET"]),
        Route("/job", cancel, methods=["DELETE"]),
    ]


async def _short_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_ASKED:
            raise DataError(f"This is longer than {MAX_ASKED:,} bytes.", "Give shorter names.")
    return body


def _described(job: Job | None) -> dict[str, Any] | None:
    """A job for the page: its progress, and in the end its results."""
    if job is None:
        return None
    names = ("id", "title", "state", "stage", "percent", "error")
    found = {name: getattr(job, name) for name in names}
    if job.state in ("done", "failed"):
        found["html"] = _rendered("job.html.j2", _results(job))
    return found


def _results(job: Job) -> dict[str, Any]:
    values = {"job": job, "counts": [], "colours": {}, "pages": [], "tables": []}
    if job.state == "done" and job.folder is not None:
        counts, files = counts_of(job.folder), files_of(job.folder)
        values |= {"counts": counts, "colours": class_colours(list(counts[0].rows))}
        pages = [name for name in files if name.endswith(".html")]
        values["pages"] = sorted(pages, key=lambda name: "report" not in name)
        values["tables"] = [name for name in files if not name.endswith(".html")]
    return values


class SameOrigin:
    """Refuses what another page sends, and says to browsers who may see what this one answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        own = [f"{scheme}://{headers.get('host')}" for scheme in ("http", "https")]
        app = self._app
        if scope["method"] not in ("GET", "HEAD") and headers.get("origin") not in own:
            app = JSONResponse({"error": "This comes from another page."}, status_code=403)
        await app(scope, receive, answer)


def _refused(_: Request, error: Exception) -> Response:
    """One sentence for the page."""
    return JSONResponse({"error": str(error)}, status_code=400)


def _rendered(template: str, values: dict[str, Any]) -> str:
    return _environment()[1].get_template(template).render(values)


@cache
def _environment() -> tuple[ChoiceLoader, Environment]:
    """Own templates, and the style sheet of the reports."""
    loader = ChoiceLoader([PackageLoader(f"svp_lightning.{part}") for part in ("web", "report")])
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["display"] = display_name
    environment.globals["version"] = __version__
    return loader, environment
