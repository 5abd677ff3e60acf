"""Images from anywhere -> rows of a collection; again and again, adding only what is new.

Like rsync, a file whose size and modification time are those of its row is taken as unchanged without being read.
Anything else is read, hashed and compared:

    same place, same content      unchanged
    same place, other content     the old row is flagged "vanished", the new content is a new row
    new place, known content      moved, if the place it was known from no longer holds it: the row keeps its id and all
                                  that was computed for it; otherwise a copy, which is a new row
    place gone                    the row is flagged "vanished", and is ok again once the file is back

Reading and decoding run on threads (Pillow releases the interpreter's lock), a bounded number of images at a time.
Rows are committed in batches, in the order of the sources: a killed ingest has stored a prefix, and the next one goes
on behind it.
"""

import contextlib
import itertools
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from imagescape.collection.columns import FIXED, IMAGE, python_column, source_name, storable_type
from imagescape.collection.examine import Examiner, Finding, Settings
from imagescape.collection.identity import NOT_FOUND, REPLACED, mint_id
from imagescape.collection.known import Known, Seen
from imagescape.collection.locking import exclusive
from imagescape.collection.ordered import ordered_map
from imagescape.collection.readers import open_source
from imagescape.collection.readers.folder import IMAGE_SUFFIXES
from imagescape.collection.readers.item import Item, Reader, parse_uri
from imagescape.collection.store import Collection
from imagescape.errors import CollectionError, InputError, Interrupted
from imagescape.images.decode import DEFAULT_MAX_PIXELS
from imagescape.runtime import track, worker_count

BATCH_ROWS = 4096
BATCH_BYTES = 64 << 20
CHUNK_ITEMS = 8  # given to a thread at once
CHUNK_BYTES = 8 << 20
CHUNKS_IN_FLIGHT = 2 * worker_count() + 2
_EDITS = 50_000  # changed rows gathered before they are written, since writing touches whole columns


@dataclass(frozen=True, slots=True)
class IngestSummary:
    """What an ingest found, in images.

    Attributes:
        added: New images.
        unchanged: Known ones, as they were; images that the sources name twice are counted here.
        moved: Known ones at a new place.
        changed: Places that now hold another picture, and flagged images whose verdict changed.
        vanished: Known ones whose image is gone.
        flagged: Rows of the collection, of all ingests, that cannot be used.
        rows: Rows of the collection in all.
        seconds: Time it took.
    """

    added: int
    unchanged: int
    moved: int
    changed: int
    vanished: int
    flagged: int
    rows: int
    seconds: float

    def __str__(self) -> str:
        counts = ("added", "unchanged", "moved", "changed", "vanished")
        found = ", ".join(f"{getattr(self, name)} {name}" for name in counts if getattr(self, name))
        return f"{found or 'nothing found'}; {self.rows} images, {self.flagged} flagged ({self.seconds:.1f} s)"


def ingest(
    sources: Any,
    collection_path: str | os.PathLike[str],
    *,
    embed: bool = False,
    salvage_truncated: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    glob: str | None = None,
    layout: str = "auto",
) -> IngestSummary:
    """Add the images of `sources` to a collection, which is made if it does not exist.

    An image that cannot be decoded becomes a row with a status and a reason; so does one that is gone. Flagged rows
    are tried again when these settings may help them, or when their file changed. Columns of a source are stored
    under their names; one named as a fixed column, `source_<name>`. They are read when a row is new or has moved;
    for unchanged images they stay as they are.

    Args:
        sources: Anything that `readers.open_source` reads, or a list of such; a list of image files is one source.
        collection_path: The folder of the collection.
        embed: Store the bytes of new images in the collection, which then needs its sources no more. Without it the
            collection refers to them (images that cannot be gone back to are stored all the same).
        salvage_truncated: Use what can be decoded of files that end early.
        max_pixels: Refuse larger images.
        glob: Of folders, only files that match.
        layout: How folders are labelled: "auto", "flat" or "classes".

    Raises:
        InputError: a source cannot be read, or its columns do not fit the collection's.
        CollectionError: the collection cannot be opened; the disk is full.
        Interrupted: the user stopped it; what was read is stored.
    """
    began = time.monotonic()
    opened = _one_by_one(sources)
    readers = [open_source(source, glob=glob, layout=layout) for source in opened]
    collection = _open_or_create(Path(collection_path))
    with exclusive(collection.path / "ingest.lock", "ingest"):
        run = _Run(collection, readers, Settings(embed, salvage_truncated, max_pixels))
        run.read_all(readers)
        run.flag_lost(_roots(opened))
        if run.appended:
            collection.compact()
    flagged = collection.count("status != 'ok'")
    counts = {name: run.counts[name] for name in ("added", "unchanged", "moved", "changed", "vanished")}
    return IngestSummary(**counts, flagged=flagged, rows=len(collection), seconds=time.monotonic() - began)


class _Run:
    """One ingest: decides in source order what each finding means, and gathers what is to be written."""

    def __init__(self, collection: Collection, readers: Sequence[Reader], settings: Settings) -> None:
        self._collection = collection
        self._names, schema = _source_columns(readers)
        collection.append(_header(schema).empty_table())  # adds the columns, or says at once that their types clash
        self._schema = collection.schema
        self._known = Known(collection)
        self._seen = Seen()
        self._missing: dict[int, str] = {}  # known rows whose file a list names, and that is not there
        self._examiner = Examiner(self._known, settings)
        self._embed = settings.embed
        self._rows: list[dict[str, Any]] = []
        self._row_bytes = 0
        self._edits = _Edits(collection)
        self.appended = 0
        self.counts: dict[str, int] = defaultdict(int)

    def read_all(self, readers: Sequence[Reader]) -> None:
        """Bring in every item, in order."""
        totals = [reader.total for reader in readers]
        total = sum(count for count in totals if count is not None) if None not in totals else None
        items = itertools.chain.from_iterable(readers)
        try:
            with ThreadPoolExecutor(worker_count() + 1) as pool, track("ingesting", total) as progress:
                chunks = _chunks(items, files_too=self._embed)
                for findings in ordered_map(pool, self._examiner, chunks, in_flight=CHUNKS_IN_FLIGHT):
                    for finding in findings:
                        self._settle(finding)
                    progress.advance(len(findings))
                    if len(self._rows) >= BATCH_ROWS or self._row_bytes >= BATCH_BYTES:
                        self._append()
            self._append()
        except CollectionError:
            raise  # writing is what failed
        except KeyboardInterrupt:
            self._append()
            self._edits.write()
            raise Interrupted(
                f"ingest stopped, {self.appended} new images are stored in '{self._collection.path}'; "
                "run the same again to go on"
            ) from None
        except BaseException:
            self._append()
            self._edits.write()
            raise

    def flag_lost(self, roots: list[str]) -> None:
        """After all was read: flag the rows of these sources that are gone, and write what is left to write."""
        missing = ((row, reason) for row, reason in self._missing.items() if not self._known.found[row])
        for row, reason in {**dict(self._known.lost(roots, self._seen)), **dict(missing)}.items():
            self._edits.add(self._known.image_id(row), {"status": "vanished", "reason": reason})
            self.counts["vanished"] += reason != REPLACED  # that one is counted where its successor came in
        self._edits.write()

    def _settle(self, finding: Finding) -> None:
        path, member = parse_uri(finding.item.uri)
        if path is not None and member is not None:
            self._seen.containers.add(str(path))
        if finding.row is not None:
            self._settle_known(finding, finding.row)
        elif not self._seen.first_time(finding.item.uri if path else f"{finding.item.uri}\0{finding.sha256}"):
            self.counts["unchanged"] += 1
        elif (row := self._moved_here(finding)) is not None:
            self._settle_moved(finding, row)
        else:
            self._settle_new(finding)

    def _moved_here(self, finding: Finding) -> int | None:
        while finding.homeless:
            row = finding.homeless.popleft()
            if not self._known.found[row]:
                return row
        return None

    def _settle_known(self, finding: Finding, row: int) -> None:
        known = self._known
        if known.found[row]:  # named twice
            self.counts["unchanged"] += 1
            return
        if finding.fields is not None and finding.fields["status"] == "vanished":
            if known.status(row) != "vanished":
                self._missing[row] = finding.fields["reason"]  # unless it turns up at another place
            return
        known.found[row] = True
        self._note_replaced(finding, REPLACED)
        edit: dict[str, Any] = {}
        if finding.sha256 and finding.stamp != _stamp(known, row):
            edit["bytes"], edit["modified_ns"] = finding.stamp
        same_verdict = finding.fields is None or finding.fields["status"] == known.status(row)
        if finding.fields is None and known.status(row) == "vanished":
            edit |= {"status": "ok", "reason": ""}
        elif finding.fields is not None and finding.sha256 and not (same_verdict and known.sha256(row)):
            edit |= finding.fields
        elif finding.fields is not None and not same_verdict:  # cannot be read any more: what was known stays
            edit |= {"status": finding.fields["status"], "reason": finding.fields["reason"]}
        self.counts["unchanged" if same_verdict else "changed"] += 1
        if edit:
            self._edits.add(known.image_id(row), edit)

    def _settle_moved(self, finding: Finding, row: int) -> None:
        known = self._known
        known.found[row] = True
        self._note_replaced(finding, NOT_FOUND)
        size, modified_ns = finding.stamp
        edit = {"uri": finding.item.uri, "bytes": size, "modified_ns": modified_ns, **self._source_values(finding.item)}
        if known.status(row) == "vanished":
            edit |= self._decoded(finding) if known.lacks_picture(row) else {"status": "ok", "reason": ""}
        self._edits.add(known.image_id(row), edit)
        self.counts["moved"] += 1

    def _settle_new(self, finding: Finding) -> None:
        replaces = self._note_replaced(finding, REPLACED)
        self.counts["changed" if replaces else "added"] += 1
        size, modified_ns = finding.stamp
        fields = self._decoded(finding)
        self._rows.append(
            {
                "image_id": self._new_id(finding.item.uri, finding.sha256),
                "uri": finding.item.uri,
                "sha256": finding.sha256,
                "bytes": size,
                "modified_ns": modified_ns,
                **fields,
                **self._source_values(finding.item),
            }
        )
        self._row_bytes += len(fields.get("image") or b"") + len(fields.get("thumbnail") or b"") + 512

    def _decoded(self, finding: Finding) -> dict[str, Any]:
        if finding.fields is None:
            assert finding.content is not None
            return self._examiner.decoded(finding.content, finding.item)
        return finding.fields

    def _note_replaced(self, finding: Finding, meaning: str) -> bool:
        """Note it if another picture was known from this place, and not yet found elsewhere."""
        uri, known = finding.item.uri, self._known
        stale = any(not known.found[row] and known.status(row) != "vanished" for row in known.at(uri))
        if stale and parse_uri(uri)[0] is not None:  # two arrays in memory may well share a name
            self._seen.reused[uri] = meaning
            return True
        return False

    def _new_id(self, uri: str, sha256: str) -> str:
        candidates = (mint_id(uri, sha256, again) for again in itertools.count())
        return next(image_id for image_id in candidates if not self._known.has_id(image_id))

    def _source_values(self, item: Item) -> dict[str, Any]:
        return {self._names[name]: value for name, value in item.columns.items()}

    def _append(self) -> None:
        # Taken first: if the user interrupts between commit and return, these rows must not be stored again.
        rows, self._rows, self._row_bytes = self._rows, [], 0
        if not rows:
            return
        uris = [row["uri"] for row in rows]
        fields = [self._schema.field(name) for name in (*FIXED.names, *self._names.values())]
        if any("image" in row for row in rows):
            fields.append(IMAGE)
        columns = {
            column.name: python_column(column.name, [row.get(column.name) for row in rows], column.type, uris)
            for column in {column.name: column for column in fields}.values()
        }
        self._collection.append(pa.table(columns))
        self.appended += len(rows)


class _Edits:
    """Changes of known rows, gathered by which columns they touch."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._groups: dict[tuple[str, ...], tuple[list[str], list[tuple[Any, ...]]]] = {}
        self._count = 0

    def add(self, image_id: str, values: Mapping[str, Any]) -> None:
        ids, rows = self._groups.setdefault(tuple(values), ([], []))
        ids.append(image_id)
        rows.append(tuple(values.values()))
        self._count += 1
        if self._count >= _EDITS:
            self.write()

    def write(self) -> None:
        groups, self._groups, self._count = self._groups, {}, 0
        for names, (ids, rows) in groups.items():
            if "image" in names:
                self._collection.append(pa.schema([FIXED.field("image_id"), IMAGE]).empty_table())  # adds the column
            values = (list(column) for column in zip(*rows, strict=True))
            self._collection.update(ids, dict(zip(names, values, strict=True)))


def _open_or_create(path: Path) -> Collection:
    if (path.is_dir() and any(path.iterdir())) or path.is_file():
        return Collection.open(path)
    try:
        return Collection.create(path)
    except CollectionError:
        return Collection.open(path)  # another process was faster


def _one_by_one(sources: Any) -> list[Any]:
    """Each source: the elements of a list, of which the image files make up one source together."""
    if not isinstance(sources, (list, tuple)):
        return [sources]
    is_image = [
        isinstance(source, (str, os.PathLike)) and Path(source).suffix.lower() in IMAGE_SUFFIXES for source in sources
    ]
    images = list(itertools.compress(sources, is_image))
    others = [source for source, loose in zip(sources, is_image, strict=True) if not loose]
    return [*others, images] if images else others


def _roots(sources: Iterable[Any]) -> list[str]:
    """The absolute paths of those sources that are folders or files."""
    return [os.path.abspath(os.path.expanduser(source)) for source in sources if isinstance(source, (str, os.PathLike))]


def _source_columns(readers: Iterable[Reader]) -> tuple[dict[str, str], pa.Schema]:
    """The stored name of each source column, and the stored columns.

    Raises:
        InputError: two columns of the sources would be stored under one name.
    """
    names: dict[str, str] = {}
    fields: dict[str, pa.Field] = {}
    for reader in readers:
        for column in reader.schema:
            name = source_name(column.name)
            if name in fields and names.get(column.name) != name:
                raise InputError(f"two columns of the sources would both be stored as '{name}'; rename one of them")
            names[column.name] = name
            fields.setdefault(name, pa.field(name, storable_type(column.type)))
    return names, pa.schema(fields.values())


def _header(columns: pa.Schema) -> pa.Schema:
    return pa.schema([FIXED.field("image_id"), *columns])


def _chunks(items: Iterable[Item], *, files_too: bool) -> Iterator[list[Item]]:
    """Items in lists of CHUNK_ITEMS, fewer where they carry much data. If `items` fails, what it gave comes first.

    Args:
        items: What the readers yield.
        files_too: Whether files will be held in memory too, because their bytes are to be stored.
    """
    chunk: list[Item] = []
    held = 0
    try:
        for item in items:
            chunk.append(item)
            held += len(item.data or b"") + (0 if item.array is None else item.array.nbytes)
            if files_too and item.path is not None:
                with contextlib.suppress(OSError, ValueError):  # reading will tell what is wrong
                    held += item.path.stat().st_size
            if len(chunk) >= CHUNK_ITEMS or held >= CHUNK_BYTES:
                yield chunk
                chunk, held = [], 0
    except Exception:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def _stamp(known: Known, row: int) -> tuple[int, int | None]:
    size, modified_ns = known.stamp(row)
    return size, None if modified_ns < 0 else modified_ns
