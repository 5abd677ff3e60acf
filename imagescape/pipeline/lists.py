"""Which images to keep and which not, by the last audit: as lists for other programs, and as copies in a new folder.

Nothing of a collection or of its sources is ever moved, changed or deleted here.
"""

import csv
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imagescape.collection.decoding import Flaw, originals, wanted_rows
from imagescape.collection.readers.item import parse_uri
from imagescape.collection.store import Collection
from imagescape.errors import InputError
from imagescape.images.decode import encode_png, from_array
from imagescape.pipeline.audit_results import KEEP, audit_columns
from imagescape.runtime import track

_MANIFEST = "images.csv"
_ENDINGS = (".csv", ".json", ".txt")
_SUFFIX = {"JPEG": ".jpg", "ARRAY": ".png", "TIFF": ".tif"}


@dataclass(frozen=True, slots=True)
class Choice:
    """What is kept and what is not.

    Attributes:
        kept: Rows `image_id, uri, reason` (m), in table order; `reason` is empty.
        removed: Those that are not, with the reason why.
    """

    kept: pa.Table
    removed: pa.Table


def choose(scape: Collection, without: Sequence[str] = ()) -> Choice:
    """Sort the images into those to keep and those not.

    Not kept are images that cannot be used, and those of which the audit keeps another. What a person marked in the
    column `mark`, "keep" or "remove", goes before everything.

    Args:
        scape: The collection.
        without: Issues whose images are not kept either, such as "blurry", "outlier" or "label_doubt"; "leak" for
            images with a copy in another split.

    Raises:
        InputError: there was no audit, or it did not look for such an issue.
    """
    own = audit_columns(scape)
    if KEEP not in own:
        raise InputError(f"nothing says yet what to keep; first run: imagescape audit {scape.path.name}")
    issues = {one: "leak" if one == "leak" else f"is_{one}_issue" for one in without}
    if wrong := [one for one, column in issues.items() if column not in own]:
        known = [name[3:-6] for name in own if name.startswith("is_") and name.endswith("_issue")]
        known += ["leak"] if "leak" in own else []
        raise InputError(f"the audit looked for {', '.join(known)}, and not for '{wrong[0]}'")
    marks = ["mark"] if "mark" in scape.columns else []
    table = scape.read(["image_id", "uri", "status", "reason", "duplicate_of", KEEP, *issues.values(), *marks])
    reason = np.full(len(table), "", object)

    def say(where: pa.ChunkedArray, why: str | np.ndarray) -> None:
        rows = np.flatnonzero(pc.fill_null(where, False).to_numpy() & (reason == ""))
        reason[rows] = why if isinstance(why, str) else why[rows]

    say(pc.not_equal(table["status"], "ok"), _texts("cannot be used: ", table["reason"]))
    say(pc.invert(table[KEEP]), _texts("duplicate of ", table["duplicate_of"]))
    for one, column in issues.items():
        say(pc.is_valid(table[column]) if one == "leak" else table[column], one.replace("_", " "))
    if marks:
        marked = table["mark"].to_numpy(zero_copy_only=False)
        reason[marked == "remove"] = "marked by a person"
        reason[(marked == "keep") & (table["status"].to_numpy(zero_copy_only=False) == "ok")] = ""
    listed = table.select(["image_id", "uri"]).append_column("reason", pa.array(reason, pa.string()))
    stays = pa.array(reason == "")
    return Choice(listed.filter(stays), listed.filter(pc.invert(stays)))


def _texts(before: str, column: pa.ChunkedArray) -> np.ndarray:
    return np.array([before + (one or "") for one in column.to_pylist()], object)


def write_list(rows: pa.Table, path: Path) -> Path:
    """Write images as a list.

    Args:
        rows: Of a `Choice`.
        path: `.csv` with the columns image_id, uri and reason; `.json`, a list of objects with the same; or `.txt`, a
            uri a line.

    Raises:
        InputError: another ending, or no such folder.
    """
    check_list_path(path)
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.writer(file)
            writer.writerow(rows.column_names)
            writer.writerows(zip(*(column.to_pylist() for column in rows.columns), strict=True))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows.to_pylist(), indent=1), encoding="utf-8")
    else:
        lines = rows["uri"].to_pylist()
        if broken := next((one for one in lines if "\n" in one), None):
            raise InputError(f"a list of lines cannot hold the name {broken!r}; write .csv or .json")
        path.write_text("".join(f"{one}\n" for one in lines), encoding="utf-8")
    return path


def check_list_path(path: Path) -> None:
    """InputError where no list can be written there; for those who work before they write."""
    if path.suffix not in _ENDINGS:
        raise InputError(f"a list is written to a file that ends in {', '.join(_ENDINGS)}, got '{path}'")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: the folder {path.parent} does not exist")


@dataclass(frozen=True, slots=True)
class Copied:
    """What was, or would be, copied.

    Attributes:
        folder: Where to.
        images: How many.
        size_bytes: Of their files, as the table knows them.
        failed: Image ids that could not be had, and why.
        is_done: False where it was only said what would be done.
    """

    folder: Path
    images: int
    size_bytes: int
    failed: dict[str, str]
    is_done: bool

    def __str__(self) -> str:
        done = "copied" if self.is_done else "would be copied (nothing was done: add --apply)"
        text = f"{self.images:,} images of {self.size_bytes / 1e6:,.1f} MB {done} to {self.folder}"
        if self.failed:
            text += f"; {len(self.failed):,} could not be had, first: {next(iter(self.failed.values()))}"
        return text


def copy_images(scape: Collection, rows: pa.Table, folder: Path, *, apply: bool = False, link: bool = False) -> Copied:
    """Put images into a new folder, as the files they came in.

    Files keep their place below the folder that all of them share; of two that would be one, the second has its
    image_id in its name. What was inside of a container or in memory is called by its image_id. `images.csv` says which
    file is which image. A killed run goes on where it was, and no file is ever overwritten.

    Args:
        scape: The collection.
        rows: With the columns image_id and uri.
        folder: New, empty, or of a killed run.
        apply: Do it; else it is only said what would be done.
        link: Hard links instead of copies, where an image is a file of its own on the same disk.

    Raises:
        InputError: the folder holds something else.
    """
    wanted = wanted_rows(scape)
    wanted = wanted.filter(pc.is_in(wanted["image_id"], value_set=rows["image_id"].combine_chunks()))
    size = pc.sum(wanted["bytes"]).as_py() or 0
    if not apply:
        return Copied(folder, len(wanted), size, {}, is_done=False)
    names = _names(scape, wanted)
    _begin(folder, names, wanted)
    failed: dict[str, str] = {}
    with track("copying", len(wanted)) as progress:
        missing = np.array([not (folder / name).exists() for name in names])
        progress.advance(int((~missing).sum()))
        todo, left = (
            wanted.filter(pa.array(missing)),
            [name for name, is_in in zip(names, missing, strict=True) if is_in],
        )
        for (image_id, data), name, uri in zip(_data(scape, todo), left, todo["uri"].to_pylist(), strict=True):
            if isinstance(data, Flaw):
                failed[image_id] = data.reason
            else:
                _put(data, folder / name, parse_uri(uri)[0] if link and parse_uri(uri)[1] is None else None)
            progress.advance()
    return Copied(folder, len(wanted) - len(failed), size, failed, is_done=True)


def _data(scape: Collection, wanted: pa.Table) -> Iterator[tuple[str, bytes | Flaw]]:
    for image_id, data in originals(scape, wanted):
        yield image_id, encode_png(from_array(data)) if isinstance(data, np.ndarray) else data


def _put(data: bytes, path: Path, source: Path | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name[:80]}.part")
    part.unlink(missing_ok=True)
    try:
        if source is None:
            raise OSError("a copy is wanted")
        os.link(source, part)
    except OSError:  # on another disk, or a file system without links
        part.write_bytes(data)
    part.rename(path)


def _begin(folder: Path, names: list[str], wanted: pa.Table) -> None:
    """Write which file is which image; refuse a folder that holds something else."""
    listed = [
        ("image_id", "file", "uri"),
        *zip(wanted["image_id"].to_pylist(), names, wanted["uri"].to_pylist(), strict=True),
    ]
    manifest = folder / _MANIFEST
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        try:
            with manifest.open(newline="", encoding="utf-8", errors="backslashreplace") as file:
                known = [tuple(row) for row in csv.reader(file)]
        except OSError:
            known = []
        if [row[:2] for row in known] != [row[:2] for row in listed]:
            raise InputError(f"'{folder}' is not empty, and holds other images than these; name a new folder")
        return
    folder.mkdir(parents=True, exist_ok=True)
    with manifest.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file).writerows(listed)


def _names(scape: Collection, wanted: pa.Table) -> list[str]:
    """A file name of its own for each image."""
    formats = scape.take(wanted["position"].to_numpy(), ["format"])["format"].to_pylist()
    places = [parse_uri(uri) for uri in wanted["uri"].to_pylist()]
    own = [path for path, row in places if path is not None and row is None]
    root = Path(os.path.commonpath([path.parent for path in own])) if own else Path()
    taken: set[str] = {_MANIFEST.casefold()}
    names = []
    for image_id, (path, row), kind in zip(wanted["image_id"].to_pylist(), places, formats, strict=True):
        if path is not None and row is None:
            name = str(path.relative_to(root))
        else:
            name = image_id + _SUFFIX.get(kind or "", f".{(kind or 'png').lower()}")
        if name.casefold() in taken:  # also where the file system does not tell cases apart
            name = str(Path(name).with_name(f"{Path(name).stem}-{image_id}{Path(name).suffix}"))
        taken.add(name.casefold())
        names.append(name)
    return names
