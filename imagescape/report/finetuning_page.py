"""A fine-tuning to look at: one HTML file of figures and pictures that needs nothing else."""

from collections.abc import Sequence
from pathlib import Path

from imagescape.evaluate.looks import Look
from imagescape.report.gallery import Fact, Panel, glance, panel_section, write_gallery
from imagescape.report.markup import text


def write_finetuning_page(
    path: str | Path,
    *,
    title: str,
    about: str,
    facts: Sequence[Fact],
    notes: Sequence[str],
    panels: Sequence[Panel],
    looks: Sequence[Look],
    kept: Look,
) -> Path:
    """Write the page.

    Args:
        path: The file, in a folder that exists.
        title: Shown above.
        about: A line under the title: what was trained, on what, by what.
        facts: The figures at a glance.
        notes: What a reader must know beside them; a regression first of all.
        panels: Pictures, in the order to show.
        looks: Every look, for the table.
        kept: The one at the network that was kept.

    Raises:
        InputError: the folder is missing.
    """
    return write_gallery(
        path,
        title=title,
        about=about,
        links={"glance": "At a glance", **{one.key: one.title for one in panels}, "looks": "Every look"},
        sections=[
            glance(facts, notes),
            *(panel_section(one) for one in panels),
            f'<section id="looks"><h2>Every look</h2>{_table(looks, kept)}</section>',
        ],
    )


def _table(looks: Sequence[Look], kept: Look) -> str:
    heads = ("network", "recall@1", "average precision", "recall at 90 %", "unseen: recall@1", "average precision",
             "recall at 90 %")  # fmt: skip
    rows = []
    for one in looks:
        values = [
            getattr(figures, field)
            for figures in (one.figures, one.unseen)
            for field in ("recall_at_1", "average_precision", "recall_at_precision")
        ]
        name = f"<b>{text(one.name)}</b> (kept)" if one == kept else text(one.name)
        rows.append(f"<tr><td>{name}</td>{''.join(f'<td>{value:.3f}</td>' for value in values)}</tr>")
    head = "".join(f"<th>{one}</th>" for one in heads)
    return f'<table class="figures"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
