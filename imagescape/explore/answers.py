"""Answers of the server: JSON, Arrow streams, files as they are made; and errors in words, never in tracebacks."""

import logging
from collections.abc import Iterator
from urllib.parse import quote

import anyio
import pyarrow as pa
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, StreamingResponse

from imagescape.errors import CheckpointError, ImagescapeError, InputError, MissingExtraError
from imagescape.explore.explorer import Missing
from imagescape.explore.finding import CannotDo, NotAnImage, TooManyPixels
from imagescape.explore.order import OrderUnknown
from imagescape.explore.pictures import Vanished
from imagescape.explore.sink import Sink
from imagescape.pipeline.annotations import ChangedSince

ARROW = "application/vnd.apache.arrow.stream"

_BATCH_ROWS = 65_536
_BODY_SECONDS = 120.0  # an upload takes no longer

_log = logging.getLogger(__name__)


class Refused(ImagescapeError):
    """A request that is not answered, and why.

    Args:
        status: Of HTTP.
        code: For programs.
        message: For people.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


# The first that fits tells; the particular before the general.
_STATUSES: tuple[tuple[type[ImagescapeError], int, str], ...] = (
    (Missing, 404, "not_found"),
    (OrderUnknown, 409, "order_unknown"),
    (ChangedSince, 409, "changed"),
    (CannotDo, 409, "cannot"),
    (Vanished, 410, "vanished"),
    (TooManyPixels, 413, "too_large"),
    (NotAnImage, 415, "not_an_image"),
    (InputError, 400, "input"),
    (CheckpointError, 503, "missing"),
    (MissingExtraError, 503, "missing"),
    (ImagescapeError, 503, "collection"),
)


def problem(error: BaseException) -> JSONResponse:
    """An error as an answer; what is not one of ours is logged and not told."""
    status, code, message = 500, "internal", "this is a bug; the server's own output tells more"
    if isinstance(error, Refused):
        status, code, message = error.status, error.code, str(error)
    elif isinstance(error, ImagescapeError):
        status, code = next((status, code) for kind, status, code in _STATUSES if isinstance(error, kind))
        message = " ".join(str(error).split())
    else:
        _log.error("a request failed", exc_info=error)
    headers = {"Connection": "close"} if status == 413 else {}
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


def arrow(table: pa.Table) -> StreamingResponse:
    """A table as an Arrow stream, a batch at a time."""
    return StreamingResponse(arrow_chunks(table), media_type=ARROW)


def arrow_chunks(table: pa.Table) -> Iterator[bytes]:
    """The bytes of an Arrow stream: the schema, batches of 65,536 rows, the end."""
    sink = Sink()
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), table.schema) as writer:
        yield sink.drain()
        for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
            writer.write_batch(batch)
            yield sink.drain()
    yield sink.drain()


def attachment(
    name: str, media_type: str, chunks: Iterator[bytes], length_bytes: int | None = None
) -> StreamingResponse:
    """A file to be saved under a name, whatever signs are in it."""
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
    if length_bytes is not None:
        headers["Content-Length"] = str(length_bytes)
    return StreamingResponse(chunks, media_type=media_type, headers=headers)


def claimed_bytes(request: Request, limit_bytes: int) -> int | None:
    """How long the body of a request says it is; None where it does not say.

    Raises:
        Refused: longer than `limit_bytes`; nothing was read.
    """
    claimed = request.headers.get("content-length")
    if claimed is not None and (not claimed.isdecimal() or int(claimed) > limit_bytes):
        raise _too_large(limit_bytes)
    return None if claimed is None else int(claimed)


async def body_of(request: Request, limit_bytes: int) -> bytes:
    """The body of a request, counted while it comes, whatever it claimed to be.

    Raises:
        Refused: it is larger than `limit_bytes`, or came too slowly.
    """
    parts, held = [], 0
    try:
        with anyio.fail_after(_BODY_SECONDS):
            async for part in request.stream():
                held += len(part)
                if held > limit_bytes:
                    raise _too_large(limit_bytes)
                parts.append(part)
    except TimeoutError as error:
        raise Refused(408, "too_slow", f"an upload must come within {_BODY_SECONDS:.0f} seconds") from error
    except ClientDisconnect as error:
        raise Refused(400, "input", "the upload broke off") from error
    return b"".join(parts)


def _too_large(limit_bytes: int) -> Refused:
    return Refused(413, "too_large", f"at most {limit_bytes:,} bytes are taken")
