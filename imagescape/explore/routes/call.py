"""One request: its parameters checked, its body bounded, its answer worked out on a thread."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import anyio
import numpy as np
from anyio import CapacityLimiter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from imagescape.errors import InputError
from imagescape.explore.about import MOST_IDS
from imagescape.explore.answers import Refused, body_of, claimed_bytes, problem
from imagescape.explore.explorer import Explorer, numbers_checked
from imagescape.explore.order import Order

JSON_BYTES = 48 << 20  # a million ids and some

_SMALL_BYTES = 1 << 20  # bodies below need no turn
_AT_ONCE = 4  # large bodies held, and searches run, at a time; others wait for their turn
_WAIT_SECONDS = 30.0


@dataclass
class Turns:
    """Who may hold a large body, and who may search, at a time."""

    bodies: CapacityLimiter
    heavy: CapacityLimiter

    @classmethod
    def fresh(cls) -> "Turns":
        return cls(CapacityLimiter(_AT_ONCE), CapacityLimiter(_AT_ONCE))


class Call:
    """A request for a handler.

    Attributes:
        explorer: Of the collection.
        body: What came with it.
    """

    def __init__(self, request: Request, explorer: Explorer, body: bytes) -> None:
        self._request, self.explorer, self.body = request, explorer, body

    def path(self, name: str) -> str:
        """A part of the address."""
        return str(self._request.path_params[name])

    def order(self) -> Order:
        """The order that the page has; InputError where it says none."""
        return self.explorer.orders.get(self.text("order"))

    def text(self, name: str, default: str | None = None) -> str:
        """A parameter; InputError where it is missing and there is no default."""
        value = self._request.query_params.get(name, default)
        if value is None:
            raise InputError(f"the parameter '{name}' is missing")
        return value

    def integer(self, name: str, default: int | None, *, least: int = 0, most: int) -> int:
        """A parameter that is a whole number; InputError where it is none or out of bounds."""
        text = self.text(name, None if default is None else str(default))
        if not text.isdecimal() or not text.isascii() or len(text) > 12 or not least <= int(text) <= most:
            raise InputError(f"'{name}' is a whole number from {least} to {most}, got {text[:40]!r}")
        return int(text)

    def flag(self, name: str) -> bool:
        """Whether a parameter is 1."""
        return self.text(name, "0") == "1"

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; InputError where it is none."""
        return self._json

    @cached_property
    def _json(self) -> dict[str, Any]:
        try:
            content = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise InputError("the body must be a JSON object") from error
        if not isinstance(content, dict):
            raise InputError(f"the body must be a JSON object, got {type(content).__name__}")
        return content

    def ids(self, most: int = MOST_IDS) -> list[str]:
        """The ids in the query, `ids=a,b,c`, or in the body, `{"ids": […]}`; InputError where there are too many."""
        given = self.json().get("ids") if self.body else [one for one in self.text("ids").split(",") if one]
        if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
            raise InputError("'ids' must be a list of image_ids")
        if len(given) > most:
            raise InputError(f"at most {most:,} ids are taken at a time, got {len(given):,}")
        return given

    def numbers(self, most: int = MOST_IDS) -> np.ndarray:
        """The ids as numbers, (m,) int64."""
        ids = self.ids(most)
        return numbers_checked(ids) if ids else np.empty(0, np.int64)

    def unless_known(self, tag: str, make: Callable[[], Response]) -> Response:
        """An answer that a browser may have already, which it then says by `If-None-Match`."""
        etag = f'"{tag}"'
        if etag in self._request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers={"ETag": etag})
        answer = make()
        answer.headers["ETag"] = etag
        return answer


Handler = Callable[[Call], Response | dict[str, Any]]


def get(path: str, handler: Handler, *, heavy: bool = False) -> Route:
    """An address that is read."""
    return Route(path, _endpoint(handler, heavy=heavy), methods=["GET"])


def send(
    path: str, handler: Handler, *, method: str = "POST", limit_bytes: int = JSON_BYTES, is_json: bool = True,
    heavy: bool = False,
) -> Route:  # fmt: skip
    """An address that something is sent to: JSON, or the bytes of an image."""
    endpoint = _endpoint(handler, heavy=heavy, limit_bytes=limit_bytes, is_json=is_json)
    return Route(path, endpoint, methods=[method])


def _endpoint(handler: Handler, *, heavy: bool, limit_bytes: int = 0, is_json: bool = False) -> Any:
    async def endpoint(request: Request) -> Response:
        explorer, turns = request.app.state.explorer, request.app.state.turns
        try:
            if not limit_bytes:
                return await _answered(handler, request, explorer, b"", turns.heavy if heavy else None)
            _check_kind(request, is_json)
            claimed = claimed_bytes(request, limit_bytes)
            if claimed is not None and claimed <= _SMALL_BYTES:
                body = await body_of(request, claimed)
                return await _answered(handler, request, explorer, body, turns.heavy if heavy else None)
            return await _in_turn(handler, request, explorer, limit_bytes, turns, heavy)
        except Exception as error:
            return problem(error)

    return endpoint


async def _in_turn(
    handler: Handler, request: Request, explorer: Explorer, limit_bytes: int, turns: Turns, heavy: bool
) -> Response:
    """With a body that is held only while it is this request's turn."""
    try:
        with anyio.fail_after(_WAIT_SECONDS):
            await turns.bodies.acquire_on_behalf_of(request)
    except TimeoutError as error:
        raise Refused(429, "busy", "other uploads are being worked on; try again") from error
    try:
        body = await body_of(request, limit_bytes)
        return await _answered(handler, request, explorer, body, turns.heavy if heavy else None)
    finally:
        turns.bodies.release_on_behalf_of(request)


async def _answered(
    handler: Handler, request: Request, explorer: Explorer, body: bytes, limiter: CapacityLimiter | None
) -> Response:
    return await anyio.to_thread.run_sync(partial(_work, handler, Call(request, explorer, body)), limiter=limiter)


def _work(handler: Handler, call: Call) -> Response:
    try:
        answer = handler(call)
        response = JSONResponse(answer) if isinstance(answer, dict) else answer
    except Exception as error:
        response = problem(error)
    order, version = call.explorer.orders.now()
    response.headers["Imagescape-Version"], response.headers["Imagescape-Order"] = str(version), order.token
    return response


def _check_kind(request: Request, is_json: bool) -> None:
    """Forms of other sites can send three kinds of content without asking first; none of them is taken."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if is_json and kind != "application/json":
        raise Refused(415, "not_an_image", "the body must be application/json")
    if kind in ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain"):
        raise Refused(415, "not_an_image", "the body must be the bytes of one image, of its own content type")
