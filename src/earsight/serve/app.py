"""The pages, and what they show: everything that the server answers."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import resources

import anyio
from anyio.to_thread import run_sync
from fastapi import FastAPI, Request, Response
from fastapi.telemetry import TelemetryConfig
from jinja2 import Environment
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse
from starlette.types import ASGIApp

from earsight.media.members import open_member, parse_member
from earsight.media.types import MediaError
from earsight.search.embedder import Embedder
from earsight.serve.asking import LABEL, WAYS, Asked, read_asked, ways
from earsight.serve.guard import Guard
from earsight.serve.library import Library
from earsight.serve.limits import RefusedError, UploadLimits
from earsight.serve.pictures import picture
from earsight.serve.query import Queries, Query, embed_upload, plan_for
from earsight.serve.shown import browse, card, clock, moments, nearest, of_item
from earsight.serve.upload import FIELD, Door
from earsight.templates import strict_templates
from earsight.version import __version__

READ = ["GET", "HEAD"]
ASSETS = {
    "htmx.min.js": "text/javascript",
    "serve.js": "text/javascript",
    "serve.css": "text/css",
    "icon.svg": "image/svg+xml",
}
_TELEMETRY: TelemetryConfig = {
    "auto_configure": False,
    "logs": False,
    "metrics": False,
    "operation_spans": False,
    "tracing": False,
}
"""What people look at is told to nobody, whatever the environment asks for."""

_DECODERS = 2
_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What the answers are made of.

    Attributes:
        library: the index.
        embedder: of the run that it was made with.
        limits: of uploads.
        door: through which these come.
        queries: those that came.
        templates: of the pages.
    """

    library: Library
    embedder: Embedder
    limits: UploadLimits
    door: Door
    templates: Environment
    queries: Queries = field(default_factory=Queries)

    def page(self, name: str, status: int = 200, **shown: object) -> HTMLResponse:
        """A page from its template."""
        return HTMLResponse(self.templates.get_template(name).render(**shown), status)


def build_app(
    library: Library, embedder: Embedder, limits: UploadLimits, hosts: Collection[str]
) -> ASGIApp:
    """The application.

    Args:
        library: the index to show.
        embedder: of the run that it was made with.
        limits: of uploads.
        hosts: names and ports by which it may be asked for, as browsers write them.
    """
    desk = Desk(
        library=library,
        embedder=embedder,
        limits=limits,
        door=Door(limits),
        templates=page_templates(library, limits),
    )
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, telemetry=_TELEMETRY)
    _add_pages(app, desk)
    _add_media(app, desk)
    _add_errors(app, desk)
    return Guard(app, hosts)


def _add_pages(app: FastAPI, desk: Desk) -> None:
    library = desk.library

    @app.api_route("/", methods=READ)
    def home(request: Request) -> Response:
        asked = read_asked(request.query_params, library, {"every", "count", "first"})
        return desk.page("home.html.j2", asked=asked, path="/", found=browse(library, asked))

    @app.api_route("/item/{number}", methods=READ)
    def item(request: Request, number: str) -> Response:
        at = _number(number)
        file = library.file_of(at)
        asked = read_asked(request.query_params, library, {"by", "every", "count"})
        query, path = of_item(library, at), f"/item/{at}"
        possible = ways(library.index, query.vectors)
        if asked.by not in possible:
            # The page that led here compared what this moment lacks, such as pictures of a sound.
            asked = replace(asked, by=None)
        return desk.page(
            "item.html.j2",
            asked=asked,
            path=path,
            card=card(library, at),
            moments=moments(library, at),
            ways=possible,
            found=nearest(library, query, asked, path, without=file.number),
        )

    @app.api_route("/search", methods=READ)
    def results(request: Request) -> Response:
        asked = read_asked(request.query_params, library, {"query", "by", "every", "count"})
        if not asked.query:
            raise RefusedError(400, "The address names no query; drop a file.")
        query = desk.queries.get(asked.query)
        return desk.page(
            "found.html.j2",
            asked=asked,
            path="/search",
            query=query,
            ways=ways(library.index, query.embedding.vectors),
            found=nearest(library, query.embedding, asked, "/search"),
        )

    @app.post("/search")
    async def search(request: Request) -> Response:
        async with desk.door.upload(request) as upload:
            plan = plan_for(desk.embedder, desk.limits)
            embedding = await run_sync(partial(embed_upload, upload.file, desk.embedder, plan))
        seconds = float(embedding.end[-1])
        query = Query(name=upload.name, seconds=seconds, embedding=embedding.mean())
        name = desk.queries.add(query)
        return RedirectResponse(Asked(query=name).address("/search"), 303)


def _add_media(app: FastAPI, desk: Desk) -> None:
    library = desk.library
    decoders = anyio.CapacityLimiter(_DECODERS)
    folder = resources.files("earsight.serve") / "static"
    assets = {name: (folder / name).read_bytes() for name in ASSETS}
    made_of = f"{library.index.about.model}-{library.index.about.corpus}"

    @app.api_route("/media/{number}", methods=READ)
    def media(request: Request, number: str) -> Response:
        read_asked(request.query_params, library, ())
        file = library.file(_number(number))
        headers = {"Cache-Control": "private, no-cache"}
        place = file.locate()
        member = parse_member(str(place))
        if member is None:
            return FileResponse(place, media_type=file.media_type, headers=headers)
        try:
            content = open_member(member).read()
        except MediaError as error:
            raise RefusedError(404, f"The file {error}.") from error
        return Response(content, media_type=file.media_type, headers=headers)

    @app.api_route("/picture/{number}", methods=READ)
    async def still(request: Request, number: str) -> Response:
        read_asked(request.query_params, library, ())
        at = _number(number)
        file = library.file_of(at)
        tag = f'"{made_of}-{at}"'
        headers = {"Cache-Control": "private, no-cache", "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        kind, content = await run_sync(partial(picture, library.index, file, at), limiter=decoders)
        return Response(content, media_type=kind, headers=headers)

    @app.api_route("/static/{name}", methods=READ)
    def static(name: str) -> Response:
        if name not in assets:
            raise RefusedError(404, "There is no such page.")
        return Response(
            assets[name], media_type=ASSETS[name], headers={"Cache-Control": "no-cache"}
        )


def _add_errors(app: FastAPI, desk: Desk) -> None:
    def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)
        return _fault(desk, error.status, str(error), error.headers)

    def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        words = {404: "There is no such page.", 405: "This page cannot be used like that."}
        return _fault(desk, error.status_code, words.get(error.status_code, error.detail))

    app.add_exception_handler(RefusedError, refused)
    app.add_exception_handler(HTTPException, unknown)


def _fault(
    desk: Desk, status: int, message: str, headers: dict[str, str] | None = None
) -> Response:
    answer = desk.page("fault.html.j2", status, message=message)
    # What is refused is said in the page that asked, whose address stays.
    answer.headers.update({"HX-Push-Url": "false", **(headers or {})})
    return answer


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise RefusedError(404, "Files and moments are asked for by their numbers.")
    return int(text)


def page_templates(library: Library, limits: UploadLimits) -> Environment:
    """The templates of the pages, with what they are given everywhere."""
    templates = strict_templates("earsight.serve")
    templates.filters["clock"] = clock
    templates.globals.update(
        field=FIELD,
        label_prefix=LABEL,
        library=library,
        limits=limits,
        version=__version__,
        words=WAYS,
    )
    return templates
