"""imagescape: point it at images nobody labelled; learn an encoder, map them, and look.

>>> import imagescape as ims                                    # doctest: +SKIP
>>> scape = ims.ingest("photos/", "photos.scape")
>>> model = ims.TSimCNE(epochs=(400, 25, 75), seed=0).fit(scape)
>>> xy = model.transform(["new.jpg", "newer.jpg"])
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Threads that wait for each other sleep instead of spinning: beside any other busy process spinning costs ten times
# what it saves. OpenMP reads it when torch is loaded, which is later.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from imagescape.collection.store import Collection
    from imagescape.explore.notebook import View
    from imagescape.learn.encoder import Encoder
    from imagescape.learn.finetuning import Finetune
    from imagescape.learn.multihead import MultiHead
    from imagescape.learn.neighbormap import NeighborMap
    from imagescape.learn.recipe import Recipe, Stage
    from imagescape.learn.scan import SCAN
    from imagescape.learn.scan_images import ScanImages
    from imagescape.learn.simclr import SimCLR
    from imagescape.learn.tsimcne import TSimCNE

# Public name -> its module: torch and Lance take seconds to import, and wait until they are needed.
_HOMES = {
    "Collection": "imagescape.collection.store",
    "Encoder": "imagescape.learn.encoder",
    "Finetune": "imagescape.learn.finetuning",
    "MultiHead": "imagescape.learn.multihead",
    "NeighborMap": "imagescape.learn.neighbormap",
    "Recipe": "imagescape.learn.recipe",
    "SCAN": "imagescape.learn.scan",
    "ScanImages": "imagescape.learn.scan_images",
    "SimCLR": "imagescape.learn.simclr",
    "Stage": "imagescape.learn.recipe",
    "TSimCNE": "imagescape.learn.tsimcne",
}

__all__ = [
    "SCAN",
    "Collection",
    "Encoder",
    "Finetune",
    "MultiHead",
    "NeighborMap",
    "Recipe",
    "ScanImages",
    "SimCLR",
    "Stage",
    "TSimCNE",
    "ingest",
    "open",
    "view",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'imagescape' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


def open(path: str) -> "Collection":
    """The collection in the folder `path`, such as "photos.scape"."""
    from imagescape.collection.store import Collection

    return Collection.open(path)


def view(scape: Any, **options: Any) -> "View":
    """Show a collection in a notebook; what is selected in the page is in `.selection`.

    Args:
        scape: The collection, or its folder.
        options: `height_px`, `address`, `names`, `read_only`, `device`; see `explore.notebook.View`.
    """
    from imagescape.collection.store import Collection
    from imagescape.explore.notebook import View

    return View(scape if isinstance(scape, Collection) else Collection.open(scape), **options)


def ingest(source: Any, path: str | None = None, **options: Any) -> "Collection":
    """Read images into a collection, or add what is new to one.

    Args:
        source: A folder, a list of paths, CSV, Parquet, an array, a torch Dataset…: all that the
            command `imagescape ingest` takes, and what is in memory.
        path: Of the collection; by default `NAME.scape` beside the working folder, after the source.
        options: `embed`, `salvage_truncated`, `max_pixels`, `glob`, `layout`.
    """
    from pathlib import Path

    from imagescape.collection.ingest import ingest as ingest_sources
    from imagescape.collection.store import Collection
    from imagescape.errors import InputError

    if path is None:
        if not isinstance(source, (str, Path)):
            raise InputError("a collection of images in memory needs a name: ingest(images, 'NAME.scape')")
        path = Path(source).absolute().name.partition(".")[0] + ".scape"
    ingest_sources([source], path, **options)
    return Collection.open(path)
