"""SimCLR: features from images nobody labelled (Chen et al. 2020, arXiv:2002.05709)."""

from typing import Any

from imagescape.errors import InputError
from imagescape.learn.estimator import ContrastiveEstimator
from imagescape.learn.recipe import TINY, Recipe, Stage

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"epochs": 500, "learning_rate": 0.03, "backbone": "resnet18"},
    "tiny": {"epochs": 100, "learning_rate": 0.003, **TINY},
}


class SimCLR(ContrastiveEstimator):
    """Learn features; `transform(images, return_features=True)` gives projections and features H.

    Args:
        epochs: Passes over the images; None: the preset's.
        temperature: Of the cosine kernel.
        preset: "paper" or "tiny": defaults for everything else.
        random_state: The seed.
        settings: Any other field of `Recipe`. `stages=` takes the place of epochs and temperature.

    Raises:
        InputError: an unknown preset or setting, or one that another makes void.
    """

    def __init__(
        self,
        *,
        epochs: int | None = None,
        temperature: float = 0.5,
        preset: str = "paper",
        random_state: int | None = None,
        **settings: Any,
    ) -> None:
        if preset not in PRESETS:
            raise InputError(f"preset must be one of {', '.join(PRESETS)}, got '{preset}'")
        own = {"epochs": epochs, "temperature": temperature, "preset": preset, "random_state": random_state}
        arguments = own | settings
        if "stages" in settings and (epochs is not None or temperature != 0.5):
            raise InputError("stages say their own epochs and temperatures: give either stages, or these")
        settings = PRESETS[preset] | settings
        known_epochs, rate = settings.pop("epochs"), settings.pop("learning_rate")
        if "stages" not in settings:
            stage = Stage(
                epochs=known_epochs if epochs is None else epochs,
                dimension=128,
                kernel="cosine",
                temperature=temperature,
                learning_rate=rate,
                warmup_epochs=10,
            )
            settings["stages"] = (stage,)
        if random_state is not None:
            settings["seed"] = random_state
        super().__init__(Recipe.of(**settings), arguments)
