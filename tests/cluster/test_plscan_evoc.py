"""Layers by PLSCAN and EVoC: what is apart is found, at a scale of its own; new rows; what is refused."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from imagescape.cluster.layers import PLSCAN, EVoC, LayeredClusterer
from imagescape.errors import InputError
from tests.cluster.blobs import blobs, same_partition


class Given(LayeredClusterer):
    """Layers that are known beforehand."""

    metric = "euclidean"

    def __init__(self, random_state=None):
        super().__init__()
        self._arguments = {"random_state": random_state}

    def _layers(self, rows):
        fine = np.array([0, 0, 1, 1, 1, 2, 2, -1])
        coarse = np.array([0, 0, 0, 0, 0, 1, 1, -1])
        return [fine, coarse], np.array([1, 0.5, 1, 1, np.nan, 1, 1, 0]), 1


ROWS = np.array([[0.0], [1], [10], [11], [12], [100], [101], [500]])


class TestLayers:
    def test_are_numbered_by_size_and_named_by_their_clusters(self):
        found = Given().fit(ROWS)
        assert found.labels_.tolist() == [0, 0, 0, 0, 0, 1, 1, -1]
        assert list(found.labellings_) == ["3", "2"]
        assert found.labellings_["3"].tolist() == [1, 1, 0, 0, 0, 2, 2, -1]
        assert found.nearest_.tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
        assert found.probabilities_.tolist() == [1, 0.5, 1, 1, 0, 1, 1, 0]

    def test_new_rows_go_to_the_nearest(self, tmp_path):
        found = Given().fit(ROWS)
        new = np.array([[2.0], [90.0]])
        assert found.predict(new).tolist() == [0, 1]
        assert {name: labels.tolist() for name, labels in found.predict_labellings(new).items()} == {
            "3": [1, 2],
            "2": [0, 1],
        }
        found.save(tmp_path / "m")
        again = Given.load(tmp_path / "m")
        assert_array_equal(again.predict(new), [0, 1])
        assert list(again.predict_labellings(new)) == ["3", "2"]

    def test_few_rows_are_refused(self):
        with pytest.raises(InputError, match="at least 4 rows, got 3"):
            Given().fit(np.eye(3))


def test_evoc_takes_features_of_few_dimensions():
    pytest.importorskip("evoc")
    rows, _ = blobs([40, 40], d=2)
    assert len(EVoC(random_state=0).fit(rows).labels_) == 80


def test_plscan_finds_what_is_apart():
    pytest.importorskip("fast_hdbscan")
    rows, truth = blobs([120, 90, 60], d=2)
    found = PLSCAN(min_cluster_size=15).fit(rows)
    assert any(
        same_partition(labels[labels >= 0], truth[labels >= 0]) and (labels >= 0).mean() > 0.8
        for labels in (found.labels_, *found.layers_.values())
    )
    with pytest.raises(InputError, match="metric must be one of euclidean, cosine, got 'hamming'"):
        PLSCAN(metric="hamming")


def test_evoc_finds_what_is_apart():
    pytest.importorskip("evoc")
    rows, truth = blobs([150, 120, 90], d=24, apart=30)
    found = EVoC(random_state=0).fit(rows)
    own = found.labels_ >= 0
    assert own.mean() > 0.5
    pairs = set(zip(found.labels_[own].tolist(), truth[own].tolist(), strict=True))
    assert len(pairs) == len({one for one, _ in pairs})  # each cluster is of one group
