"""The page of an audit: duplicates side by side, leaks, oddities, bad images, doubtful labels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imagescape.collection.results import can_be_drawn, ids_of, map_coords
from imagescape.collection.store import Collection
from imagescape.collection.vectors import Places, numbers_of
from imagescape.pipeline.audit_memory import places_among
from imagescape.pipeline.auditing import Audit
from imagescape.report.gallery import (
    Fact,
    Panel,
    Picture,
    Row,
    glance,
    panel_section,
    picture_rows,
    write_gallery,
)
from imagescape.report.map_plot import draw_map, figure_png
from imagescape.report.markup import check_page_path, text

_FAMILIES = 8
_GROUP_IMAGES = 12  # of a group; more of one kind say nothing new

_ABOUT_ISSUES = {
    "dark": "Even the brightest parts are dark.",
    "bright": "Even the darkest parts are bright.",
    "blurry": "There are hardly any edges.",
    "low_information": "Nearly all of the picture is of the same few colours.",
    "odd_size": "Far larger or smaller than the others.",
    "odd_aspect_ratio": "Much wider than high, or higher than wide.",
    "grayscale": "No colour at all.",
    "uniform_border": "A frame of one colour takes much of the picture.",
    "blocky": "The blocks of strong JPEG compression show.",
}


@dataclass(frozen=True, slots=True)
class _Section:
    """A list of finds, of which the page shows the first.

    Attributes:
        key: Its place in the page's address.
        title: Shown above.
        about: How it is to be read.
        total: How many finds there are.
        rows: Those that are shown: what is said of them, the rows of the audit they are of, a word for each.
        is_list: One row a find, with a line of its own; else all in one.
    """

    key: str
    title: str
    about: str
    total: int
    rows: Sequence[tuple[str, Sequence[int], Sequence[str]]]


def write_audit_page(scape: Collection, audit: Audit, path: Path, *, finds: int = 40) -> Path:
    """Write the page.

    Args:
        scape: The collection.
        audit: Of it.
        path: The file, in a folder that exists.
        finds: Of each kind that are shown, the clearest first; the columns of the table hold all.

    Raises:
        InputError: the folder does not exist.
    """
    check_page_path(path)
    sections = [one for one in _sections(audit, finds) if one.total]
    pictures = _Pictures(scape, audit, (row for one in sections for _, rows, _ in one.rows for row in rows))
    panels = _map_panel(scape, audit)
    return write_gallery(
        path,
        title=f"{scape.path.stem}: audit",
        about=f"{len(audit):,} images; nothing was changed",
        links={
            "glance": "At a glance",
            **{one.key: one.title for one in panels},
            **{one.key: one.title for one in sections},
        },
        sections=[
            glance(_facts(audit), [*(f"not looked for: {one}" for one in audit.missing), f"near: {audit.rule}"]),
            *(panel_section(one) for one in panels),
            *(_markup(one, pictures, finds) for one in sections),
        ],
    )


def _facts(audit: Audit) -> list[Fact]:
    n = len(audit)
    facts = [
        Fact("images", f"{n:,}", f"{audit.flagged:,} more cannot be used"),
        Fact(
            "exact duplicates", f"{len(audit.exact.rows):,}", f"images in {len(audit.exact):,} groups of equal pixels"
        ),
        Fact("near-duplicates", f"{len(audit.groups.rows):,}", f"images in {len(audit.groups):,} groups, exact too"),
        Fact("more than one of each", f"{len(audit.kept.removed):,}", "images that could go; none was touched"),
    ]
    if audit.leaks is not None:
        counts, shares = audit.leaks.counts(), audit.leaks.shares()
        for a, b in zip(*np.nonzero(counts), strict=True):
            names = audit.leaks.splits[a], audit.leaks.splits[b]
            facts.append(
                Fact(f"{names[0]} in {names[1]}", f"{counts[a, b]:,}", f"images, {shares[a, b]:.1%} of {names[0]}")
            )
    facts.append(Fact("bad images", f"{int(audit.quality.has_issue.sum()):,}", "with one issue of quality or more"))
    if audit.outliers is not None:
        facts.append(Fact("oddities", f"{len(audit.outliers):,}", "the oddest, as many as were asked for"))
    if audit.doubts is not None:
        facts.append(Fact("doubtful labels", f"{len(audit.doubts):,}", f"of {len(audit.doubts.labels.labelled):,}"))
    if audit.displaced is not None:
        facts.append(Fact("displaced groups", f"{len(audit.displaced):,}", "clumps of one label in another's region"))
    return facts


def _sections(audit: Audit, finds: int) -> list[_Section]:
    n = len(audit)
    stays = np.ones(n, bool)
    stays[audit.kept.removed] = False
    sections = [
        _Section(
            "near",
            "Near-duplicates",
            "Groups side by side, the largest first: every image is near enough to the first of its group. What is "
            "marked would stay, the others could go.",
            len(audit.groups),
            [_group(rows, stays) for _, rows in zip(range(finds), audit.groups, strict=False)],
        ),
        _Section(
            "exact",
            "Exact duplicates",
            "Pictures with the same pixels, in files that may differ.",
            len(audit.exact),
            [_group(rows, stays) for _, rows in zip(range(finds), audit.exact, strict=False)],
        ),
    ]
    if audit.leaks is not None:
        leaks = audit.leaks
        order = np.argsort(leaks.distances, kind="stable")
        order = order[leaks.splits_of_rows[order] > leaks.splits_of_copies[order]]  # each pair once
        sections.append(
            _Section(
                "leaks",
                "Copies across splits",
                "An image and its nearest copy in another split: what is tested should not have been taught.",
                len(order),
                [
                    (
                        "",
                        [int(leaks.rows[one]), int(leaks.copies[one])],
                        [str(leaks.splits[leaks.splits_of_rows[one]]), str(leaks.splits[leaks.splits_of_copies[one]])],
                    )
                    for one in order[:finds].tolist()
                ],
            )
        )
    if audit.displaced is not None:
        sections.append(
            _Section(
                "displaced",
                "Displaced groups",
                "A clump of images of one label in the region of another: often a second subject in the picture, or a "
                "habit of whoever labelled. No single label need be wrong.",
                len(audit.displaced),
                [
                    (str(group), group.rows[: 2 * _GROUP_IMAGES].tolist(), [""] * min(len(group), 2 * _GROUP_IMAGES))
                    for group in audit.displaced.groups[:finds]
                ],
            )
        )
    if audit.doubts is not None:
        doubts, rows = audit.doubts, audit.doubts.rows
        sections.append(
            _Section(
                "labels",
                "Doubtful labels",
                "The most certain doubt first: below each image its label, and what its neighbours say.",
                len(rows),
                [
                    (
                        "",
                        rows[:finds].tolist(),
                        [f"{doubts.label_of(row)} → {doubts.suggestion_for(row)}" for row in rows[:finds].tolist()],
                    )
                ],
            )
        )
    if audit.outliers is not None:
        oddest = audit.outliers.rows[:finds].tolist()
        sections.append(
            _Section(
                "outliers",
                "Oddities",
                "The oddest first, and why.",
                len(audit.outliers),
                [("", oddest, [next(iter(audit.outliers.reasons(row)), "a little of everything") for row in oddest])],
            )
        )
    for issue, about in _ABOUT_ISSUES.items():
        rows = audit.quality.rows(issue)  # type: ignore[arg-type]
        score = audit.quality.scores[issue]  # type: ignore[index]
        sections.append(
            _Section(
                issue,
                issue.replace("_", " ").capitalize(),
                f"{about} The worst first, with their scores; below {getattr(audit.quality.thresholds, issue):g} is an "
                "issue.",
                len(rows),
                [("", rows[:finds].tolist(), [f"{score[row]:.2g}" for row in rows[:finds].tolist()])],
            )
        )
    return sections


def _group(rows: np.ndarray, stays: np.ndarray) -> tuple[str, list[int], list[str]]:
    shown = rows[:_GROUP_IMAGES]
    if len(rows) > _GROUP_IMAGES and not stays[shown].any():
        shown = np.append(shown[:-1], rows[stays[rows]][0])
    shown = shown.tolist()
    return f"{len(rows):,} images", shown, ["stays" if stays[row] else "" for row in shown]


class _Pictures:
    """Names and thumbnails of some rows of an audit."""

    def __init__(self, scape: Collection, audit: Audit, rows: Iterable[int]) -> None:
        wanted = np.unique(np.fromiter(rows, np.int64))
        table = Places(scape).take(audit.ids[wanted], ["uri", "thumbnail"])
        listed = zip(table["uri"].to_pylist(), table["thumbnail"].to_pylist(), strict=True)
        self._ids, self._known = (
            audit.ids,
            dict(zip(numbers_of(table["image_id"].to_numpy()).tolist(), listed, strict=True)),
        )

    def of(self, row: int, caption: str) -> Picture:
        uri, data = self._known.get(int(self._ids[row]), ("gone from the table", None))
        return Picture(uri, data, caption)


def _markup(section: _Section, pictures: _Pictures, finds: int) -> str:
    shown = [
        Row(title, [pictures.of(row, word) for row, word in zip(rows, words, strict=True)])
        for title, rows, words in section.rows
    ]
    more = f" The first {finds:,} are shown." if section.total > finds else ""
    return (
        f'<section id="{section.key}"><h2>{text(section.title)} <span>{section.total:,}</span></h2>'
        f"<p>{text(section.about)}{more}</p>{picture_rows(shown)}</section>"
    )


def _map_panel(scape: Collection, audit: Audit) -> list[Panel]:
    """The largest families of near-duplicates on the map."""
    name = audit.settings.map_name
    if name is None or not can_be_drawn(scape, name) or not len(audit.groups):
        return []
    coords = map_coords(scape, name)
    rows = places_among(audit.ids, numbers_of(ids_of(scape)))
    here = np.isfinite(coords[rows]).all(axis=1)
    family = audit.duplicates.components(audit.duplicates.pairs.loosest)
    sizes = np.bincount(family[family >= 0])
    called = np.full(len(audit), None, object)
    for rank, number in enumerate(np.argsort(-sizes, kind="stable")[:_FAMILIES].tolist(), 1):
        called[family == number] = f"family {rank}: {sizes[number]} images"
    if not here.any():
        return []
    figure = draw_map(
        coords[rows][here],
        values=called[here].tolist(),
        column="near-duplicates",
        kind="categorical",
        title=f"the map '{name}'",
        seed=audit.settings.seed,
    )
    about = (
        f"The {_FAMILIES} largest families of near-duplicates: a family is all that hangs together, image by image. "
        "All other images are grey."
    )
    return [Panel("map", "On the map", about, figure_png(figure))]
