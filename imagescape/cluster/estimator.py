"""What all estimators of clusters share: rows as they take them, the order of labels, saving and loading."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
from jaxtyping import Float, Int
from safetensors.numpy import load_file
from safetensors.numpy import save as to_safetensors

from imagescape.errors import InputError, NotFitted
from imagescape.model_folder import read_recipe, reading_weights, write_model

NOISE = -1

Metric = Literal["euclidean", "cosine", "hamming"]

_FINITE_ROWS = 2**14  # rows looked through at once


class Assigned(NamedTuple):
    """To which cluster rows belong.

    Attributes:
        labels: (n,) int64; -1 for noise.
        probabilities: How sure that is, (n,) float32 in [0, 1]; 0 for noise.
    """

    labels: np.ndarray
    probabilities: np.ndarray


class Clusterer(ABC):
    """An estimator of clusters: `fit`, then `predict` for new rows where that means something.

    Labels are numbered by falling size, 0 being the largest cluster; of equally large ones the one whose first row
    comes first. -1 is noise.

    Attributes after `fit`:
        labels_: Of the rows it was fitted on, (n,) int64.
        probabilities_: (n,) float32 in [0, 1]; each method says what they are.
    """

    labels_: np.ndarray
    probabilities_: np.ndarray
    _arguments: dict[str, Any]

    @abstractmethod
    def fit(self, features: Float[np.ndarray, "n d"], y: object = None) -> Self:
        """Find the clusters of `features`; `y` is ignored, and there for scikit-learn."""

    @abstractmethod
    def assign(self, features: Float[np.ndarray, "m d"]) -> Assigned:
        """Labels and probabilities of new rows, in the order given."""

    @abstractmethod
    def _arrays(self) -> dict[str, np.ndarray]:
        """What `assign` needs, to be saved."""

    @abstractmethod
    def _restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take up what `_arrays` gave; KeyError where something is missing."""

    @property
    def labellings_(self) -> dict[str, Int[np.ndarray, " n"]]:
        """Other clusterings that were found beside `labels_`, by a short name: cuts, several eps, layers."""
        return {}

    def predict_labellings(self, features: Float[np.ndarray, "m d"]) -> dict[str, Int[np.ndarray, " m"]]:
        """Clusters of new rows in each of `labellings_`; errors as `predict`."""
        return {}

    def predict(self, features: Float[np.ndarray, "m d"]) -> Int[np.ndarray, " m"]:
        """Clusters of new rows, (m,) int64, in the order given.

        Raises:
            InputError: another number of features than it was fitted on, or values that are not finite.
            NotFitted: before `fit`.
        """
        return self.assign(features).labels

    def fit_predict(self, features: Float[np.ndarray, "n d"], y: object = None) -> Int[np.ndarray, " n"]:
        """`fit`, then `labels_`."""
        return self.fit(features).labels_

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments it was made with, by name (scikit-learn)."""
        return dict(self._arguments)

    def set_params(self, **values: Any) -> Self:
        """Change arguments for the next `fit` (scikit-learn)."""
        self.__init__(**(self._arguments | values))  # type: ignore[misc]
        return self

    def save(self, folder: str | Path, **about: Any) -> None:
        """Write the model: `config.json`, with what is said `about` it in plain values, and `weights.safetensors`."""
        self._check_fitted()
        arrays = {name: np.ascontiguousarray(array) for name, array in self._arrays().items()}
        write_model(folder, type(self).__name__, self._arguments, to_safetensors(arrays), about)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a saved model, ready to `predict`.

        Raises:
            CheckpointError: not a model of this method, damaged, or of a newer imagescape.
        """
        saved = read_recipe(folder, cls.__name__)
        with reading_weights(folder) as path:
            model = cls(**saved)
            model._restore(load_file(path))
        return model

    def _check_fitted(self) -> None:
        if not self._is_fitted():
            raise NotFitted(f"this {type(self).__name__} has found no clusters yet: call fit, or load a saved one")

    @abstractmethod
    def _is_fitted(self) -> bool:
        """Whether there is something to predict with."""


def check_metric(metric: str, known: tuple[str, ...] = get_args(Metric)) -> None:
    if metric not in known:
        raise InputError(f"metric must be one of {', '.join(known)}, got '{metric}'")


def check_count(name: str, value: object, least: int) -> None:
    """Refuse what is no whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}")


def prepared(features: np.ndarray, metric: Metric, *, width: int | None = None) -> Float[np.ndarray, "n e"]:
    """Rows in the form whose Euclidean distances are those of `metric`, or rise with them.

    Args:
        features: (n, d), any real dtype; for "hamming" hashes packed 8 bits a byte, uint8.
        metric: "euclidean": rows as they are. "cosine": rows of length 1, whose squared distance is twice the cosine
            distance. "hamming": bits as 0 and 1, whose squared distance is the number of bits that differ.
        width: Entries a row must have, in the form that is returned; None: any.

    Returns:
        (n, d) float32, C-contiguous; (n, 8 d) for "hamming".

    Raises:
        InputError: no matrix, values that are not finite, rows of zeros under "cosine", or another width.
    """
    rows = np.asarray(features)
    if rows.ndim != 2 or not rows.shape[1]:
        raise InputError(f"clusters are of a matrix of features (rows, dimensions), got shape {rows.shape}")
    if metric == "hamming":
        if rows.dtype != np.uint8:
            raise InputError(f"metric 'hamming' compares hashes, packed in bytes (uint8), got {rows.dtype}")
        rows = np.unpackbits(rows, axis=1)
    if width is not None and rows.shape[1] != width:
        raise InputError(f"these clusters are of {width} features a row, got {rows.shape[1]}")
    rows = np.ascontiguousarray(rows, np.float32)
    for start in range(0, len(rows), _FINITE_ROWS):
        bad = np.flatnonzero(~np.isfinite(rows[start : start + _FINITE_ROWS]).all(axis=1))
        if len(bad):
            raise InputError(f"features must be finite, row {start + int(bad[0])} is not; leave such rows out")
    if metric == "cosine":
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        if (zeros := np.flatnonzero(norms == 0)).size:
            raise InputError(f"row {zeros[0]} is all zeros and has no direction to compare by cosine; leave it out")
        rows = rows / norms
    return rows


def by_size(labels: Int[np.ndarray, " n"], weights: np.ndarray | None = None) -> np.ndarray:
    """The labels in `labels`, largest cluster first, ties by the first row; noise is none of them.

    Args:
        labels: (n,) integers, -1 for noise.
        weights: Of each row, (n,); 1 when None.
    """
    own = labels >= 0
    found, first, inverse = np.unique(labels[own], return_index=True, return_inverse=True)
    sizes = np.bincount(inverse, weights=None if weights is None else weights[own], minlength=len(found))
    return found[np.lexsort((first, -sizes))]


def numbered_by_size(labels: Int[np.ndarray, " n"], weights: np.ndarray | None = None) -> Int[np.ndarray, " n"]:
    """Labels 0, 1, … in the order of `by_size`; -1 stays.

    >>> numbered_by_size(np.array([7, -1, 3, 3])).tolist()
    [1, -1, 0, 0]
    """
    order = by_size(labels, weights)
    numbers = np.full(int(labels.max(initial=-1)) + 2, NOISE, np.int64)  # the last entry is that of -1
    numbers[order] = np.arange(len(order))
    return numbers[labels]


def compact(rows: np.ndarray) -> np.ndarray:
    """As float16 where that loses nothing, as of features that were stored so; half the room."""
    half = rows.astype(np.float16)
    return half if np.array_equal(half.astype(rows.dtype), rows) else rows
