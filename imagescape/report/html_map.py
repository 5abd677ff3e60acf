"""A map as one HTML file that needs nothing else: no server, no network, no other file.

The page's program and style are the files in `web/`; this module packs the data: coordinates and codes as
base64 of little-endian arrays, pictures as WebP sprite sheets, names as JSON text. The page's security
policy forbids it to load anything and to run any script but its own, and names reach it as text only.
"""

import base64
import hashlib
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from imagescape.errors import InputError
from imagescape.report.columns import Categories, Quantity, read_column
from imagescape.report.labels import density_mode
from imagescape.runtime import worker_count

MAX_LEGEND_CLASSES = 400  # a text column with more distinct values is shown and searched, not coloured by
_NAMED_ON_MAP = 60
_SHEET_PX = 2048
_TILES = ((6_000, 64), (20_000, 48), (10**9, 32))  # (up to so many pictures, side of each in px): a page of 5-30 MB
_QUALITY = 80

Column = Sequence[object] | np.ndarray


def write_html_map(
    path: str | Path,
    coords: np.ndarray,
    *,
    names: Sequence[str] | None = None,
    thumbnails: Sequence[bytes | None] | None = None,
    columns: Mapping[str, Column] | None = None,
    color_by: str = "",
    title: str = "Map of images",
) -> Path:
    """Write what `html_map` builds.

    Raises:
        InputError: as `html_map`, or the folder of `path` is missing.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: the folder {path.parent} does not exist")
    page = html_map(coords, names=names, thumbnails=thumbnails, columns=columns, color_by=color_by, title=title)
    path.write_text(page, encoding="utf-8")
    return path


def html_map(
    coords: np.ndarray,
    *,
    names: Sequence[str] | None = None,
    thumbnails: Sequence[bytes | None] | None = None,
    columns: Mapping[str, Column] | None = None,
    color_by: str = "",
    title: str = "Map of images",
) -> str:
    """One page to look at a map in a browser: zoom, hover, search, colour by any column.

    Sized for a few thousand images and sane to about 60,000, where the pictures on it get small.

    Args:
        coords: (n, 2), n >= 1.
        names: What each image is called, (n,).
        thumbnails: Encoded pictures, (n,), None where a row has none.
        columns: Columns to show beside a picture, to search and to colour by, each (n,). Text with more than
            400 distinct values is not offered for colouring.
        color_by: The column that is coloured by at first; by default the first that can be.
        title: Shown above.

    Returns:
        The page's text. The same arguments give the same page.

    Raises:
        InputError: lengths differ, a coordinate is not finite, or `color_by` cannot be coloured by.
    """
    coords = np.asarray(coords, dtype="<f4")
    if coords.ndim != 2 or coords.shape[1] != 2 or not len(coords):
        raise InputError(f"a map has the shape (images, 2) and at least one image, got {coords.shape}")
    if not np.isfinite(coords).all():
        raise InputError("map coordinates must be finite; leave rows without a place out")
    columns = columns or {}
    for name, rows in {"names": names, "thumbnails": thumbnails, **columns}.items():
        if rows is not None and len(rows) != len(coords):
            raise InputError(f"{name} must have one entry an image, got {len(rows)} for {len(coords)} images")
    packed = [_packed_column(name, values, coords) for name, values in columns.items()]
    colorable = [str(column["name"]) for column in packed if column["kind"] != "text"]
    if color_by and color_by not in colorable:
        raise InputError(f"color_by must be one of {', '.join(colorable) or 'no column'}, got '{color_by}'")
    data = {
        "count": len(coords),
        "coords": _base64(coords),
        "names": None if names is None else [str(name) for name in names],
        "columns": packed,
        "color_by": color_by or (colorable[0] if colorable else ""),
        "sprites": _sprites(thumbnails, coords) if thumbnails is not None else None,
    }
    return _page(title, data)


def _page(title: str, data: Mapping[str, object]) -> str:
    web = files("imagescape.report") / "web"
    script = (web / "map.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "title": html.escape(title),
        "style": (web / "map.css").read_text(encoding="utf-8"),
        "script": script,
        "script_hash": f"sha256-{digest}",
        "data": script_json(data),
    }
    template = (web / "map.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def script_json(data: object) -> str:
    """JSON that may stand inside a <script>: no character in it can end the element or open another."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair becomes its JSON escape


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _packed_column(name: str, values: Column, coords: np.ndarray) -> dict[str, object]:
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    is_text = any(isinstance(value, str) for value in plain)
    if is_text and len({str(value) for value in plain}) > MAX_LEGEND_CLASSES:
        return {"name": name, "kind": "text", "values": [None if value is None else str(value) for value in plain]}
    column = read_column(plain)
    if isinstance(column, Quantity):
        return _packed_quantity(name, column)
    return _packed_categories(name, column, coords)


def _packed_quantity(name: str, column: Quantity) -> dict[str, object]:
    return {
        "name": name,
        "kind": "quantity",
        "values": _base64(column.values.astype("<f8")),
        "low": column.low,
        "high": column.high,
        "missing": column.null_count,
    }


def _packed_categories(name: str, column: Categories, coords: np.ndarray) -> dict[str, object]:
    modes = None
    if len(column.names) <= _NAMED_ON_MAP:
        modes = [density_mode(coords[column.codes == code]).tolist() for code in range(len(column.names))]
    return {
        "name": name,
        "kind": "categories",
        "names": column.names,
        "colors": column.colors,
        "codes": _base64(column.codes.astype("<i4")),
        "counts": column.counts.tolist(),
        "by_size": np.argsort(-column.counts, kind="stable").tolist(),
        "modes": modes,
        "missing": column.null_count,
    }


def _sprites(thumbnails: Sequence[bytes | None], coords: np.ndarray) -> dict[str, object] | None:
    """All pictures on a few large sheets, those that are near on the map on the same sheet."""
    rows = np.array([row for row, one in enumerate(thumbnails) if one is not None], dtype=np.int64)
    if not len(rows):
        return None
    tile = next(side for most, side in _TILES if len(rows) <= most)
    rows = rows[np.argsort(_along_curve(coords[rows]), kind="stable")]
    across = _SHEET_PX // tile
    index = np.full(len(thumbnails), -1, dtype="<i4")
    index[rows] = np.arange(len(rows))
    sizes = np.zeros((len(thumbnails), 2), dtype=np.uint8)
    sheets = []
    with ThreadPoolExecutor(worker_count()) as pool:
        for start in range(0, len(rows), across * across):
            here = rows[start : start + across * across]
            used = min(across, len(here)), -(-len(here) // across)
            sheet = Image.new("RGB", (used[0] * tile, used[1] * tile), (128, 128, 128))
            for place, image in enumerate(pool.map(lambda row: _tile(thumbnails[row], tile), here)):
                sizes[here[place]] = image.size
                sheet.paste(image, (place % across * tile, place // across * tile))
            sheets.append(f"data:image/webp;base64,{base64.b64encode(_webp(sheet)).decode()}")
    return {"tile": tile, "columns": across, "index": _base64(index), "sizes": _base64(sizes), "sheets": sheets}


def _tile(data: bytes | None, side: int) -> Image.Image:
    assert data is not None
    with Image.open(io.BytesIO(data)) as opened:
        image = opened.convert("RGB")
    if max(image.size) > side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def _webp(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", quality=_QUALITY, method=4)
    return out.getvalue()


def _along_curve(coords: np.ndarray) -> np.ndarray:
    """Places along a Z-order curve of 2^16 steps a side, (n,) int64: near in number is near on the map."""
    low, high = coords.min(axis=0), coords.max(axis=0)
    cells = ((coords - low) / np.where(high > low, high - low, 1) * 65535).astype(np.int64)
    code = np.zeros(len(coords), dtype=np.int64)
    for bit in range(16):
        code |= ((cells[:, 0] >> bit & 1) << (2 * bit)) | ((cells[:, 1] >> bit & 1) << (2 * bit + 1))
    return code
