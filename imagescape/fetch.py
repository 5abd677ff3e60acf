"""Files from the web: fetched once, resumed when cut, and not taken for whole before they are."""

import hashlib
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from imagescape.errors import ImagescapeError, InputError
from imagescape.runtime import track

_CHUNK_BYTES = 1 << 18
_MEGABYTE = 10**6
_TIMEOUT_SECONDS = 30.0


class DownloadError(ImagescapeError):
    """A file could not be fetched, or what was fetched is not what was published."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One published file."""

    name: str
    urls: tuple[str, ...]  # the same file on several servers, tried in turn
    checksum: str | None = None  # "md5:..." or "sha256:..."
    size_bytes: int | None = None


def default_cache_dir() -> Path:
    """Where downloads are kept: $IMAGESCAPE_CACHE, else ~/.cache/imagescape."""
    named = os.environ.get("IMAGESCAPE_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "imagescape"


def cache_folder(name: str, cache_dir: str | Path | None = None) -> Path:
    """The folder `name` in `cache_dir` (`default_cache_dir()` when None), made if it is not there.

    Raises:
        InputError: it cannot be made.
    """
    folder = (Path(cache_dir) if cache_dir is not None else default_cache_dir()) / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot keep downloads in {folder} ({error}); set IMAGESCAPE_CACHE to another place"
        ) from error
    return folder


def fetch(
    file: RemoteFile,
    folder: Path,
    *,
    check: Callable[[Path], object] | None = None,
    attempts: int = 5,
    wait_seconds: float = 1.0,
) -> Path:
    """Bring a file into `folder`, unless it is there already.

    It is written beside its place as `<name>.part` and moved there once size, checksum and `check` are right, so a
    file under its own name is always whole. A cut download goes on from where it stopped, now or on the next call.

    Args:
        file: What, and from where.
        folder: Where to put it.
        check: Called with the path of the complete file; raises an `ImagescapeError` if it is not what it should be.
        attempts: Tries a server in a row without a single new byte before giving up on it.
        wait_seconds: Pause before the second try in a row; doubled before each further one.

    Raises:
        DownloadError: no server gave the file, or it is another than was published.
    """
    target, part = folder / file.name, folder / f"{file.name}.part"
    if target.is_file():
        return target
    failures = []
    for url in file.urls:
        try:
            _download(url, part, file, attempts, wait_seconds)
            break
        except DownloadError as error:
            failures.append(f"{url} ({error})")
    else:
        raise DownloadError(
            f"cannot download {file.name} from {', nor from '.join(failures)}; run the same command again to go on,"
            f" or fetch it yourself and give its path instead of the name"
        )
    if wrong := _what_is_wrong(part, file, check):
        rejected = folder / f"{file.name}.rejected"
        os.replace(part, rejected)  # kept to look at, and out of the way of the next try
        raise DownloadError(
            f"{wrong}: it was damaged on the way or changed by its publisher. It is kept as {rejected}; run again to"
            " download it anew, or give that path instead of the name if you trust it"
        )
    os.replace(part, target)
    return target


def _what_is_wrong(part: Path, file: RemoteFile, check: Callable[[Path], object] | None) -> str:
    size = _size(part)
    if file.size_bytes is not None and size != file.size_bytes:
        return f"{file.name} must have {file.size_bytes} bytes, got {size}"
    if file.checksum is not None:
        algorithm, _, needed = file.checksum.partition(":")
        with part.open("rb") as opened:
            got = hashlib.file_digest(opened, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
        if got != needed:
            return f"{file.name} must have the published {algorithm} {needed}, got {got}"
    try:
        if check is not None:
            check(part)
    except ImagescapeError as error:
        return f"{file.name} is not what it should be ({error})"
    return ""


def _download(url: str, part: Path, file: RemoteFile, attempts: int, wait_seconds: float) -> None:
    """Bring `part` to its full length, going on from where it ends; a cut connection is taken up again.

    Raises:
        DownloadError: `attempts` tries in a row brought nothing.
    """
    failed = 0
    while True:
        had = _size(part)
        try:
            if _download_rest(url, part, file):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"HTTP {error.code} {error.reason}"
            if error.code < 500 and error.code not in (408, 429):
                raise DownloadError(reason) from error  # it will not be there next time either
        except urllib.error.URLError as error:
            reason = str(error.reason)
        except (OSError, HTTPException) as error:
            reason = str(error) or type(error).__name__
        failed = 1 if _size(part) > had else failed + 1
        if failed >= attempts:
            raise DownloadError(reason)
        time.sleep(wait_seconds * 2 ** (failed - 1))


def _download_rest(url: str, part: Path, file: RemoteFile) -> bool:
    """One request for what `part` lacks. Whether `part` is complete now."""
    had = _size(part)
    if file.size_bytes is not None and had == file.size_bytes:
        return True
    request = urllib.request.Request(url, headers={"User-Agent": "imagescape"})
    if had:
        request.add_header("Range", f"bytes={had}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if had and error.code == 416:  # nothing lies behind what is here: it was complete, or is not this file
            error.close()
            return True
        raise
    with response:
        begin = had if response.status == 206 else 0  # 200: this server cannot resume and sends it all
        total = _total_bytes(response, begin)
        if total is not None and file.size_bytes is not None and total != file.size_bytes:
            raise DownloadError(f"it has {total} bytes there, {file.size_bytes} were expected")
        total = total or file.size_bytes
        megabytes = None if total is None else total // _MEGABYTE
        shown = track(f"downloading {file.name}", megabytes, unit="MB", done=begin // _MEGABYTE)
        with part.open("r+b" if begin else "wb") as out, shown as progress:
            done = out.seek(begin)
            while data := response.read(_CHUNK_BYTES):
                done += out.write(data)
                progress.advance(done // _MEGABYTE - (done - len(data)) // _MEGABYTE)
    return total is None or _size(part) >= total


def _total_bytes(response: HTTPResponse, begin: int) -> int | None:
    length = response.headers.get("Content-Length")
    return None if length is None else begin + int(length)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
