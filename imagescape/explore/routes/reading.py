"""What a page reads: the order, maps, columns, pictures, names, tiles."""

import json

import numpy as np
import pyarrow as pa
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute

from imagescape.errors import InputError
from imagescape.explore import about, labels, pictures
from imagescape.explore.about import MOST_THUMBNAILS
from imagescape.explore.answers import arrow, attachment
from imagescape.explore.columns import tag_counts
from imagescape.explore.explorer import Missing
from imagescape.explore.order import Order
from imagescape.explore.routes.call import Call, get, send

_FOR_GOOD = "private, max-age=31536000, immutable"  # a picture never changes under its id


def routes() -> list[BaseRoute]:
    """The addresses."""
    return [
        get("/api/about", lambda call: about.about(call.explorer)),
        get("/api/state", lambda call: about.state(call.explorer)),
        get("/api/ids", _ids),
        get("/api/map/{name}", _map),
        get("/api/column/{name:path}", _column),
        get("/api/summary/{name:path}", _summary),
        get("/api/thumbnails", _thumbnails),
        send("/api/thumbnails", _thumbnails),
        get("/api/names", _names),
        send("/api/names", _names),
        get("/api/image/{id}", _image),
        get("/api/row/{id}", lambda call: about.image(call.explorer, call.order(), call.path("id"))),
        get("/api/labels/{map}/{column:path}", _labels),
        get("/api/tags", lambda call: {"tags": tag_counts(call.explorer.tags())}),
        get("/api/tiles/{map}", _tiles),
        get("/api/tiles/{map}/{z}/{x}/{y}", _tile),
        get("/api/density/{map}", _density),
    ]


def _ids(call: Call) -> Response:
    order = call.order()
    return call.unless_known(order.token, lambda: arrow(pa.table({"id": order.numbers.view(np.uint64)})))


def _map(call: Call) -> Response:
    order, name = call.order(), call.path("name")
    coords = call.explorer.coords(order, name)
    tag = f"{order.token}-{call.explorer.map_written(name)}"
    return call.unless_known(tag, lambda: arrow(pa.table({"x": coords[:, 0], "y": coords[:, 1]})))


def _column(call: Call) -> Response:
    order, name = call.order(), call.path("name")
    tag = f"{order.token}-{call.explorer.written(name)}"
    return call.unless_known(tag, lambda: arrow(call.explorer.column(order, name).table()))


def _summary(call: Call) -> Response:
    column = call.explorer.column(call.order(), call.path("name"))
    return Response(json.dumps(column.about), media_type="application/json")


def _thumbnails(call: Call) -> Response:
    content = pictures.thumbnails(call.explorer, call.ids(MOST_THUMBNAILS))
    return Response(content, media_type="application/octet-stream", headers={"Cache-Control": _FOR_GOOD})


def _names(call: Call) -> dict:
    return {"names": pictures.names(call.explorer, call.ids(MOST_THUMBNAILS))}


def _image(call: Call) -> Response:
    found = pictures.picture(call.explorer, call.path("id"), original=call.flag("original"))
    if call.flag("original"):
        return attachment(found.name, "application/octet-stream", found.chunks, found.length_bytes)
    # By itself, as in a tab of its own, it is in a box without scripts or origin.
    headers = {"Content-Length": str(found.length_bytes), "Content-Security-Policy": "default-src 'none'; sandbox"}
    headers["Cache-Control"] = "private, max-age=3600"
    return StreamingResponse(found.chunks, media_type=found.media_type, headers=headers)


def _labels(call: Call) -> dict:
    order, map_name, name = call.order(), call.path("map"), call.path("column")
    column = call.explorer.column(order, name)
    if column.kind != "classes":
        raise InputError(f"names on a map are those of classes, and '{name}' holds {column.kind}")
    key = ("labels", map_name, name, order.token, call.explorer.map_written(map_name), call.explorer.written(name))
    found = call.explorer.keep(
        key, lambda: labels.labels_of(column, call.explorer.coords(order, map_name)), lambda many: 300 * len(many)
    )
    return {"labels": labels.as_dicts(found)}


def _tiles(call: Call) -> dict:
    tiles = call.explorer.tiles(call.order(), call.path("map"))
    about_them = {"x0": tiles.x0, "y0": tiles.y0, "size": tiles.size, "depth": tiles.depth, "capacity": tiles.capacity}
    return about_them | {"tiles": tiles.index.tolist()}


def _tile(call: Call) -> Response:
    order, name = call.order(), call.path("map")
    try:
        z, x, y = (int(call.path(part)) for part in "zxy")
    except ValueError as error:
        raise Missing("a tile is three whole numbers, z, x and y") from error
    rows = call.explorer.tiles(order, name).tile(z, x, y)
    if rows is None:
        raise Missing(f"there is no tile {z}/{x}/{y}")
    coords = call.explorer.coords(order, name)[rows]
    columns = {
        "row": rows,
        "id": order.numbers[rows].view(np.uint64),
        "x": coords[:, 0].copy(),
        "y": coords[:, 1].copy(),
    }
    wanted = [one for one in call.text("columns", "").split(",") if one]
    written = [call.explorer.map_written(name), *(call.explorer.written(one) for one in wanted)]
    return call.unless_known(
        "-".join([order.token, *written]), lambda: arrow(pa.table(columns | _values(call, order, rows, wanted)))
    )


def _values(call: Call, order: Order, rows: np.ndarray, wanted: list[str]) -> dict[str, np.ndarray]:
    found = {}
    for name in wanted:
        column = call.explorer.column(order, name)
        if not isinstance(column.values, np.ndarray):
            raise InputError(f"tiles hold classes and amounts, and '{name}' holds {column.kind}")
        found[name] = column.values[rows]
    return found


def _density(call: Call) -> Response:
    order, name = call.order(), call.path("map")
    bins = call.integer("bins", 512, least=16, most=2048)
    tiles, coords = call.explorer.tiles(order, name), call.explorer.coords(order, name)
    return arrow(pa.table({"count": tiles.density(coords, bins)}))
