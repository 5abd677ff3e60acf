"""The demo: draw the emoji, learn a map of them, measure and show it."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imagescape.collection.ingest import ingest
from imagescape.collection.results import features, map_coords, map_names
from imagescape.collection.store import Collection
from imagescape.demo import openmoji
from imagescape.evaluate.metrics import family_recall, purity_at
from imagescape.evaluate.neighbors import Metric
from imagescape.pipeline.maps import map_images
from imagescape.show.maps import plot_map, write_page

MAP = "tsimcne"
# What the figures are compared with: the emoji as plain pixels.
_PIXELS_PX = 16
_MEASURES = ("flags", "groups", "skin tones")


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demo found.

    Attributes:
        figures: Space ("pixels", "features", "map") -> measure -> value in [0, 1]. "flags": share of
            flags among the 10 neighbours of a flag; "groups": share of the same Unicode group among the 10
            neighbours of any emoji; "skin tones": share of an emoji's skin-tone variants among its 10 neighbours.
        images: How many.
        training_seconds: What learning took, 0 when the map was there already.
        files: What was written.
    """

    figures: dict[str, dict[str, float]]
    images: int
    training_seconds: float
    files: tuple[Path, ...]

    def __str__(self) -> str:
        lines = [f"{self.images} emoji; share of the 10 nearest neighbours that are of the same kind:", ""]
        lines.append(f"{'':10}" + "".join(f"{measure:>12}" for measure in _MEASURES))
        for space, values in self.figures.items():
            lines.append(f"{space:10}" + "".join(f"{values[measure]:12.3f}" for measure in _MEASURES))
        if self.training_seconds:
            lines += ["", f"The training took {self.training_seconds / 60:.1f} minutes."]
        return "\n".join([*lines, "", *map(str, self.files), "", openmoji.ATTRIBUTION])


def run_demo(folder: Path, *, minutes: float = 4, seed: int = 0, device: str = "auto") -> DemoReport:
    """Draw 4,495 emoji, learn a map of them in `minutes`, and show it.

    Writes `demo-emoji/` (the pictures), `demo.scape/` (the collection, with `report.json`), `map.png`
    and `map.html` into `folder`. What an earlier run has done is not done again.

    Raises:
        MissingExtraError: the package with the emoji is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    catalogue = openmoji.write_folder(folder / "demo-emoji")
    ingest([catalogue], folder / "demo.scape")
    scape = Collection.open(folder / "demo.scape")
    seconds = 0.0
    if MAP not in map_names(scape):
        began = time.monotonic()
        map_images(scape, MAP, preset="tiny", minutes=minutes, seed=seed, device=device)
        seconds = time.monotonic() - began
    figures = measure(scape, device)
    files = (folder / "map.png", folder / "map.html", scape.path / "report.json")
    plot_map(
        scape, MAP, files[0], color="group", title=f"{len(scape):,} emoji, laid out by what they look like", seed=seed
    )
    write_page(scape, MAP, files[1], color="group", title=f"{len(scape):,} emoji")
    report = DemoReport(figures, len(scape), seconds, files)
    files[2].write_text(json.dumps({"figures": figures, "training_seconds": seconds, "minutes": minutes}, indent=2))
    return report


def measure(scape: Collection, device: str = "auto") -> dict[str, dict[str, float]]:
    """Neighbour purity and recall of what is known of the emoji, in pixels, features and map."""
    table = scape.read(["group", "skintone_family"], where="status = 'ok'")
    groups, families = (table[column].to_pylist() for column in ("group", "skintone_family"))
    is_flag = [group == "flags" for group in groups]
    pixels = np.asarray(scape.pixels(_PIXELS_PX)).reshape(len(groups), -1).astype(np.float32)
    spaces: dict[str, tuple[np.ndarray, Metric]] = {
        "pixels": (pixels, "cosine"),
        "features": (features(scape, MAP), "cosine"),
        "map": (map_coords(scape, MAP), "euclidean"),
    }
    return {
        space: {
            "flags": purity_at(x, is_flag, metric=metric, device=device).per_group[True],
            "groups": purity_at(x, groups, metric=metric, device=device).value,
            "skin tones": family_recall(x, families, metric=metric, device=device).value,
        }
        for space, (x, metric) in spaces.items()
    }
