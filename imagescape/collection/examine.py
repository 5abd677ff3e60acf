"""From an item of a source to what is known about it: read, compared, decoded. Runs on many threads at once."""

import os
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from imagescape.collection.identity import content_sha256
from imagescape.collection.known import Known
from imagescape.collection.readers.item import Item
from imagescape.images.decode import Decoded, decode, encode_png, from_array, read_file, thumbnail


@dataclass(frozen=True, slots=True)
class Settings:
    embed: bool
    salvage_truncated: bool
    max_pixels: int


@dataclass(slots=True)
class Finding:
    """What became of one item, found out on a worker thread."""

    item: Item
    stamp: tuple[int, int | None] = (0, None)  # bytes, modified_ns
    row: int | None = None  # the known row that this is
    sha256: str = ""
    fields: dict[str, Any] | None = None  # columns that come of decoding; None if not decoded
    content: bytes | np.ndarray | None = None  # kept only where decoding waits for the decision whether it moved
    homeless: deque[int] = field(default_factory=deque)  # known rows that may have moved here; shared, see Known


class Examiner:
    """Reads, compares and decodes items. Called from many threads, changes nothing."""

    def __init__(self, known: Known, settings: Settings) -> None:
        self._known, self._settings = known, settings

    def __call__(self, items: list[Item]) -> list[Finding]:
        return [self._examine(item) for item in items]

    def _examine(self, item: Item) -> Finding:
        finding = Finding(item)
        rows = self._known.at(item.uri)
        if item.path is not None:
            try:
                status = os.stat(item.path)
                finding.stamp = status.st_size, status.st_mtime_ns
            except (OSError, ValueError):
                pass  # reading will tell what is wrong
            for row in rows:
                if self._known.stamp(row) == finding.stamp and not self._try_again(row):
                    finding.row = row
                    return finding
        content = _content(item)
        if isinstance(content, Decoded):
            finding.row = next(iter(rows), None)
            finding.fields = _verdict(content)
            return finding
        self._compare(finding, rows, content)
        return finding

    def _compare(self, finding: Finding, rows: list[int], content: bytes | np.ndarray) -> None:
        known = self._known
        if finding.item.path is None:
            finding.stamp = (len(content) if isinstance(content, bytes) else content.nbytes), None
        finding.sha256 = content_sha256(content)
        finding.row = next((row for row in rows if known.sha256(row) in (finding.sha256, "")), None)
        if finding.row is not None:
            if not known.sha256(finding.row) or self._try_again(finding.row):
                finding.fields = {"sha256": finding.sha256, **self.decoded(content, finding.item)}
            return
        finding.homeless = known.homeless(finding.sha256)
        if finding.homeless:
            finding.content = content
        else:
            finding.fields = self.decoded(content, finding.item)

    def _try_again(self, row: int) -> bool:
        settings = self._settings
        return self._known.worth_another_try(
            row, salvage_truncated=settings.salvage_truncated, max_pixels=settings.max_pixels
        )

    def decoded(self, content: bytes | np.ndarray, item: Item) -> dict[str, Any]:
        """The columns that come of decoding."""
        stored: bytes | None = None
        picture = b""
        try:
            if isinstance(content, bytes):
                result = decode(
                    content,
                    max_pixels=self._settings.max_pixels,
                    salvage_truncated=self._settings.salvage_truncated,
                )
            else:
                image = from_array(content)
                result = Decoded(image, "ok", width=image.width, height=image.height, format="ARRAY")
            if result.image is not None:
                picture = thumbnail(result.image)
            if self._settings.embed or not item.refetchable:
                stored = content if isinstance(content, bytes) else encode_png(from_array(content))
        except Exception as error:
            result = Decoded(None, "unreadable", f"cannot be processed: {type(error).__name__}: {error}")
        fields = _verdict(result)
        if picture:
            fields["thumbnail"] = picture
        if stored is not None:
            fields["image"] = stored
        return fields


def _content(item: Item) -> bytes | np.ndarray | Decoded:
    if item.data is not None:
        return item.data
    if item.array is not None:
        return item.array
    assert item.path is not None, "an Item has a path, data or an array"
    return read_file(item.path)


def _verdict(result: Decoded) -> dict[str, Any]:
    return {
        "width": result.width,
        "height": result.height,
        "format": result.format,
        "thumbnail": None,
        "status": result.status,
        "reason": result.reason,
    }
