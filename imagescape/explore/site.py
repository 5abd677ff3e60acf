"""The explorer as files, for any server of files: the same page, read-only; see docs/explorer.md for the layout."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from imagescape.collection.locking import storage_errors
from imagescape.collection.results import feature_names
from imagescape.collection.vectors import numbers_of
from imagescape.errors import InputError
from imagescape.explore import labels
from imagescape.explore.about import about, image_columns, images
from imagescape.explore.answers import arrow_chunks
from imagescape.explore.explorer import Explorer
from imagescape.explore.order import Order
from imagescape.explore.page import page_files, static_index
from imagescape.explore.pictures import packed
from imagescape.explore.tiles import along_curve
from imagescape.runtime import Tracker, track

SHEET_THUMBNAILS = 128
ROWS_PER_FILE = 256
MOST_NEIGHBORS = 12

_ROWS_AT_ONCE = 16 * ROWS_PER_FILE


def write_site(explorer: Explorer, folder: Path, page: dict[str, Path] | None = None) -> int:
    """Write the page and all that it reads into a folder.

    Args:
        explorer: Of the collection.
        folder: New, or one that an earlier export made, which is replaced.
        page: The files of the page by address; None: the built ones.

    Returns:
        How many files were written.

    Raises:
        InputError: the page is not built, or the folder holds something else.
        CollectionError: the disk is full.
    """
    files = page_files() if page is None else page
    folder = folder.absolute()
    if folder.exists() and not (folder / "data" / "about.json").is_file() and any(folder.iterdir()):
        raise InputError(f"'{folder}' holds something else; name a new folder")
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            draft.chmod(0o755)
            _write_page(draft, files)
            _Site(explorer, draft / "data").write()
            count = sum(len(names) for _, _, names in os.walk(draft))
            if folder.exists():
                shutil.rmtree(folder)
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return count


def _write_page(folder: Path, files: dict[str, Path]) -> None:
    for address, path in files.items():
        target = folder / address
        target.parent.mkdir(parents=True, exist_ok=True)
        if address == "index.html":
            target.write_text(static_index(path), encoding="utf-8")
        else:
            shutil.copyfile(path, target)


class _Site:
    """The data of a page of files, in one order."""

    def __init__(self, explorer: Explorer, folder: Path) -> None:
        self._explorer, self._folder = explorer, folder
        self._order: Order = explorer.orders.now()[0]
        self._graphs = [
            name
            for name in feature_names(explorer.scape)
            if {f"neighbors_{name}", f"distances_{name}"} <= set(explorer.scape.columns)
        ]

    def write(self) -> None:
        told = about(self._explorer)
        if told["order"] != self._order.token:
            raise InputError(f"'{self._explorer.scape.path}' was changed while it was read; export it again")
        for part in ("maps", "columns", "labels", "sheets", "rows"):
            (self._folder / part).mkdir(parents=True)
        self._arrow("ids.arrow", pa.table({"id": self._order.numbers.view(np.uint64)}))
        for place, one in enumerate(told["maps"]):
            coords = self._explorer.coords(self._order, one["name"])
            self._arrow(f"maps/{place}.arrow", pa.table({"x": coords[:, 0], "y": coords[:, 1]}))
            one["places"], one["places_not"] = False, "this page is of files"
        for place, one in enumerate(told["columns"]):
            self._arrow(f"columns/{place}.arrow", self._explorer.column(self._order, one["name"]).table())
        for one in told["features"]:
            one |= {"by_image": False, "by_image_not": "this page is of files"}
            one |= {"by_text": False, "by_text_not": "this page is of files"}
        written = self._labels(told)
        with track("export", 2 * len(self._order)) as progress:
            sheets = self._sheets(told["maps"], progress)
            self._rows(progress)
        static = {
            "sheet_thumbnails": SHEET_THUMBNAILS,
            "rows_per_file": ROWS_PER_FILE,
            "sheets": sheets,
            "labels": written,
            "graphs": self._graphs,
        }
        told |= {"read_only": True, "tiled": False, "undo": None, "redo": None, "static": static}
        self._json("about.json", told)

    def _labels(self, told: dict[str, Any]) -> list[list[str]]:
        written = []
        for i, on_map in enumerate(told["maps"]):
            coords = self._explorer.coords(self._order, on_map["name"])
            for j, one in enumerate(told["columns"]):
                if one["role"] == "cluster":
                    column = self._explorer.column(self._order, one["name"])
                    found = {"labels": labels.as_dicts(labels.labels_of(column, coords))}
                    self._json(f"labels/{i}-{j}.json", found)
                    written.append([on_map["name"], one["name"], f"data/labels/{i}-{j}.json"])
        return written

    def _sheets(self, maps: list[dict[str, Any]], progress: Tracker) -> int:
        """Thumbnails of images that are near each other on the last map in one file."""
        rows = np.arange(len(self._order))
        if maps:
            first = along_curve(self._explorer.coords(self._order, maps[-1]["name"]))
            rows = np.concatenate([first, np.setdiff1d(rows, first)])
        sheet, place = (np.full(len(self._order), -1, np.int32) for _ in range(2))
        held: list[tuple[int, bytes]] = []
        count = 0

        def flush() -> None:
            nonlocal count
            if held:
                at = [row for row, _ in held]
                sheet[at], place[at] = count, np.arange(len(held))
                (self._folder / "sheets" / f"{count}.bin").write_bytes(packed([one for _, one in held]))
                count += 1
                held.clear()

        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[start : start + _ROWS_AT_ONCE]
            for row, picture in zip(some.tolist(), self._thumbnails(some), strict=True):
                if picture:
                    held.append((row, picture))
                if len(held) == SHEET_THUMBNAILS:
                    flush()
            progress.advance(len(some))
        flush()
        self._arrow("sheets.arrow", pa.table({"sheet": sheet, "place": place}))
        return count

    def _thumbnails(self, rows: np.ndarray) -> list[bytes | None]:
        numbers = self._order.numbers[rows]
        table = self._explorer.take(np.sort(numbers), ["thumbnail"])
        found = dict(zip(numbers_of(table["image_id"]).tolist(), table["thumbnail"].to_pylist(), strict=True))
        return [found.get(number) for number in numbers.tolist()]

    def _rows(self, progress: Tracker) -> None:
        columns, shown = image_columns(self._explorer)
        graphs = [f"{part}_{name}" for name in self._graphs for part in ("neighbors", "distances")]
        for start in range(0, len(self._order), _ROWS_AT_ONCE):
            numbers = self._order.numbers[start : start + _ROWS_AT_ONCE]
            table = self._explorer.take(numbers, [*columns, *graphs])
            told: list[dict[str, Any] | None] = [None] * len(numbers)  # a row that went meanwhile stays null
            for one, neighbors in zip(images(self._order, table, shown), self._neighbors(table), strict=True):
                told[one["row"] - start] = one | {"neighbors": neighbors}
            for first in range(0, len(told), ROWS_PER_FILE):
                self._json(f"rows/{(start + first) // ROWS_PER_FILE}.json", told[first : first + ROWS_PER_FILE])
            progress.advance(len(numbers))

    def _neighbors(self, table: pa.Table) -> list[dict[str, list[list[float]]]]:
        """Of each row by features, rows and distances of the nearest images of the graph in the table."""
        found: list[dict[str, list[list[float]]]] = [{} for _ in range(len(table))]
        for name in self._graphs:
            near = table[f"neighbors_{name}"].to_pylist()
            distances = table[f"distances_{name}"].to_pylist()
            for told, ids, away in zip(found, near, distances, strict=True):
                if ids and away:
                    rows = self._order.rows_of(numbers_of(np.array(ids[:MOST_NEIGHBORS], "U16"))).tolist()
                    told[name] = [[row, one] for row, one in zip(rows, away, strict=False) if row >= 0]
        return found

    def _arrow(self, name: str, table: pa.Table) -> None:
        with (self._folder / name).open("wb") as file:
            for part in arrow_chunks(table):
                file.write(part)

    def _json(self, name: str, content: Any) -> None:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        (self._folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
