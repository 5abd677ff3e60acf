"""t-SimCNE: a network that maps an image straight to a 2-D map (Boehm, Berens and Kobak 2023, arXiv:2210.09879).

Two augmentations of an image are pulled together and all other images pushed away under the
heavy-tailed Cauchy kernel of t-SNE; first in 128 dimensions, then in 2.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

from imagescape.errors import InputError
from imagescape.learn.estimator import ContrastiveEstimator
from imagescape.learn.recipe import TINY, Recipe, Stage


def stages_of(epochs: Sequence[int] | None, stages: Sequence[Stage], out_dim: int = 2) -> tuple[Stage, ...]:
    """Three stages with other epochs, those of 0 left out, and other dimensions of the map.

    Raises:
        InputError: `epochs` are not three whole numbers.
    """
    counts = [stage.epochs for stage in stages] if epochs is None else epochs
    whole = isinstance(counts, Iterable) and all(isinstance(count, Integral) and count >= 0 for count in counts)
    if not whole or len(counts) != len(stages) or not any(counts):
        raise InputError(f"epochs must be {len(stages)} numbers, one a stage, such as 400,25,75; got {epochs}")
    return tuple(
        replace(stage, epochs=int(count), dimension=out_dim if stage.dimension == 2 else stage.dimension)
        for stage, count in zip(stages, counts, strict=True)
        if count
    )


# The paper's three stages: 128 dimensions; a new last layer alone; everything, at a thousandth of the rate.
PAPER = (
    Stage(epochs=1000, dimension=128, warmup_epochs=10),
    Stage(epochs=50, dimension=2, trains="readout"),
    Stage(epochs=450, dimension=2, learning_rate=0.03 / 1000, warmup_epochs=10),
)
# For little time; docs/experiments.md says what was tried. In so few steps Adam learns faster than SGD, the cosine
# kernel makes features that a map comes from, and the whole head unfolds it from them.
QUICK = (
    Stage(epochs=100, dimension=128, kernel="cosine", temperature=0.5, learning_rate=0.003, warmup_epochs=1),
    Stage(epochs=60, dimension=2, learning_rate=0.005, warmup_epochs=1, trains="projector"),
    Stage(epochs=20, dimension=2, learning_rate=0.0003, warmup_epochs=1),
)

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"stages": PAPER, "backbone": "resnet18", "stem": "small"},
    "fast": {
        "stages": (replace(QUICK[0], learning_rate=0.0015), *QUICK[1:]),
        "backbone": "resnet18",
        "stem": "small",
        "optimizer": "adamw",
        "batch_limit": 512,
    },
    "tiny": {"stages": QUICK, **TINY},
}


class TSimCNE(ContrastiveEstimator):
    """Learn a map of images: `fit`, then `transform` puts any image on it.

    Args:
        epochs: Of the three stages; None: the preset's. A stage of 0 epochs is left out.
        out_dim: Dimensions of the map: 2, 3 or any.
        preset: "paper", "fast" or "tiny": defaults for everything else.
        random_state: The seed.
        settings: Any other field of `Recipe`. `stages=` takes the place of epochs and out_dim.

    Raises:
        InputError: an unknown preset or setting, or one that another makes void.

    >>> TSimCNE(epochs=(20, 2, 5), random_state=1).recipe.stages[1].trains
    'readout'
    """

    _straighten = True

    def __init__(
        self,
        *,
        epochs: Sequence[int] | None = None,
        out_dim: int = 2,
        preset: str = "paper",
        random_state: int | None = None,
        **settings: Any,
    ) -> None:
        if preset not in PRESETS:
            raise InputError(f"preset must be one of {', '.join(PRESETS)}, got '{preset}'")
        own = {"epochs": epochs, "out_dim": out_dim, "preset": preset, "random_state": random_state}
        arguments = own | settings
        if "stages" in settings and (epochs is not None or out_dim != 2):
            raise InputError("stages say their own epochs and dimensions: give either stages, or epochs and out_dim")
        settings = PRESETS[preset] | settings
        if "stages" not in arguments:
            settings["stages"] = stages_of(epochs, settings["stages"], out_dim)
        if random_state is not None:
            settings["seed"] = random_state
        super().__init__(Recipe.of(**settings), arguments)
