"""Clouds of points, and graphs of their neighbours, to be audited."""

import numpy as np

from imagescape.evaluate.neighbors import Neighbors, nearest_others


def graph_of(rows, k=15):
    return nearest_others(np.asarray(rows, np.float32), k, device="cpu")


def clouds(sizes, *, d=5, apart=12.0, seed=0):
    """Rows of round clouds of deviation 1, and which each is of; in order."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    centres = np.zeros((len(sizes), d))
    for number in range(len(sizes)):
        centres[number, number % d] = apart * (1 + number // d)
    return centres[labels] + rng.normal(size=(len(labels), d)), labels


def without(graph, rows):
    """The graph in which some rows have no neighbours and are nobody's."""
    indices, distances = graph.indices.copy(), graph.distances.copy()
    indices[rows] = -1
    indices[np.isin(indices, rows)] = -1
    order = np.argsort(indices < 0, axis=1, kind="stable")
    return Neighbors(np.take_along_axis(indices, order, 1), np.take_along_axis(distances, order, 1))
