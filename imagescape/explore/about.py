"""What a page is told of a collection before anything else, and of single images."""

from typing import Any

import numpy as np
import pyarrow as pa

from imagescape import __version__
from imagescape.collection.clusterings import clustering_names, part_column
from imagescape.collection.results import describe_features
from imagescape.collection.vectors import numbers_of
from imagescape.explore.columns import kind_by_type, plain, role_of, shown_columns, tag_counts
from imagescape.explore.explorer import TILED_ABOVE, Explorer
from imagescape.explore.order import Order
from imagescape.explore.pictures import name_of
from imagescape.pipeline.annotations import MARK, NOTE, TAGS
from imagescape.pipeline.feature_maps import features_of_map
from imagescape.pipeline.journal import Act
from imagescape.pipeline.queries import image_problem, place_problem, text_problem

UPLOAD_BYTES = 64 << 20
MOST_IDS = 1_000_000
MOST_THUMBNAILS = 512
MOST_NEIGHBORS = 200
LIMITS = {
    "upload_bytes": UPLOAD_BYTES,
    "ids": MOST_IDS,
    "thumbnails": MOST_THUMBNAILS,
    "neighbors": MOST_NEIGHBORS,
    "text": 2000,
}

_IMAGE = ["uri", "width", "height", "format", "status", "bytes", "reason"]


def about(explorer: Explorer) -> dict[str, Any]:
    """The collection as `GET api/about` tells it; see docs/explorer.md."""
    scape, (order, version) = explorer.scape, explorer.orders.now()
    columns = [
        {
            "name": name,
            "kind": kind_by_type(scape, name) or explorer.column(order, name).kind,
            "type": str(scape.schema.field(name).type),
            "role": role_of(scape, name),
        }
        for name in shown_columns(scape)
    ]
    clusterings = [
        {"name": name, "column": part_column(name), "named": part_column(name, "name") in scape.columns}
        for name in clustering_names(scape)
    ]
    return {
        "imagescape": __version__,
        "name": scape.path.name.removesuffix(".scape"),
        "order": order.token,
        "rows": len(order),
        "usable": scape.count("status = 'ok'"),
        "version": version,
        "read_only": explorer.is_read_only,
        "tiled": len(order) > TILED_ABOVE,
        "maps": [_map(explorer, order, name) for name in explorer.maps()],
        "columns": columns,
        "clusterings": clusterings,
        "features": _features(explorer),
        "tags": tag_counts(explorer.tags()),
        **undo_state(explorer),
        "limits": LIMITS,
    }


def state(explorer: Explorer) -> dict[str, Any]:
    """What changes while a page is open."""
    order, version = explorer.orders.now()
    return {"version": version, "order": order.token, "rows": len(order), **undo_state(explorer)}


def undo_state(explorer: Explorer) -> dict[str, Any]:
    """What `undo` and `redo` would do."""
    annotations = explorer.annotations
    return {"undo": _said(annotations.last()), "redo": _said(annotations.last_undone())}


def image(explorer: Explorer, order: Order, image_id: str) -> dict[str, Any]:
    """All that is known of one image."""
    columns, shown = image_columns(explorer)
    return images(order, explorer.row(image_id, columns), shown)[0]


def images(order: Order, table: pa.Table, shown: list[str]) -> list[dict[str, Any]]:
    """What is known of the images of a table of rows, with the columns of `_IMAGE` and `shown`."""
    rows = order.rows_of(numbers_of(table["image_id"])).tolist()
    return [
        {
            "id": one["image_id"],
            "row": row if row >= 0 else None,
            "name": name_of(one["uri"]),
            **{key: one[key] for key in _IMAGE},
            "tags": one.get(TAGS) or [],
            "mark": one.get(MARK),
            "note": one.get(NOTE) or "",
            "values": [[name, plain(one[name])] for name in shown],
        }
        for one, row in zip(table.to_pylist(), rows, strict=True)
    ]


def image_columns(explorer: Explorer) -> tuple[list[str], list[str]]:
    """The columns to read for `images`, and those of them that are shown."""
    shown = shown_columns(explorer.scape)
    return list(dict.fromkeys([*_IMAGE, *shown])), shown


def _map(explorer: Explorer, order: Order, name: str) -> dict[str, Any]:
    coords = explorer.coords(order, name)
    here = coords[np.isfinite(coords[:, 0])]
    bounds = None
    if len(here):
        bounds = [float(one) for one in (*here.min(axis=0), *here.max(axis=0))]
    problem = place_problem(explorer.scape, name)
    return {
        "name": name,
        "count": len(here),
        "features": features_of_map(explorer.scape, name),
        "places": not problem,
        "places_not": problem,
        "bounds": bounds,
    }


def _features(explorer: Explorer) -> list[dict[str, Any]]:
    told = []
    for one in describe_features(explorer.scape):
        name = one["name"]
        by_image, by_text = image_problem(explorer.scape, name), text_problem(explorer.scape, name)
        told.append(
            {
                **{key: one[key] for key in ("name", "encoder", "dimensions")},
                "count": explorer.scape.count(f"`features_{name}` IS NOT NULL"),
                "by_image": not by_image,
                "by_image_not": by_image,
                "by_text": not by_text,
                "by_text_not": by_text,
            }
        )
    return told


def _said(act: Act | None) -> dict[str, Any] | None:
    return None if act is None else {"number": act.number, "text": act.text}
