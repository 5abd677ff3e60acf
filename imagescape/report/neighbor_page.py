"""What a search found, to look at: one HTML file of queries and their neighbours that needs nothing else.

Two pages of one kind. The *contact sheet* shows queries and the nearest pictures. The *neighbour page* of an
experiment knows each query's true original: it shows that too, says where among the results it came, and sorts the
queries into incorrect, correct and matching nothing. All is plain HTML that shows without JavaScript; a small program
only adds the filters. The page's security policy forbids it to load anything, and names reach it as text only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imagescape.errors import InputError
from imagescape.evaluate.retrieval import NOTHING, ranks_of_truth
from imagescape.report.markup import filled, picture_address, text, write_page

Pictures = Callable[[int], bytes | None]

_SIDE_PX = 144  # longest side of a picture in the page, shown at up to 112


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A result: its id, its distance from the query (smaller is closer), and what to call it (its uri)."""

    id: int
    distance: float
    name: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A query, what to call it, and its results, nearest first."""

    query: int
    name: str
    neighbors: Sequence[Neighbor]


@dataclass(frozen=True, slots=True)
class Case:
    """An answer whose true original is known.

    Attributes:
        answer: The query and its results.
        family: What was done to the original, coarsely: what the page filters by.
        kind: The same, finely: what the page says.
        truth: The original; None for a query that matches nothing. Its `distance` may be NaN where nobody knows it.
    """

    answer: Answer
    family: str
    kind: str
    truth: Neighbor | None

    @property
    def place(self) -> int:
        """Where among the results the original is, from 1; 0 where it is not."""
        ids = [one.id for one in self.answer.neighbors]
        return ids.index(self.truth.id) + 1 if self.truth and self.truth.id in ids else 0


def choose_cases(
    ids: np.ndarray, truth: np.ndarray, families: Sequence[str] | np.ndarray, *, each: int = 4, seed: int = 0
) -> np.ndarray:
    """Queries worth a look: some incorrect and some correct ones of every family, and some that match nothing.

    Args:
        ids: Results, nearest first, (n, k) int64.
        truth: The id of each query's original, (n,) int64, -1 where it matches nothing.
        families: (n,).
        each: How many of each, at most.
        seed: Chooses among more.

    Returns:
        Rows, ascending int64.
    """
    families = np.asarray(families, dtype=str)
    outcome = np.where(truth == NOTHING, 2, np.minimum(ranks_of_truth(ids, truth) - 1, 1) == 0)
    order = np.random.default_rng(seed).permutation(len(truth))
    chosen = [
        order[(families[order] == family) & (outcome[order] == one)][:each]
        for family in np.unique(families)
        for one in (0, 1, 2)
    ]
    return np.sort(np.concatenate(chosen or [order])).astype(np.int64)


def write_contact_sheet(
    path: str | Path,
    answers: Sequence[Answer],
    *,
    query_picture: Pictures,
    picture: Pictures,
    title: str = "Search",
    about: str = "",
) -> Path:
    """Write queries and their neighbours as one HTML file.

    Args:
        path: The file, in a folder that exists.
        answers: In the order to show.
        query_picture: The encoded picture of a query by its id, None where it has none.
        picture: The same for results.
        title: Shown above.
        about: A line under the title: what was searched, and how near is measured.

    Raises:
        InputError: there is nothing to show, the folder is missing, or a picture cannot be decoded.
    """
    if not answers:
        raise InputError("a contact sheet needs at least one query, got none")
    shown = _Pictured(query_picture, picture)
    articles = "".join(_article(shown, one, heading="h2") for one in answers)
    count = f"{len(answers):,} quer{'y' if len(answers) == 1 else 'ies'}"
    return _write(path, title, " · ".join(filter(None, (about, count))), "", f"<section>{articles}</section>")


def write_neighbor_page(
    path: str | Path,
    cases: Sequence[Case],
    *,
    query_picture: Pictures,
    picture: Pictures,
    title: str = "Correct and incorrect neighbours",
    about: str = "",
) -> Path:
    """Write a sample of queries with their originals and neighbours as one HTML file.

    The first section is what went wrong; queries that match nothing come nearest first, as the nearest are those that
    would be taken for a match.

    Args:
        path: The file, in a folder that exists.
        cases: Any order; a few hundred make a page of some megabytes.
        query_picture: The encoded picture of a query by its id, None where it has none.
        picture: The same for results and originals.
        title: Shown above.
        about: A line under the title: the method, and how the sample was drawn.

    Raises:
        InputError: there is nothing to show, the folder is missing, or a picture cannot be decoded.
    """
    if not cases:
        raise InputError("a page of neighbours needs at least one query, got none")
    by_name = sorted(cases, key=lambda case: (case.family, case.kind, case.answer.name, case.answer.query))
    sections = {
        "incorrect": ("Incorrect", [case for case in by_name if case.truth and case.place != 1]),
        "correct": ("Correct", [case for case in by_name if case.truth and case.place == 1]),
        "nothing": ("Match nothing", sorted((case for case in cases if not case.truth), key=_nearest)),
    }
    shown = _Pictured(query_picture, picture)
    body, links = "", ""
    for name, (heading, members) in sections.items():
        if members:
            articles = "".join(_article(shown, case.answer, heading="h3", case=case) for case in members)
            body += f'<section id="{name}"><h2>{heading} <span>{len(members):,}</span></h2>{articles}</section>'
            links += f'<a href="#{name}">{heading} <span>{len(members):,}</span></a>'
    families = sorted({case.family for case in cases})
    options = "".join(f"<option>{text(family)}</option>" for family in families)
    select = f'<label id="filter" hidden>Family <select><option value="">all</option>{options}</select></label>'
    controls = f'<nav aria-label="Outcomes">{links}</nav>{select}<output for="filter" aria-live="polite"></output>'
    return _write(path, title, about, controls, body)


def _nearest(case: Case) -> float:
    return min((one.distance for one in case.answer.neighbors), default=np.inf)


class _Pictured:
    """Pictures as data: addresses, made small once each."""

    def __init__(self, query_picture: Pictures, picture: Pictures) -> None:
        self._sources: Mapping[str, Pictures] = {"query": query_picture, "result": picture}
        self._made: dict[tuple[str, int], str | None] = {}

    def image(self, source: str, number: int, words: str) -> str:
        key = source, number
        if key not in self._made:
            data = self._sources[source](number)
            self._made[key] = None if data is None else picture_address(data, f"{source} {number}", _SIDE_PX)
        address = self._made[key]
        if address is None:
            return '<span class="none">no picture</span>'
        return f'<img src="{address}" alt="{text(words)}" loading="lazy" decoding="async">'


def _article(shown: _Pictured, answer: Answer, *, heading: str, case: Case | None = None) -> str:
    """One query: its picture, its original where that is known, and its results."""
    about = case.kind if case else answer.name
    verdict = f"<p>{text(_verdict(case))}</p>" if case else ""
    figures = _figure("query", shown.image("query", answer.query, f"query: {about}"), "query", answer.name)
    if case and case.truth:
        distance = "original" + (f": {_number(case.truth.distance)}" if np.isfinite(case.truth.distance) else "")
        figures += _figure("truth", shown.image("result", case.truth.id, case.truth.name), distance, case.truth.name)
    results = "".join(
        _result(shown, place, one, is_truth=bool(case and case.place == place))
        for place, one in enumerate(answer.neighbors, 1)
    )
    results = f'<ol aria-label="results, nearest first">{results}</ol>' if results else "<p>nothing found</p>"
    family = f' data-family="{text(case.family)}"' if case else ""
    label = f"<small>{text(case.family)}</small>" if case and case.family != case.kind else ""
    head = f"<header><{heading}>{text(about)}</{heading}>{label}{verdict}</header>"
    return f"<article{family}>{head}<div><div>{figures}</div>{results}</div></article>"


def _verdict(case: Case) -> str:
    if case.truth is None:
        nearest = _nearest(case)
        return "its original is not in the database" + (f"; nearest {_number(nearest)}" if np.isfinite(nearest) else "")
    if case.place:
        return "original found first" if case.place == 1 else f"original found at place {case.place}"
    return f"original not among the {len(case.answer.neighbors)} nearest"


def _result(shown: _Pictured, place: int, one: Neighbor, *, is_truth: bool) -> str:
    words = f"{'✓ ' * is_truth}{place}: {_number(one.distance)}"
    image = shown.image("result", one.id, f"the original: {one.name}" if is_truth else one.name)
    figure = _figure("", image, words, one.name)
    return f'<li class="right">{figure}</li>' if is_truth else f"<li>{figure}</li>"


def _figure(kind: str, image: str, words: str, name: str) -> str:
    last = name.rstrip("/").rpartition("/")[2] or name  # of a path, what tells it from its neighbours
    caption = f'<b>{text(words)}</b><bdi title="{text(name)}">{text(last)}</bdi>'
    return f'<figure class="{kind}">{image}<figcaption>{caption}</figcaption></figure>'


def _number(distance: float) -> str:
    return "< 0.0001" if 0 < distance < 1e-4 else f"{distance:.4g}"


def _write(path: str | Path, title: str, about: str, controls: str, body: str) -> Path:
    parts = {"title": text(title), "about": text(about), "controls": controls, "body": body}
    return write_page(path, filled("neighbors", parts, script="neighbors.js"))
