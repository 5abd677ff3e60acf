"""SimCLR: features from images nobody labelled (Chen et al. 2020, arXiv:2002.05709)."""

from typing import Any

from imagescape.learn.estimator import ContrastiveEstimator
from imagescape.learn.recipe import Recipe, Stage


class SimCLR(ContrastiveEstimator):
    """Learn features; `transform(images, return_features=True)` gives projections and features H.

    Args:
        epochs: Passes over the images.
        temperature: Of the cosine kernel.
        random_state: The seed.
        settings: Any other field of `Recipe`; `stages=` replaces epochs and temperature.
    """

    def __init__(
        self, *, epochs: int = 500, temperature: float = 0.5, random_state: int | None = None, **settings: Any
    ) -> None:
        arguments = {"epochs": epochs, "temperature": temperature, "random_state": random_state} | settings
        if random_state is not None:
            settings["seed"] = random_state
        settings.setdefault(
            "stages", (Stage(epochs=epochs, dimension=128, kernel="cosine", temperature=temperature, warmup_epochs=10),)
        )
        super().__init__(Recipe.of(**settings), arguments)
