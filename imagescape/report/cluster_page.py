"""One clustering to look at: an HTML file with figures and the pictures of every cluster that needs nothing else.

It is plain HTML without any program. Its security policy forbids it to load anything, and names reach it as text only.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imagescape.report.markup import filled, picture_address, text, write_page

_SIDE_PX = 152  # longest side of a picture in the page: twice what is shown, for fine screens
_PROTOTYPE_PX = 224
_ABOUT = (
    "The prototype is the most typical of the images that are surest to belong to the cluster. Those farthest from the "
    "centre show what else came into it. Point at a picture to read where it is. Dispersion: the mean distance of the "
    "images to the centre. Separation: from the centre to the nearest image of another cluster."
)


@dataclass(frozen=True, slots=True)
class Fact:
    """A figure that is one number, already written out, and what it means."""

    name: str
    value: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A picture of the whole clustering.

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
    """An image of a cluster: what it is called, and its encoded picture if there is one."""

    name: str
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Row:
    """Some images of a cluster, and what they have in common; `is_prototype` shows them large."""

    title: str
    pictures: Sequence[Picture]
    is_prototype: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    """A cluster.

    Attributes:
        number: Its label; -1 for the images that are in none.
        name: What it is called; "" for nothing.
        size: Its images.
        about: Its figures in words.
        rows: Its images.
    """

    number: int
    name: str
    size: int
    about: str
    rows: Sequence[Row]


def write_cluster_page(
    path: str | Path,
    *,
    title: str,
    about: str,
    facts: Sequence[Fact],
    notes: Sequence[str],
    panels: Sequence[Panel],
    cards: Sequence[Card],
) -> Path:
    """Write the page.

    Args:
        path: The file, in a folder that exists.
        title: Shown above.
        about: A line under the title: what was clustered, and how.
        facts: The figures at a glance.
        notes: What a reader must know beside them, and what is missing.
        panels: In the order to show.
        cards: The clusters, likewise.

    Raises:
        InputError: the folder is missing, or a picture cannot be decoded.
    """
    body = f'<section id="glance"><h2>At a glance</h2>{_facts(facts)}{_notes(notes)}</section>'
    body += "".join(_panel(one) for one in panels)
    articles = _index(cards) + "".join(_card(one) for one in cards)
    body += f'<section id="clusters"><h2>The clusters</h2><p>{text(_ABOUT)}</p>{articles}</section>'
    sections = [("glance", "At a glance"), *((one.key, one.title) for one in panels), ("clusters", "The clusters")]
    links = "".join(f'<a href="#{text(key)}">{text(name)}</a>' for key, name in sections)
    parts = {"title": text(title), "about": text(about), "links": links, "body": body}
    return write_page(path, filled("clusters", parts))


def _facts(facts: Sequence[Fact]) -> str:
    tiles = (
        f"<div><dt>{text(one.name)}</dt><dd><b>{text(one.value)}</b><small>{text(one.about)}</small></dd></div>"
        for one in facts
    )
    return f"<dl>{''.join(tiles)}</dl>"


def _notes(notes: Sequence[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{text(one)}</li>" for one in notes)}</ul>' if notes else ""


def _panel(panel: Panel) -> str:
    address = f"data:image/png;base64,{base64.b64encode(panel.png).decode()}"
    image = f'<img src="{address}" alt="{text(panel.title)}">'
    return (
        f'<section id="{text(panel.key)}"><h2>{text(panel.title)}</h2><p>{text(panel.about)}</p>'
        f'<figure class="plot">{image}</figure></section>'
    )


def _heading(card: Card) -> str:
    """`3 · lynx`, or what there is of it."""
    return "noise" if card.number < 0 else " · ".join(filter(None, (str(card.number), text(card.name))))


def _index(cards: Sequence[Card]) -> str:
    links = (f'<a href="#cluster{card.number}">{_heading(card)} <span>{card.size:,}</span></a>' for card in cards)
    return f'<nav class="index" aria-label="Clusters">{"".join(links)}</nav>'


def _card(card: Card) -> str:
    heading = _heading(card) if card.number < 0 or card.name else f"cluster {card.number}"
    size = f"<span>{card.size:,} image{'s' * (card.size != 1)}</span>"
    rows = "".join(_row(row) for row in card.rows if row.pictures)
    about = f"<p>{text(card.about)}</p>" if card.about else ""
    return (
        f'<article id="cluster{card.number}"><h3>{heading} {size}</h3>{about}<div class="rows">{rows}</div></article>'
    )


def _row(row: Row) -> str:
    side = _PROTOTYPE_PX if row.is_prototype else _SIDE_PX
    images = "".join(f"<li>{_image(one, side)}</li>" for one in row.pictures)
    kind = ' class="prototype"' if row.is_prototype else ""
    return f"<div{kind}><h4>{text(row.title)}</h4><ol>{images}</ol></div>"


def _image(picture: Picture, side_px: int) -> str:
    name = text(picture.name)
    if picture.data is None:
        return f'<span class="none" title="{name}">no picture</span>'
    address = picture_address(picture.data, picture.name, side_px)
    return f'<img src="{address}" alt="{name}" title="{name}" loading="lazy" decoding="async">'
