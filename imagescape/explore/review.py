"""Queues of what an audit found, made of the columns that it left, to be decided image by image.

| queue | from the columns | items |
|---|---|---|
| `duplicates` | `duplicate_group`, with `duplicate_of`, `audit_keep` | the images of a group |
| `leak` | `leak`: the image_id of a copy in another split | an image and its copy |
| `label_doubt` | `is_label_doubt_issue`, `label_doubt_score`, `label_suggested` | an image whose label may be wrong |
| any other X | `is_X_issue`, `X_score` | an image: dark, blurry, an outlier, … |

Scores are from 0 to 1, lower is worse. An image is decided when it has a mark; a group when at most one of its images
has none.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imagescape.collection.results import is_class_column
from imagescape.collection.vectors import numbers_of
from imagescape.explore.columns import plain, shown_columns
from imagescape.explore.explorer import Explorer, Missing
from imagescape.explore.order import Order
from imagescape.explore.pictures import name_of
from imagescape.pipeline.annotations import MARK

QueueKind = Literal["groups", "images", "labels"]

GROUP, LEAK, DOUBT, SUGGESTED = "duplicate_group", "leak", "label_doubt", "label_suggested"

_LABELS = ("label_name", "label")
_ISSUE = re.compile(r"is_(\w+)_issue")
_TEXTS = {
    "duplicates": "Groups of images that are copies of each other, or nearly so.",
    "leak": "Images of which another split holds a copy.",
    "label_doubt": "Images whose label is not that of the images like them.",
    "outlier": "Images that are like no others.",
    "dark": "Images that are very dark.",
    "bright": "Images that are very bright.",
    "blurry": "Images without sharp detail.",
    "low_information": "Images with hardly anything on them.",
    "odd_size": "Images of a size far from that of the others.",
    "odd_aspect_ratio": "Images that are very wide or very tall.",
    "grayscale": "Images without colour.",
    "uniform_border": "Images with a border of one colour.",
    "blocky": "Images with the blocks of strong compression.",
}
_ABOUT = ["uri", "width", "height", "bytes"]


@dataclass(frozen=True)
class Queue:
    """Images to decide on, in items.

    Attributes:
        name, kind: See the module's head.
        column: That tells which images are in it.
        members: (m,) int64 rows of the order, item by item, the worst item first.
        starts: (items + 1,) int64 places of the items in `members`.
        scores: (m,) float64, NaN where there is none.
        decided: (items,) bool.
    """

    name: str
    kind: QueueKind
    column: str
    members: np.ndarray
    starts: np.ndarray
    scores: np.ndarray
    decided: np.ndarray

    def about(self) -> dict[str, Any]:
        """What a list of queues says of it."""
        called = self.name.replace("_", " ")
        return {
            "name": self.name,
            "title": called[:1].upper() + called[1:],
            "kind": self.kind,
            "column": self.column,
            "text": _TEXTS.get(self.name, f"Images with the issue '{called}'."),
            "count": len(self.decided),
            "open": int((~self.decided).sum()),
        }


def queue_names(explorer: Explorer) -> list[str]:
    """Which queues there are, by the columns of the table."""
    columns = explorer.scape.columns
    issues = [match[1] for one in columns if (match := _ISSUE.fullmatch(one))]
    doubts = DOUBT not in issues and f"{DOUBT}_score" in columns
    names = ["duplicates"] * (GROUP in columns) + [LEAK] * (LEAK in columns) + [DOUBT] * doubts + issues
    return names


def queue(explorer: Explorer, order: Order, name: str) -> Queue:
    """A queue in an order; Missing where there is none of that name."""
    if name not in queue_names(explorer):
        raise Missing(f"no queue is called '{name}'; there are: {', '.join(queue_names(explorer)) or 'none yet'}")
    columns = [one for one in (GROUP, LEAK, MARK, f"is_{name}_issue", f"{name}_score") if one in explorer.scape.columns]
    table = order.read(explorer.scape, columns)
    marked = table[MARK].is_valid().to_numpy() if MARK in columns else np.zeros(len(order), bool)
    if name == "duplicates":
        members, starts, column = *_groups(table[GROUP]), GROUP
        scores = np.full(len(members), np.nan)
    elif name == LEAK:
        members, starts, column = *_leaks(order, table[LEAK]), LEAK
        scores = np.full(len(members), np.nan)
    else:
        members, scores, column = _flagged(table, name)
        starts = np.arange(len(members) + 1)
    open_images = np.add.reduceat(~marked[members], starts[:-1]) if len(members) else np.empty(0, np.int64)
    kind: QueueKind = "groups" if name in ("duplicates", LEAK) else "labels" if name == DOUBT else "images"
    return Queue(name, kind, column, members, starts, scores, open_images <= (1 if kind == "groups" else 0))


def items(
    explorer: Explorer, order: Order, found: Queue, start: int, count: int, *, only_open: bool, label: str | None
) -> dict[str, Any]:
    """Some items of a queue as plain values, and how many there are in all.

    Args:
        explorer: Of the collection.
        order: That the queue is in.
        found: The queue.
        start, count: Which items.
        only_open: Leave out those that are decided.
        label: For label doubts the column of the labels; None: `label` where there is one.
    """
    wanted = np.flatnonzero(~found.decided) if only_open else np.arange(len(found.decided))
    page = wanted[start : start + count]
    places = [np.arange(found.starts[one], found.starts[one + 1]) for one in page.tolist()]
    label_column = _label_column(explorer, label) if found.kind == "labels" else None
    images = _images(explorer, order, found, np.concatenate(places) if places else np.empty(0, np.int64), label_column)
    parts, at = [], 0
    for one in places:
        item: dict[str, Any] = {"group": images[at]["group"], "images": images[at : at + len(one)]}
        parts.append(item | ({"label_column": label_column} if found.kind == "labels" else {}))
        at += len(one)
    for image in images:
        del image["group"]
    return {"count": len(wanted), "items": parts}


def _groups(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Rows group by group, the largest first, and where the groups begin; groups of one image are none."""
    groups = column.cast(pa.int64()).fill_null(-1).to_numpy()
    rows = np.flatnonzero(groups >= 0)
    names, inverse, counts = np.unique(groups[rows], return_inverse=True, return_counts=True)
    rows, inverse = rows[counts[inverse] > 1], inverse[counts[inverse] > 1]
    order = np.lexsort((rows, names[inverse], -counts[inverse]))
    sizes = -np.sort(-counts[counts > 1])
    return rows[order], np.r_[0, np.cumsum(sizes)]


def _leaks(order: Order, column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Each image and its copy in another split, a pair once."""
    own = np.flatnonzero(column.is_valid().to_numpy())
    copies = order.rows_of(numbers_of(column.drop_null()))
    pairs = np.column_stack([own, copies])[copies >= 0]
    pairs = pairs[np.unique(np.sort(pairs, axis=1), axis=0, return_index=True)[1]] if len(pairs) else pairs
    return pairs.reshape(-1), np.arange(0, 2 * len(pairs) + 1, 2)


def _flagged(table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Rows with an issue, lowest score first, and their scores."""
    issue, score = f"is_{name}_issue", f"{name}_score"
    scores = np.full(len(table), np.nan)
    if score in table.column_names:
        scores = table[score].cast(pa.float64()).to_numpy().astype(np.float64)
    if issue in table.column_names:
        rows = np.flatnonzero(pc.fill_null(table[issue], False).to_numpy())
    else:
        rows = np.flatnonzero(np.isfinite(scores))
    rows = rows[np.argsort(scores[rows], kind="stable")]  # NaN last
    return rows, scores[rows], issue if issue in table.column_names else score


def _label_column(explorer: Explorer, asked: str | None) -> str | None:
    """The column of the labels that are doubted: the one asked for, or as an audit chooses it."""
    scape = explorer.scape
    here = [one for one in shown_columns(scape) if is_class_column(scape, one)]
    if asked and asked not in here:
        raise Missing(f"no column of classes is called '{asked}'")
    if asked or SUGGESTED not in scape.columns:
        return asked
    kind = scape.schema.field(SUGGESTED).type
    return next((one for one in _LABELS if one in here and scape.schema.field(one).type.equals(kind)), None)


def _images(
    explorer: Explorer, order: Order, found: Queue, places: np.ndarray, label: str | None
) -> list[dict[str, Any]]:
    """What is to be known of images to decide on them."""
    rows = found.members[places]
    extra = [MARK, GROUP, LEAK, "duplicate_of", "audit_keep", f"{found.name}_reason", SUGGESTED, label]
    columns = [*_ABOUT, *(one for one in extra if one is not None and one in explorer.scape.columns)]
    table = explorer.take(np.unique(order.numbers[rows]), columns)
    by_id = {one["image_id"]: one for one in table.to_pylist()}
    images = []
    for row, image_id, score in zip(rows.tolist(), order.ids(rows), found.scores[places].tolist(), strict=True):
        about = by_id.get(image_id, {"uri": "gone"})
        image = {
            "row": row,
            "id": image_id,
            "name": name_of(about["uri"]),
            **{key: about.get(key) for key in ("width", "height", "bytes")},
            "score": plain(score),
            "mark": about.get(MARK),
            "reason": _reason(found, about),
            "suggested": _suggested(found, about),
            "group": about.get(GROUP) if found.name == "duplicates" else None,
        }
        if found.kind == "labels":
            image |= {"label": plain(about.get(label or "")), "suggested_label": plain(about.get(SUGGESTED))}
        images.append(image)
    return images


def _reason(found: Queue, about: dict[str, Any]) -> str:
    said = about.get(f"{found.name}_reason") or ""
    if found.name == "duplicates" and about.get("duplicate_of"):
        return said or "a copy of the one to keep"
    return said


def _suggested(found: Queue, about: dict[str, Any]) -> str | None:
    if found.name != "duplicates":
        return None
    if about.get("audit_keep") is not None:
        return "keep" if about["audit_keep"] else "remove"
    return None
