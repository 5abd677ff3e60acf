"""t-SimCNE: a network that maps an image straight to a 2-D map (Boehm, Berens and Kobak 2023, arXiv:2210.09879).

Two augmentations of an image are pulled together and all other images pushed away under the
heavy-tailed Cauchy kernel of t-SNE; first in 128 dimensions, then in 2.
"""

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

from imagescape.errors import InputError
from imagescape.learn.estimator import ContrastiveEstimator
from imagescape.learn.recipe import Recipe, Stage

# Epochs of the three stages in the paper's full run, ResNet18, batch 1024.
PAPER_EPOCHS = (1000, 50, 450)

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"epochs": PAPER_EPOCHS, "backbone": "resnet18", "stem": "small", "batch_size": 1024},
    "fast": {"epochs": (100, 10, 40), "backbone": "resnet18", "stem": "small", "batch_size": 1024},
    "tiny": {"epochs": (40, 5, 10), "backbone": "resnet10", "stem": "strided", "width": 32, "size_px": 32},
}


def paper_stages(epochs: Sequence[int], out_dim: int = 2) -> tuple[Stage, ...]:
    """The three stages of the paper: 128 dimensions; a new last layer alone; everything, at a thousandth of the rate.

    Args:
        epochs: Of the three; a stage of 0 epochs is left out.
        out_dim: Dimensions of the map.
    """
    counts = [int(count) for count in epochs if isinstance(count, Integral)] if isinstance(epochs, Iterable) else []
    if len(counts) != 3 or min(counts) < 0 or not any(counts):
        raise InputError(f"epochs must be three numbers, one a stage, such as 400,25,75; got {epochs}")
    learn, place, refine = counts
    stages = []
    if learn:
        stages.append(Stage(epochs=learn, dimension=128, warmup_epochs=10))
    if place:
        stages.append(Stage(epochs=place, dimension=out_dim, trains="readout"))
    if refine:
        stages.append(Stage(epochs=refine, dimension=out_dim, learning_rate=0.03 / 1000, warmup_epochs=10))
    return tuple(stages)


class TSimCNE(ContrastiveEstimator):
    """Learn a map of images: `fit`, then `transform` puts any image on it.

    Args:
        epochs: Of the paper's three stages.
        out_dim: Dimensions of the map: 2, 3 or any.
        preset: "paper", "fast" or "tiny": defaults for everything else.
        random_state: The seed.
        settings: Any other field of `Recipe`; `stages=` replaces epochs and out_dim.

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
        settings = PRESETS[preset] | settings
        preset_epochs = settings.pop("epochs")
        settings.setdefault("stages", paper_stages(preset_epochs if epochs is None else epochs, out_dim))
        if random_state is not None:
            settings["seed"] = random_state
        super().__init__(Recipe.of(**settings), arguments)
