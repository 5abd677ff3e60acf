"""The built page: where it is, and what its files are."""

from pathlib import Path

from imagescape.errors import InputError

BUILT = Path(__file__).parent / "web" / "dist"

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain; charset=utf-8",
}
_MODE = '<meta name="imagescape" content="server"'


def page_files(folder: Path | None = None) -> dict[str, Path]:
    """The files of the page by their address, such as "index.html", "assets/index.js"; None for where they are built.

    Raises:
        InputError: the page was not built; the message says how to build it.
    """
    folder = folder or BUILT
    if not (folder / "index.html").is_file():
        raise InputError(
            "the page of the explorer is not built: install Node.js 20.19 or newer with npm and run `make setup` in a "
            "checkout of imagescape, or install a wheel, which has it"
        )
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix in MEDIA_TYPES)
    return {path.relative_to(folder).as_posix(): path for path in files}


def static_index(index: Path) -> str:
    """The page's first file for a page of files.

    Raises:
        InputError: it does not say which it is for.
    """
    html = index.read_text(encoding="utf-8")
    if html.count(_MODE) != 1:
        raise InputError(f"{index} does not say whether it is for a server; build the page again with `make setup`")
    return html.replace(_MODE, _MODE.replace("server", "static"))
