"""Maps by other libraries behind the same protocol, to compare with: t-SNE, UMAP, PaCMAP.

Each takes what its library takes for granted and changes nothing of it but the seed and the dimensions of the map. They
see the same principal components as a neighbour map (128 at most), so that all are maps of the same thing.
"""

from typing import Any, Self

import numpy as np

from imagescape.errors import InputError, NotFitted, require
from imagescape.learn.neighbormap import COMPONENTS
from imagescape.learn.placing import Components
from imagescape.runtime import seed_for, worker_count


class LibraryMap:
    """What the three have in common.

    Args:
        out_dim: Dimensions of the map.
        random_state: The seed.
        settings: Of the library's own class, by its own names; they go before ours.

    Attributes after `fit`:
        coords_: (n, out_dim) float32, in the order given.

    Raises:
        MissingExtraError: the library is not installed.
    """

    package = ""
    extra = ""

    def __init__(self, *, out_dim: int = 2, random_state: int | None = None, **settings: Any) -> None:
        self._library = require(self.package, extra=self.extra)
        self.out_dim, self.seed, self.settings = out_dim, int(random_state or 0), settings
        self._components: Components | None = None

    def fit(self, features: np.ndarray) -> Self:
        features = np.asarray(features)
        if features.ndim != 2 or len(features) < 4:
            raise InputError(f"a map needs a matrix of at least 4 rows of features, got shape {features.shape}")
        self._components = Components.of(features, COMPONENTS)
        self.coords_ = np.asarray(self._fit(self._components.project(features)), np.float32)
        return self

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Places of new rows, by the library's own way; (m, out_dim) float32."""
        if self._components is None:
            raise NotFitted(f"this {type(self).__name__} has learned nothing yet: call fit")
        return np.asarray(self._place(self._components.project(np.asarray(features))), np.float32)

    def _fit(self, inputs: np.ndarray) -> np.ndarray:
        raise TypeError(f"{type(self).__name__} is no library's map")

    def _place(self, inputs: np.ndarray) -> np.ndarray:
        raise TypeError(f"{type(self).__name__} is no library's map")

    def _seed(self) -> int:
        return seed_for(self.seed, self.package) % 2**31


class TSNE(LibraryMap):
    """t-SNE by openTSNE (Poličar et al. 2024; van der Maaten and Hinton 2008)."""

    package, extra = "openTSNE", "tsne"

    def _fit(self, inputs: np.ndarray) -> np.ndarray:
        # Its perplexity means 3 times as many neighbours, and there may not be so many.
        perplexity = min(30.0, (len(inputs) - 1) / 3)
        settings = {"n_components": self.out_dim, "perplexity": perplexity, "n_jobs": worker_count()} | self.settings
        self._embedding = self._library.TSNE(random_state=self._seed(), **settings).fit(inputs)
        return np.asarray(self._embedding)

    def _place(self, inputs: np.ndarray) -> np.ndarray:
        return np.asarray(self._embedding.transform(inputs))


class UMAP(LibraryMap):
    """UMAP by umap-learn (McInnes et al. 2018, arXiv:1802.03426); with a seed it runs on one thread."""

    package, extra = "umap", "umap"

    def _fit(self, inputs: np.ndarray) -> np.ndarray:
        settings = {"n_components": self.out_dim, "n_neighbors": min(15, len(inputs) - 1), "n_jobs": 1} | self.settings
        self._reducer = self._library.UMAP(random_state=self._seed(), **settings)
        return np.asarray(self._reducer.fit_transform(inputs))

    def _place(self, inputs: np.ndarray) -> np.ndarray:
        return np.asarray(self._reducer.transform(inputs))


class PaCMAP(LibraryMap):
    """PaCMAP (Wang et al. 2021, arXiv:2012.04456)."""

    package, extra = "pacmap", "pacmap"

    def _fit(self, inputs: np.ndarray) -> np.ndarray:
        settings = {"n_components": self.out_dim} | self.settings
        self._inputs = inputs
        self._reducer = self._library.PaCMAP(random_state=self._seed(), **settings)
        return np.asarray(self._reducer.fit_transform(inputs))

    def _place(self, inputs: np.ndarray) -> np.ndarray:
        return np.asarray(self._reducer.transform(inputs, basis=self._inputs))
