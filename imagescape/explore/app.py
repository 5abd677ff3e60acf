"""The explorer as an ASGI application."""

from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from imagescape.explore.answers import Refused, problem
from imagescape.explore.explorer import Explorer
from imagescape.explore.finding import Finder
from imagescape.explore.guard import Guard
from imagescape.explore.page import MEDIA_TYPES, page_files
from imagescape.explore.routes import acting, reading, searching
from imagescape.explore.routes.acting import Selection
from imagescape.explore.routes.call import Turns

_CODES = {404: "not_found", 405: "method"}


def make_app(
    explorer: Explorer,
    *,
    host: str = "127.0.0.1",
    token: str | None = None,
    names: Sequence[str] = (),
    in_notebook: bool = False,
    selection: Selection | None = None,
    page: dict[str, Path] | None = None,
) -> Guard:
    """The application: the routes of docs/explorer.md behind a `Guard`.

    Args:
        explorer: Of the collection.
        host: The address that the server binds.
        token: What must be known; None: nothing, for a server that only this machine reaches.
        names: Further names by which the server is reached.
        in_notebook: Whether a local notebook may show the page in a frame.
        selection: Where the page's selection goes.
        page: The files of the page by address; None: the built ones.

    Raises:
        InputError: the page is not built.
    """
    files = page_files() if page is None else page
    routes = [
        *reading.routes(),
        *searching.routes(Finder(explorer)),
        *acting.routes(selection or Selection()),
        *_page_routes(files),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _not_there, Exception: _bug})  # type: ignore[dict-item]
    app.router.redirect_slashes = False
    app.state.explorer, app.state.turns = explorer, Turns.fresh()
    return Guard(app, host=host, token=token, names=names, in_notebook=in_notebook)


def _page_routes(files: dict[str, Path]) -> list[BaseRoute]:
    """One address a file: no path that comes with a request is ever looked for on disk."""

    def file_at(path: Path) -> Route:
        address = next(name for name, here in files.items() if here == path)

        async def serve(request: Request) -> Response:
            # Files with a hash in their name never change.
            lasting = "public, max-age=31536000, immutable" if address.startswith("assets/") else "no-cache"
            return FileResponse(path, media_type=MEDIA_TYPES[path.suffix], headers={"Cache-Control": lasting})

        return Route("/" if address == "index.html" else f"/{address}", serve, methods=["GET"])

    return [file_at(path) for path in files.values()]


async def _not_there(request: Request, error: HTTPException) -> Response:
    return problem(Refused(error.status_code, _CODES.get(error.status_code, "input"), error.detail))


async def _bug(request: Request, error: Exception) -> Response:
    return problem(error)
