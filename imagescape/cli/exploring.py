"""The verb that opens a collection in a browser: `explore`."""

from typing import Annotated

import typer

from imagescape.cli.options import Device, Scape


def explore(
    scape: Scape,
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="Where to listen. [default: the first free from 8170]"),
    ] = None,
    host: Annotated[
        str,
        typer.Option("--host", help="Address to listen at; beyond this machine a token is needed, which is printed."),
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    token: Annotated[bool, typer.Option("--token", help="Ask for a token on this machine too.")] = False,
    names: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="A name by which a proxy reaches the server."),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Refuse every change.")] = False,
    engine: Annotated[
        str, typer.Option("--engine", help="Of searches: exact, a FAISS factory string, binary or lance.")
    ] = "exact",
    device: Device = None,
) -> None:
    """Walk through a collection in a browser: its maps, its images, what is like what; tag, mark, name, export.

    The address is printed; Ctrl-C ends it.

    Example: `imagescape explore photos.scape`

    Example: `imagescape explore photos.scape --host 0.0.0.0 --no-browser`
    """
    from imagescape.errors import require

    require("uvicorn", extra="explore")
    require("starlette", extra="explore")
    from imagescape.collection.store import Collection
    from imagescape.explore.server import Server

    server = Server(
        Collection.open(scape),
        host=host,
        port=port,
        token=token,
        names=names or (),
        read_only=read_only,
        engine=engine,
        device=device or "auto",
    )
    print(server.url, flush=True)
    server.run(open_browser=browser)
