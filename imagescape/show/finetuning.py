"""A run of `finetune` as one page: retrieval, thresholds and geometry by epoch."""

import io
from pathlib import Path

from matplotlib.figure import Figure

from imagescape.evaluate.looks import worst_family
from imagescape.pipeline.finetuning_figures import FinetuningFigures
from imagescape.report.finetuning_page import write_finetuning_page
from imagescape.report.finetuning_plots import (
    draw_families,
    draw_geometry_by_epoch,
    draw_retrieval_by_epoch,
    draw_threshold_by_epoch,
)
from imagescape.report.gallery import Fact, Panel

_DPI = 130


def write_finetuning(figures: FinetuningFigures, path: Path) -> Path:
    """Write the page.

    Raises:
        InputError: the folder of `path` is missing.
    """
    before, kept = figures.looks[0], figures.kept
    family, change = worst_family(before, kept)
    names = (
        ("recall@1", "recall_at_1"),
        ("average precision", "average_precision"),
        ("recall at 90 %", "recall_at_precision"),
    )
    facts = [
        Fact(name, f"{getattr(kept.figures, field):.3f}", f"before {getattr(before.figures, field):.3f}")
        for name, field in names
    ]
    facts += [
        Fact(f"{name}, unseen", f"{getattr(kept.unseen, field):.3f}", f"before {getattr(before.unseen, field):.3f}")
        for name, field in names
    ]
    notes = [
        f"Kept: {kept.name}. Largest loss or least gain of recall@1 of a kind: {family}, {100 * change:+.1f} points."
    ]
    if figures.regressed:
        notes.insert(0, f"Fine-tuning made '{figures.encoder}' worse; the old encoder stays what is used.")
    panels = [
        Panel("retrieval", "Retrieval", "Altered copies of images that were not trained on, searched for their "
              "originals.", _png(draw_retrieval_by_epoch(figures.looks))),
        Panel("families", "Kinds of alteration", "Before, and as it was kept.", _png(draw_families(before, kept))),
        Panel("threshold", "Threshold", "Whether one distance tells copies from others, also of kinds that nobody "
              "set it on.", _png(draw_threshold_by_epoch(figures.looks))),
        Panel("geometry", "Geometry", f"Of {figures.groups}, a point a group; features brought to unit length. SN1: "
              "diameter over separation; SN2: dispersion over distance between centroids.",
              _png(draw_geometry_by_epoch(figures.geometries))),
    ]  # fmt: skip
    return write_finetuning_page(
        path,
        title=f"Fine-tuning '{figures.name}'",
        about=f"{figures.encoder}, by the recipe '{figures.recipe}'",
        facts=facts,
        notes=notes,
        panels=panels,
        looks=figures.looks,
        kept=kept,
    )


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": "imagescape"})
    return buffer.getvalue()
