"""What a page looks for, and where it puts what is new."""

from collections.abc import Callable
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from imagescape.errors import InputError
from imagescape.explore import review
from imagescape.explore.about import MOST_NEIGHBORS, UPLOAD_BYTES
from imagescape.explore.answers import arrow
from imagescape.explore.finding import MOST_HITS, CannotDo, Finder, rows_table
from imagescape.explore.routes.call import Call, get, send

_MOST_ROWS = 100_000_000


def routes(finder: Finder) -> list[BaseRoute]:
    """The addresses, answered by `finder`."""

    def where(call: Call) -> Response:
        return arrow(rows_table(finder.where(call.order(), call.text("q"))))

    def named(call: Call) -> Response:
        limit = call.integer("limit", 100_000, least=1, most=_MOST_ROWS)
        return arrow(rows_table(finder.named(call.order(), call.text("q"), limit)))

    def by_text(call: Call) -> dict[str, Any]:
        return finder.by_text(call.order(), call.text("q"), call.text("features"), _count(call, 100))

    def by_image(call: Call) -> dict[str, Any]:
        return finder.by_picture(call.order(), call.body, call.text("features"), _count(call, 100))

    def place(call: Call) -> dict[str, Any]:
        return finder.place(call.order(), call.body, call.path("map"), call.integer("k", 12, most=MOST_NEIGHBORS))

    def neighbors(call: Call) -> dict[str, Any]:
        return _neighbors(call, finder)

    return [
        get("/api/find/where", where),
        get("/api/find/name", named),
        get("/api/find/text", by_text, heavy=True),
        send("/api/find/image", by_image, limit_bytes=UPLOAD_BYTES, is_json=False, heavy=True),
        send("/api/place/{map}", place, limit_bytes=UPLOAD_BYTES, is_json=False, heavy=True),
        get("/api/neighbors/{id}", neighbors, heavy=True),
        get("/api/queues", _queues),
        get("/api/queues/{name}", _queue),
    ]


def _count(call: Call, default: int) -> int:
    return call.integer("k", default, least=1, most=MOST_HITS)


def _neighbors(call: Call, finder: Finder) -> dict[str, Any]:
    order, image_id = call.order(), call.path("id")
    call.explorer.row(image_id, [])
    k = call.integer("k", 12, least=1, most=MOST_NEIGHBORS)
    features, map_name = call.text("features", ""), call.text("map", "")
    if not features and not map_name:
        raise InputError("say 'features', 'map' or both: in which the neighbours are wanted")

    def tried(name: str, find: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        if not name:
            return None
        try:
            return {"name": name, **find()}
        except CannotDo as error:
            return {"name": name, "hits": [], "reason": str(error)}

    def near_in_features() -> dict[str, Any]:
        metric, hits = finder.neighbors(order, image_id, features, k)
        return {"metric": metric, "hits": hits}

    return {
        "features": tried(features, near_in_features),
        "map": tried(map_name, lambda: {"hits": finder.beside(order, image_id, map_name, k)}),
    }


def _queues(call: Call) -> dict[str, Any]:
    order, _ = call.explorer.orders.now()
    return {"queues": [review.queue(call.explorer, order, name).about() for name in review.queue_names(call.explorer)]}


def _queue(call: Call) -> dict[str, Any]:
    order = call.order()
    return review.items(
        call.explorer,
        order,
        review.queue(call.explorer, order, call.path("name")),
        call.integer("start", 0, most=_MOST_ROWS),
        call.integer("count", 50, least=1, most=200),
        only_open=call.flag("open"),
        label=call.text("label", "") or None,
    )
