"""The map while it is being learned: after each stage, and every few epochs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from imagescape.errors import InputError
from imagescape.learn.encoder import Encoder
from imagescape.learn.heads import principal_axes

# Projections of up to this many dimensions are a map that can be looked at.
_MAP_DIMENSIONS = 3

# (stage, epoch, coords (n, d)): stages count from 1, epochs are those done.
Callback = Callable[[int, int, np.ndarray], object]


@dataclass(kw_only=True)
class Snapshots:
    """What to keep of a training while it goes on, and what has been kept.

    Attributes:
        keep_stages: Whether to keep the map after each stage.
        epochs: Epochs from one snapshot to the next, in stages of up to 3 dimensions; None: no snapshots.
        callback: Given each snapshot.
        folder: Where each snapshot is saved, as `stage-2-epoch-10.npy`.
        stages: The map after each stage so far, on its principal axes: (n, d), and of more than 3 dimensions the
            first 2.
    """

    keep_stages: bool = False
    epochs: int | None = None
    callback: Callback | None = None
    folder: Path | None = None
    stages: list[Float[np.ndarray, "n d"]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not isinstance(self.keep_stages, bool):
            raise InputError(f"keep_stages must be true or false, got {self.keep_stages!r}")
        if self.epochs is None:
            if self.callback is not None:
                raise InputError("a callback is given the map every snapshot_epochs: say how many")
        elif not isinstance(self.epochs, int) or self.epochs < 1:
            raise InputError(f"snapshot_epochs must be a whole number of at least 1, got {self.epochs!r}")
        elif self.callback is None and self.folder is None:
            raise InputError("snapshots go to a callback or a run folder: give at least one of them")

    def after_stage(self, encoder: Encoder, pixels: Any) -> None:
        if self.keep_stages:
            _, coords = encoder.encode_pixels(pixels, quiet=True)
            mean, axes = principal_axes(coords)
            shown = coords.shape[1] if coords.shape[1] <= _MAP_DIMENSIONS else 2
            self.stages.append(((coords - mean) @ axes[:, :shown]).astype(np.float32))

    def after_epoch(self, stage: int, encoder: Encoder, pixels: Any, epoch: int, epochs: int) -> None:
        if self.epochs is None or epoch % self.epochs or encoder.architecture.out_features > _MAP_DIMENSIONS:
            return
        _, coords = encoder.encode_pixels(pixels, quiet=True)
        if self.folder is not None:
            self.folder.mkdir(exist_ok=True)
            path = self.folder / f"stage-{stage}-epoch-{epoch}.npy"
            part = path.with_suffix(".part")
            with part.open("wb") as file:
                np.save(file, coords)
            part.replace(path)
        if self.callback is not None:
            self.callback(stage, epoch, coords)
