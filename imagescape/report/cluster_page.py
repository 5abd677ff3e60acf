"""One clustering to look at: figures, plots, and the pictures of every cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imagescape.report.gallery import Fact, Panel, Row, glance, panel_section, picture_rows, write_gallery
from imagescape.report.markup import text

_ABOUT = (
    "The prototype is the most typical of the images that are surest to belong to the cluster. Those farthest from the "
    "centre show what else came into it. Point at a picture to read where it is. Dispersion: the mean distance of the "
    "images to the centre. Separation: from the centre to the nearest image of another cluster."
)


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
    articles = _index(cards) + "".join(_card(one) for one in cards)
    return write_gallery(
        path,
        title=title,
        about=about,
        links={"glance": "At a glance", **{one.key: one.title for one in panels}, "clusters": "The clusters"},
        sections=[
            glance(facts, notes),
            *(panel_section(one) for one in panels),
            f'<section id="clusters"><h2>The clusters</h2><p>{text(_ABOUT)}</p>{articles}</section>',
        ],
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
    about = f"<p>{text(card.about)}</p>" if card.about else ""
    return f'<article id="cluster{card.number}"><h3>{heading} {size}</h3>{about}{picture_rows(card.rows)}</article>'
