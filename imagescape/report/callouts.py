"""Notes on a map: a text and three pictures in a box, and a line to the place they speak of.

The notes come from a small YAML file, a list of entries such as

    - text: Ships at sea, seen from the side
      tip: [31.5, -12.0]         # where the line ends, in map units; or row: 17; or image_id: 0123456789abcdef
      place: [80, -40]           # optional: middle of the box, in map units

as in the annotated CIFAR-10 figure of Boehm et al. 2023 (arXiv:2210.09879).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from matplotlib.patches import FancyBboxPatch

from imagescape.errors import InputError
from imagescape.evaluate.neighbors import nearest
from imagescape.report.geometry import Box, Point, segments_cross, stack
from imagescape.report.page import INK, LINE_HEIGHT, Page, wrapped
from imagescape.runtime import seed_for

PICTURES = 3
NEAREST = 15
NOTE_INCHES = 2.05  # width of a box

_PICTURE_INCHES = 0.60
_PAD_INCHES = 0.08
_NOTE_POINTS = 8.5
_KEYS = {"text", "tip", "row", "image_id", "place"}


@dataclass(frozen=True, slots=True)
class Note:
    """One remark about a place on the map.

    Attributes:
        text: What to say.
        tip: What it speaks of, in map units.
        place: Middle of its box in map units, or None to have it placed beside the map.
        row: The row that the tip was given by, or None; its picture is shown first.
    """

    text: str
    tip: Point
    place: Point | None = None
    row: int | None = None


def read_notes(path: str | Path, coords: np.ndarray, image_ids: Sequence[str] | None = None) -> list[Note]:
    """Read a file of notes and find the places that they speak of.

    Args:
        path: A YAML file, see the module's text.
        coords: The map, (n, 2), to look up `row` and `image_id`.
        image_ids: (n,), for notes that name an image by its id.

    Raises:
        InputError: the file is missing, is not such a list, or an entry is wrong; the message numbers it from 1.
    """
    try:
        entries = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the notes {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"the notes {path} are not YAML: {error}") from error
    if not isinstance(entries, list):
        raise InputError(f"the notes {path} must be a list of entries with text and tip, got {type(entries).__name__}")
    rows = {} if image_ids is None else {str(image_id): row for row, image_id in enumerate(image_ids)}
    return [_note(entry, f"note {number} of {path}", coords, rows) for number, entry in enumerate(entries, 1)]


def _note(entry: object, where: str, coords: np.ndarray, rows: dict[str, int]) -> Note:
    if not isinstance(entry, dict):
        raise InputError(f"{where} must have text and tip, got {type(entry).__name__}")
    unknown = sorted(str(key) for key in entry if key not in _KEYS)
    if unknown:
        raise InputError(f"{where} has the unknown key '{unknown[0]}'; known are text, tip, row, image_id, place")
    text = entry.get("text")
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{where} needs a text, got {text!r}")
    place = None if entry.get("place") is None else _point(entry["place"], f"place of {where}")
    given = [key for key in ("tip", "row", "image_id") if entry.get(key) is not None]
    if len(given) != 1:
        raise InputError(f"{where} needs one of tip, row, image_id, got {' and '.join(given) or 'none'}")
    if given == ["tip"]:
        return Note(text.strip(), _point(entry["tip"], f"tip of {where}"), place)
    if given == ["image_id"]:
        row = rows.get(str(entry["image_id"]), -1)
        if row < 0:
            raise InputError(f"{where} names the image '{entry['image_id']}', which is not on this map")
    else:
        row = entry["row"]
        if not isinstance(row, int) or isinstance(row, bool) or not 0 <= row < len(coords):
            raise InputError(f"{where} needs a row from 0 to {len(coords) - 1}, got {row!r}")
    return Note(text.strip(), (float(coords[row, 0]), float(coords[row, 1])), place, row)


def _point(value: object, what: str) -> Point:
    numbers = [v for v in value if isinstance(v, (int, float)) and np.isfinite(v)] if isinstance(value, list) else []
    if not isinstance(value, list) or len(value) != 2 or len(numbers) != 2:
        raise InputError(f"the {what} must be two numbers [x, y] in map units, got {value!r}")
    return float(numbers[0]), float(numbers[1])


def pick_pictures(note: Note, coords: np.ndarray, has_picture: np.ndarray, *, seed: int = 0) -> list[int]:
    """Three rows to show for a note: drawn at random from the 15 with a picture nearest to its tip.

    When the note names an image that has a picture, that one comes first. Fewer than three when the map
    has fewer pictures.

    Args:
        note: The note.
        coords: The map, (n, 2).
        has_picture: (n,) bool.
        seed: The same seed, text and tip pick the same rows.
    """
    rows = np.flatnonzero(has_picture)
    if not len(rows):
        return []
    near = rows[nearest(coords[rows], np.array([note.tip]), min(NEAREST, len(rows))).indices[0]]
    first = [note.row] if note.row is not None and has_picture[note.row] else []
    others = near[~np.isin(near, first)]
    count = min(PICTURES - len(first), len(others))
    drawn = np.random.default_rng(seed_for(seed, note.text, note.tip)).choice(len(others), count, replace=False)
    return first + [int(row) for row in others[np.sort(drawn)]]


@dataclass(frozen=True, slots=True)
class Callout:
    """Where a note's box stands and where its line starts; the line ends at the note's tip."""

    box: Box
    start: Point


def place_callouts(
    notes: Sequence[Note], sizes: Sequence[tuple[float, float]], inside: Box, margin: float, gap: float
) -> list[Callout]:
    """Place a box for each note: where it asks to be, else beside the map, left or right.

    Lines of boxes beside the map run through the map only, so they meet no other such box; what was
    placed by hand is checked.

    Args:
        notes: The notes.
        sizes: Width and height of each box, in map units.
        inside: The part of the figure that is left to the map; boxes stand beside it.
        margin: Room between map and boxes.
        gap: Least room between two boxes.

    Returns:
        One callout a note, in order.

    Raises:
        InputError: the boxes do not fit beside the map, or boxes or lines meet that were placed by hand.
    """
    placed: dict[int, Callout] = {}
    for index, note in enumerate(notes):
        if note.place is not None:
            placed[index] = Callout(Box.around(note.place, *sizes[index]), note.place)
    for is_right, column in _sides(notes, sizes, inside, gap):
        edge = inside.x1 + margin if is_right else inside.x0 - margin
        for index, height in _uncrossed(column, notes, sizes, edge, inside, gap):
            width = sizes[index][0]
            box = Box.around((edge + (width / 2 if is_right else -width / 2), height), *sizes[index])
            placed[index] = Callout(box, (edge, height))
    callouts = [placed[index] for index in range(len(notes))]
    for index, note in enumerate(notes):
        if note.place is not None:
            callouts[index] = Callout(callouts[index].box, _start(index, notes, callouts))
    _check(notes, callouts)
    return callouts


def _sides(
    notes: Sequence[Note], sizes: Sequence[tuple[float, float]], inside: Box, gap: float
) -> list[tuple[bool, list[int]]]:
    """Notes to place by side, none over full: those nearest the middle change sides."""
    room = inside.y1 - inside.y0
    free = sorted((index for index, note in enumerate(notes) if note.place is None), key=lambda i: notes[i].tip[0])
    lengths = [sizes[index][1] + gap for index in free]
    middle = inside.center[0]
    cut = sum(notes[index].tip[0] < middle for index in free)
    cuts = sorted(range(len(free) + 1), key=lambda c: (abs(c - cut), abs(2 * c - len(free))))
    for c in cuts:
        if sum(lengths[:c]) <= room and sum(lengths[c:]) <= room:
            return [(False, free[:c]), (True, free[c:])]
    raise InputError(
        f"{len(free)} notes do not fit beside the map: draw a larger figure, shorten the texts, or leave notes out"
    )


def _uncrossed(
    column: list[int],
    notes: Sequence[Note],
    sizes: Sequence[tuple[float, float]],
    edge: float,
    inside: Box,
    gap: float,
) -> list[tuple[int, float]]:
    """(note, height) from the bottom up: by the height of the tips, then swapped while lines cross."""
    order = sorted(column, key=lambda index: notes[index].tip[1])
    heights: np.ndarray = np.array([])
    for _ in range(len(order) ** 2 + 1):
        wanted = [notes[index].tip[1] for index in order]
        heights = stack(wanted, [sizes[index][1] + gap for index in order], inside.y0, inside.y1)
        ends = [((edge, float(height)), notes[index].tip) for index, height in zip(order, heights, strict=True)]
        pairs = ((i, j) for i in range(len(order)) for j in range(i + 1, len(order)))
        crossing = next((pair for pair in pairs if segments_cross(*ends[pair[0]], *ends[pair[1]])), None)
        if crossing is None:
            break
        i, j = crossing
        order[i], order[j] = order[j], order[i]
    return [(index, float(height)) for index, height in zip(order, heights, strict=True)]


def _start(index: int, notes: Sequence[Note], callouts: Sequence[Callout]) -> Point:
    """The point on a box's edge nearest to the tip from which the line meets no other box."""
    box, tip = callouts[index].box, notes[index].tip
    x, y = box.center
    nearest_point = min(max(tip[0], box.x0), box.x1), min(max(tip[1], box.y0), box.y1)
    corners = [(a, b) for a in (box.x0, x, box.x1) for b in (box.y0, y, box.y1) if (a, b) != (x, y)]
    starts = sorted([nearest_point, *corners], key=lambda p: (p[0] - tip[0]) ** 2 + (p[1] - tip[1]) ** 2)
    others = [one.box for other, one in enumerate(callouts) if other != index]
    outside = (p for p in starts if not box.hit_by(p, tip))
    return next((p for p in outside if not any(other.hit_by(p, tip) for other in others)), nearest_point)


def _check(notes: Sequence[Note], callouts: Sequence[Callout]) -> None:
    for index, one in enumerate(callouts):
        for other, another in enumerate(callouts):
            if other > index and one.box.overlaps(another.box):
                raise InputError(f"the boxes of notes {index + 1} and {other + 1} overlap; move one by its place")
            if other != index and another.box.hit_by(one.start, notes[index].tip):
                raise InputError(
                    f"the line of note {index + 1} runs through the box of note {other + 1}; move one by its place"
                )
        if one.box.hit_by(one.start, notes[index].tip):
            raise InputError(f"the box of note {index + 1} covers its own tip; move it by its place")


def draw_notes(
    page: Page,
    coords: np.ndarray,
    thumbnails: Sequence[bytes | None] | None,
    notes: Sequence[Note],
    seed: int,
) -> None:
    """Draw all notes: boxes, lines and the rings at their tips."""
    for number, note in enumerate(notes, 1):
        if not page.map.holds(Box(*note.tip, *note.tip)):
            raise InputError(f"the tip of note {number} lies outside the map, at {note.tip[0]:g}, {note.tip[1]:g}")
    pictured = [None] * len(coords) if thumbnails is None else thumbnails
    has_picture = np.array([one is not None for one in pictured])
    pictures = [pick_pictures(note, coords, has_picture, seed=seed) for note in notes]
    lines = [wrapped(note.text, _NOTE_POINTS, NOTE_INCHES - 2 * _PAD_INCHES) for note in notes]
    line = _NOTE_POINTS * LINE_HEIGHT / 72
    rows_of_pictures = [(_PICTURE_INCHES + _PAD_INCHES) * bool(rows) for rows in pictures]
    heights = [len(text) * line + row + 2 * _PAD_INCHES for text, row in zip(lines, rows_of_pictures, strict=True)]
    sizes = [(NOTE_INCHES * page.unit, height * page.unit) for height in heights]
    callouts = place_callouts(notes, sizes, page.map, 0.22 * page.unit, 0.12 * page.unit)
    for number, (note, callout) in enumerate(zip(notes, callouts, strict=True), 1):
        if not page.sheet.holds(callout.box):
            raise InputError(f"the box of note {number} would stand outside the figure; move its place")
        ends = np.array([callout.start, note.tip]).T
        page.axes.plot(*ends, color="white", lw=2.6, alpha=0.85, zorder=6.5)
        page.axes.plot(*ends, color=INK, lw=0.9, zorder=6.6)
        page.axes.plot(*note.tip, "o", ms=4.5, mfc="white", mec=INK, mew=1.1, zorder=6.9)
    for text, rows, callout in zip(lines, pictures, callouts, strict=True):
        _draw_note(page, text, [one for row in rows if (one := pictured[row]) is not None], callout.box)


def _draw_note(page: Page, lines: Sequence[str], pictures: Sequence[bytes], box: Box) -> None:
    unit, pad = page.unit, _PAD_INCHES * page.unit
    frame = FancyBboxPatch(
        (box.x0, box.y0),
        box.x1 - box.x0,
        box.y1 - box.y0,
        boxstyle=f"round,pad=0,rounding_size={0.06 * unit}",
        fc="white",
        ec="#c9ccd2",
        lw=0.8,
        zorder=7,
    )
    page.axes.add_patch(frame)
    for number, line in enumerate(lines):
        y = box.y1 - pad - number * _NOTE_POINTS * LINE_HEIGHT / 72 * unit
        page.write(box.x0 + pad, y, line, _NOTE_POINTS, {"va": "top", "zorder": 8})
    side = _PICTURE_INCHES * unit
    step = (box.x1 - box.x0 - 2 * pad - side) / 2
    for number, picture in enumerate(pictures):
        x = box.x0 + pad + number * step
        page.draw_picture(picture, Box(x, box.y0 + pad, x + side, box.y0 + pad + side), zorder=8)
