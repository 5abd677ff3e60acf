"""What an audit must see every picture for, seen once: its pixels as a key, a perceptual hash, and raw quality."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from imagescape.audit.groups import pixel_key
from imagescape.audit.measuring import Measurement, Measurements, measure
from imagescape.collection.cache import cached_rows
from imagescape.collection.rows_file import RowsFile
from imagescape.collection.store import Collection
from imagescape.collection.vectors import numbers_of
from imagescape.features.hashing import hash_input, hash_pixels
from imagescape.pipeline.audit_memory import FOLDER

HASH = "phash64"

_ROW = np.dtype(
    [("pixels", np.uint8, 32), ("hash", np.uint8, 8), ("quality", np.float64, len(Measurement._fields))], align=True
)
_VERSION = 1  # of what is measured: another one measures every picture anew


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What was seen of the usable images, in table order.

    Attributes:
        ids: (n,) int64.
        pixel_keys: (n, 32) uint8: equal for pictures that look the same to the last bit, whatever file they are in.
        hashes: (n, 8) uint8, `phash64`.
        measurements: Of quality.
    """

    ids: np.ndarray
    pixel_keys: np.ndarray
    hashes: np.ndarray
    measurements: Measurements


def see(scape: Collection) -> Seen:
    """Decode the images at full size that no audit has seen yet, and give what is known of all.

    An image that can no longer be read is flagged in its row and left out. A killed run goes on where it was.

    Raises:
        CollectionError: the disk is full.
    """
    files = RowsFile(scape.path / FOLDER / f"measures-{_VERSION}", "measures", (), _ROW)
    ids, rows = cached_rows(scape, files, _seen, "looking at every image")
    columns = np.asarray(rows)
    return Seen(numbers_of(ids), columns["pixels"], columns["hash"], Measurements(columns["quality"]))


def _seen(image: Image.Image) -> np.ndarray:
    row = np.zeros((), _ROW)
    row["pixels"] = np.frombuffer(pixel_key(image), np.uint8)
    row["hash"] = hash_pixels(hash_input(image, "phash")[None], "phash")[0]
    row["quality"] = measure(image)
    return row
