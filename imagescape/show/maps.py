"""Pictures and pages of a collection's maps: columns in, files out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow import types

from imagescape.collection.results import ids_of, map_coords, map_names, stage_coords, stage_names, user_columns
from imagescape.collection.store import Collection
from imagescape.errors import InputError
from imagescape.evaluate.map_quality import MapQuality
from imagescape.learn.encoder import read_config
from imagescape.pipeline.maps import training_history
from imagescape.report.callouts import read_notes
from imagescape.report.html_map import write_html_map
from imagescape.report.map_plot import draw_map, save_figure
from imagescape.report.quality_plot import draw_quality
from imagescape.report.side_by_side import draw_side_by_side
from imagescape.report.training_plot import draw_training

# A map of very many images shows a sample of their pictures; more would not be seen, and cost memory.
_PICTURES = 60_000
_THUMBNAIL_INCHES = 0.26
# The first of these that a collection has is what it is coloured by, or named by, when nothing is said.
_LABELS = ("label_name", "label", "group", "folder")
_NAMES = ("name", "uri")


def plot_map(
    scape: Collection,
    name: str,
    path: Path,
    *,
    color: str | None = None,
    thumbnails: bool = True,
    notes: Path | None = None,
    title: str | None = None,
    seed: int = 0,
) -> None:
    """Draw a map as PNG, SVG or PDF.

    Args:
        scape: The collection.
        name: Of the map, which must have two dimensions.
        path: Where to; its ending settles the kind.
        color: A column; None: labels where there are any.
        thumbnails: Place pictures where they do not overlap.
        notes: A YAML file of callouts.
        title: Above the picture.
        seed: Decides which points lie on top and which pictures are shown.

    Raises:
        InputError: an unknown map, column or ending, or notes that cannot be placed.
    """
    rows, coords = _placed(scape, name)
    color = color or default_color(scape)
    figure = draw_map(
        coords,
        values=None if color is None else _column(scape, color, rows),
        column=color or "",
        thumbnails=_pictures(scape, rows) if thumbnails or notes else None,
        thumbnail_inches=_THUMBNAIL_INCHES if thumbnails else 0.0,
        notes=() if notes is None else read_notes(notes, coords, ids_of(scape)[rows].tolist()),
        title=title if title is not None else scape.path.stem,
        seed=seed,
    )
    save_figure(figure, path)


def write_page(scape: Collection, name: str, path: Path, *, color: str | None = None, title: str | None = None) -> None:
    """Write a map as one self-contained page to look at in a browser; errors as for `plot_map`."""
    rows, coords = _placed(scape, name)
    first = color or default_color(scape)
    naming = next(column for column in _NAMES if column in scape.columns)
    columns = [name for name in user_columns(scape) if _goes_on_page(scape, name) and name != naming]
    if first is not None:
        columns = [first, *(name for name in columns if name != first)]
    names = _column(scape, naming, rows)
    write_html_map(
        path,
        coords,
        names=[Path(str(one)).name if naming == "uri" else str(one) for one in names],
        thumbnails=_pictures(scape, rows),
        columns={column: _column(scape, column, rows) for column in columns},
        color_by=color or "",  # the page takes the first that can be coloured by
        title=title if title is not None else scape.path.stem,
    )


def plot_training(scape: Collection, name: str, path: Path) -> None:
    """Draw the loss of a run over its stages; InputError when there is no such run."""
    history = training_history(scape, name)
    names = [f"stage {number}" for number in sorted({line["stage"] for line in history})]
    save_figure(draw_training(history, stage_names=names, title=f"training of '{name}'"), path)


def plot_quality(quality: MapQuality, path: Path) -> None:
    """Draw what was measured of a map's quality; InputError for another ending than .png, .svg or .pdf."""
    save_figure(draw_quality(quality, title=f"quality of the map '{quality.name}', {quality.rows:,} images"), path)


def plot_stages(
    scape: Collection, name: str, path: Path, *, color: str | None = None, title: str | None = None, seed: int = 0
) -> None:
    """Draw a map after each stage of its training, side by side; arguments and errors as for `plot_map`."""
    map_coords(scape, name)  # says so when there is no such map
    stages = stage_coords(scape, name)
    if any(coords.shape[1] < 2 for coords in stages):
        raise InputError(f"a picture needs 2 dimensions, a stage of '{name}' has 1")
    rows = np.flatnonzero(~np.isnan(stages[0][:, 0]))
    color = color or default_color(scape)
    recipe = read_config(scape.path / "models" / name)["recipe"]
    figure = draw_side_by_side(
        [coords[rows, :2] for coords in stages],
        names=[_stage_title(number, stage) for number, stage in enumerate(recipe["stages"], 1)],
        values=None if color is None else _column(scape, color, rows),
        column=color or "",
        title=title if title is not None else f"{scape.path.stem}: the map '{name}' after each stage",
        seed=seed,
    )
    save_figure(figure, path)


def plot_maps(
    scape: Collection,
    names: Sequence[str],
    path: Path,
    *,
    color: str | None = None,
    title: str | None = None,
    seed: int = 0,
) -> None:
    """Draw several maps side by side, of the images that are on all of them; arguments and errors as for `plot_map`."""
    maps = [map_coords(scape, name) for name in names]
    for name, coords in zip(names, maps, strict=True):
        _check_flat(name, coords)
    rows = np.flatnonzero(np.all([~np.isnan(coords[:, 0]) for coords in maps], axis=0))
    if not len(rows):
        raise InputError(f"no image is on all of the maps {', '.join(names)}")
    color = color or default_color(scape)
    figure = draw_side_by_side(
        [coords[rows] for coords in maps],
        names=[f"{name}\n{_origin(scape, name)}" for name in names],
        values=None if color is None else _column(scape, color, rows),
        column=color or "",
        title=title if title is not None else scape.path.stem,
        seed=seed,
    )
    save_figure(figure, path)


def _origin(scape: Collection, name: str) -> str:
    """What a map was made by, and from what."""
    config = read_config(scape.path / "models" / name)
    return f"{config['recipe']['method']} of " + (
        f"features '{config['features']}'" if "features" in config else "the images"
    )


def _stage_title(number: int, stage: dict[str, Any]) -> str:
    parts = {"all": "the whole network", "projector": "the head alone", "readout": "the last layer alone"}
    shown = "" if stage["dimension"] == 2 else ", first 2 "
    shown += "principal components" if stage["dimension"] > 3 else "of 3 axes" if shown else ""
    epochs = f"{stage['epochs']} epoch" + "s" * (stage["epochs"] > 1)
    return f"stage {number}: {parts[stage['trains']]}, {epochs}\n{stage['dimension']} dimensions{shown}"


def default_color(scape: Collection) -> str | None:
    """The column that says most about the images, where the collection came with one."""
    return next((column for column in _LABELS if column in scape.columns and _goes_on_page(scape, column)), None)


def _goes_on_page(scape: Collection, column: str) -> bool:
    """Text, numbers and booleans that came with the images; no coordinates, no bookkeeping."""
    kind = scape.schema.field(column).type
    plain = any(is_kind(kind) for is_kind in (types.is_string, types.is_integer, types.is_floating, types.is_boolean))
    results = [one for name in map_names(scape) for one in (name, *stage_names(scape, name))]
    computed = column.endswith(tuple(f"_{one}" for one in results)) and not column.startswith("cluster_")
    return plain and not computed and column not in ("uri", "status", "bytes")


def _placed(scape: Collection, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are on the map, and where, (n, 2)."""
    coords = map_coords(scape, name)
    _check_flat(name, coords)
    rows = np.flatnonzero(~np.isnan(coords[:, 0]))
    return rows, coords[rows]


def _check_flat(name: str, coords: np.ndarray) -> None:
    if coords.shape[1] != 2:
        raise InputError(f"a picture needs a map of 2 dimensions, '{name}' has {coords.shape[1]}")


def _column(scape: Collection, column: str, rows: np.ndarray) -> list[Any]:
    if column not in scape.columns:
        raise InputError(f"no column is called '{column}'; there are: {', '.join(user_columns(scape))}")
    return scape.read([column])[column].take(rows).to_pylist()


def _pictures(scape: Collection, rows: np.ndarray) -> list[bytes | None]:
    chosen = rows if len(rows) <= _PICTURES else np.sort(np.random.default_rng(0).permutation(rows)[:_PICTURES])
    found = scape.take(chosen, ["thumbnail"])["thumbnail"].to_pylist()
    by_row = dict(zip(chosen.tolist(), found, strict=True))
    return [by_row.get(row) for row in rows.tolist()]
