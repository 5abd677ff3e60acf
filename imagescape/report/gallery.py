"""What pages of pictures are made of: facts at a glance, plots, rows of images; one file that needs nothing else.

They are plain HTML without any program. Their security policy forbids them to load anything, and names reach them as
text only.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagescape.report.markup import filled, picture_address, text, write_page

_SIDE_PX = 152  # longest side of a picture in the page: twice what is shown, for fine screens
_LARGE_PX = 224


@dataclass(frozen=True, slots=True)
class Fact:
    """A figure that is one number, already written out, and what it means."""

    name: str
    value: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A picture of the whole.

    Attributes:
        key: Of letters and -, its place in the page's address.
        title: Shown above.
        about: How it is to be read.
        png: The picture.
    """

    key: str
    title: str
    about: str
    png: bytes


@dataclass(frozen=True, slots=True)
class Picture:
    """An image: what it is called, its encoded picture if there is one, and a word to stand below it."""

    name: str
    data: bytes | None
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Some images, and what they have in common; `is_large` shows them large."""

    title: str
    pictures: Sequence[Picture]
    is_large: bool = False


def write_gallery(
    path: str | Path, *, title: str, about: str, links: Mapping[str, str], sections: Sequence[str]
) -> Path:
    """Write a page.

    Args:
        path: The file, in a folder that exists.
        title: Shown above.
        about: A line under the title.
        links: To parts of the page: their title by their key.
        sections: The parts, as markup.

    Raises:
        InputError: the folder is missing.
    """
    anchors = "".join(f'<a href="#{text(key)}">{text(name)}</a>' for key, name in links.items())
    parts = {"title": text(title), "about": text(about), "links": anchors, "body": "".join(sections)}
    return write_page(path, filled("gallery", parts))


def glance(facts: Sequence[Fact], notes: Sequence[str]) -> str:
    """The section `glance`: figures, and what a reader must know beside them."""
    tiles = "".join(
        f"<div><dt>{text(one.name)}</dt><dd><b>{text(one.value)}</b><small>{text(one.about)}</small></dd></div>"
        for one in facts
    )
    listed = f'<ul class="notes">{"".join(f"<li>{text(one)}</li>" for one in notes)}</ul>' if notes else ""
    return f'<section id="glance"><h2>At a glance</h2><dl>{tiles}</dl>{listed}</section>'


def panel_section(panel: Panel) -> str:
    """A section with one plot."""
    address = f"data:image/png;base64,{base64.b64encode(panel.png).decode()}"
    image = f'<img src="{address}" alt="{text(panel.title)}">'
    return (
        f'<section id="{text(panel.key)}"><h2>{text(panel.title)}</h2><p>{text(panel.about)}</p>'
        f'<figure class="plot">{image}</figure></section>'
    )


def picture_rows(rows: Sequence[Row]) -> str:
    """Rows of images beside each other; those without images are left out."""
    return f'<div class="rows">{"".join(_row(row) for row in rows if row.pictures)}</div>'


def _row(row: Row) -> str:
    side = _LARGE_PX if row.is_large else _SIDE_PX
    images = "".join(f"<li>{_image(one, side)}</li>" for one in row.pictures)
    kind = ' class="large"' if row.is_large else ""
    title = f"<h4>{text(row.title)}</h4>" if row.title else ""
    return f"<div{kind}>{title}<ol>{images}</ol></div>"


def _image(picture: Picture, side_px: int) -> str:
    name = text(picture.name)
    caption = f"<small>{text(picture.caption)}</small>" if picture.caption else ""
    if picture.data is None:
        return f'<span class="none" title="{name}">no picture</span>{caption}'
    address = picture_address(picture.data, picture.name, side_px)
    return f'<img src="{address}" alt="{name}" title="{name}" loading="lazy" decoding="async">{caption}'
