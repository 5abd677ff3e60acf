"""What a collection already holds, looked up while a source streams by."""

import bisect
import hashlib
import itertools
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imagescape.collection.identity import NOT_FOUND, content_sha256
from imagescape.collection.readers.item import parse_uri
from imagescape.images.decode import read_file

if TYPE_CHECKING:
    from imagescape.collection.store import Collection

_COLUMNS = ["image_id", "uri", "sha256", "bytes", "modified_ns", "width", "height", "status"]


class Known:
    """The rows of a collection by where they came from and by what they hold, in about 300 bytes a row.

    Reading is safe from many threads; only one may note what was found (`found`).

    Attributes:
        found: (rows,) bool: an item of this ingest turned out to be this row.
    """

    def __init__(self, collection: "Collection") -> None:
        table = collection.read(_COLUMNS)
        # Text columns of millions of rows pass the 2 GB that 32-bit offsets can address.
        self._text = {
            name: table[name].cast(pa.large_string()).combine_chunks() for name in ("image_id", "uri", "sha256")
        }
        self._status = table["status"].combine_chunks()
        self._number = {
            name: pc.fill_null(table[name], -1).to_numpy() for name in ("bytes", "modified_ns", "width", "height")
        }
        without = collection.read(["image_id"], where="status = 'vanished' AND thumbnail IS NULL")["image_id"]
        self._without_picture = frozenset(without.to_pylist())
        self._by_uri = _Index(self._text["uri"])
        self._by_sha256 = _Index(self._text["sha256"])
        self._by_id = _Index(self._text["image_id"])
        self._homeless: dict[str, deque[int]] = {}
        self.found = np.zeros(len(table), bool)

    def __len__(self) -> int:
        return len(self.found)

    def image_id(self, row: int) -> str:
        return self._text["image_id"][row].as_py()

    def uri(self, row: int) -> str:
        return self._text["uri"][row].as_py()

    def sha256(self, row: int) -> str:
        return self._text["sha256"][row].as_py()

    def status(self, row: int) -> str:
        return self._status[row].as_py()

    def stamp(self, row: int) -> tuple[int, int]:
        """Size in bytes and modification time in ns of the row's file; the time is -1 if it is no file of its own."""
        return int(self._number["bytes"][row]), int(self._number["modified_ns"][row])

    def has_id(self, image_id: str) -> bool:
        return next(self._by_id.rows(image_id), None) is not None

    def at(self, uri: str) -> list[int]:
        """Rows that came from `uri`, the one that is still valid first: a replaced picture leaves its row behind."""
        return sorted(self._by_uri.rows(uri), key=lambda row: self.status(row) == "vanished")

    def homeless(self, sha256: str) -> deque[int]:
        """Rows that hold this content and whose file no longer holds it: the picture may have moved.

        Looked up once for each content, since a collection may hold a thousand copies of one placeholder; who settles
        a row takes it out.
        """
        if sha256 not in self._homeless:
            rows = self._by_sha256.rows(sha256)
            self._homeless[sha256] = deque(row for row in rows if not self.found[row] and not self._still_there(row))
        return self._homeless[sha256]

    def worth_another_try(self, row: int, *, salvage_truncated: bool, max_pixels: int) -> bool:
        """Whether a flagged row may come out better now, though its file did not change."""
        match self.status(row):
            case "truncated":
                return salvage_truncated
            case "too_large":
                return int(self._number["width"][row]) * int(self._number["height"][row]) <= max_pixels
            case "unreadable":
                return True  # permissions and network drives change without leaving a mark on the file
            case "vanished":
                return self.lacks_picture(row)
        return False

    def lacks_picture(self, row: int) -> bool:
        """Whether a vanished row was never decoded, so that finding its file again is not enough."""
        return self.image_id(row) in self._without_picture

    def lost(self, roots: list[str], seen: "Seen") -> Iterator[tuple[int, str]]:
        """Rows of the given sources that this ingest did not meet because their image is gone, each with a reason.

        A row whose file merely was not offered this time (another glob, another list) is not lost.

        Args:
            roots: Absolute paths of the sources that are folders or files.
            seen: What the sources gave.
        """
        for row in np.flatnonzero(~self.found).tolist():
            uri = self.uri(row)
            path, member = parse_uri(uri)
            if path is None or self.status(row) == "vanished":
                continue
            if uri in seen.reused:
                yield row, seen.reused[uri]
            elif self._gone(path, member, roots, seen):
                yield row, NOT_FOUND

    @staticmethod
    def _gone(path: Path, member: int | None, roots: list[str], seen: "Seen") -> bool:
        if member is not None and str(path) in seen.containers:
            return True
        return _is_under(str(path), roots) and not os.path.lexists(path)

    def _still_there(self, row: int) -> bool:
        path, member = parse_uri(self.uri(row))
        if path is None or not self.sha256(row):  # came from memory, or was never read: there is nothing to move
            return True
        if member is not None:
            return os.path.exists(path)
        try:
            now = os.stat(path)
        except (OSError, ValueError):
            return False
        if (now.st_size, now.st_mtime_ns) == self.stamp(row):
            return True
        content = read_file(path)
        return isinstance(content, bytes) and content_sha256(content) == self.sha256(row)


class Seen:
    """What an ingest has met, in about 100 bytes for each new image.

    Attributes:
        reused: uris of known rows at which another picture was found -> what that means for the row.
        containers: Paths of the tables and archives that gave images.
    """

    def __init__(self) -> None:
        self.reused: dict[str, str] = {}
        self.containers: set[str] = set()
        self._new: set[bytes] = set()

    def first_time(self, place: str) -> bool:
        """Whether a new image from `place` was not given before: lists name files twice, sources overlap."""
        key = hashlib.blake2b(place.encode(), digest_size=16).digest()  # no chance of two places sharing one
        if key in self._new:
            return False
        self._new.add(key)
        return True


class _Index:
    """Row numbers by text, as sorted 64-bit hashes: a tenth of the memory of a dict."""

    def __init__(self, column: pa.LargeStringArray) -> None:
        self._column = column
        pieces = (column.slice(start, 65_536).to_pylist() for start in range(0, len(column), 65_536))
        hashes = np.fromiter(map(hash, itertools.chain.from_iterable(pieces)), np.int64, len(column))
        self._order = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._order]

    def rows(self, text: str) -> Iterator[int]:
        """Rows whose text is `text`, first to last."""
        key = hash(text)
        first = bisect.bisect_left(self._sorted, key)
        for place in range(first, len(self._sorted)):
            if self._sorted[place] != key:
                return
            row = int(self._order[place])
            if self._column[row].as_py() == text:
                yield row


def _is_under(path: str, roots: list[str]) -> bool:
    return any(path == root or path.startswith(root.rstrip(os.sep) + os.sep) for root in roots)
