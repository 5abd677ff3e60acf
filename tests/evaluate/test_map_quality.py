"""What is gathered of a map: figures that single functions give, in plain values and in words."""

import json

import numpy as np
import pytest

from imagescape.errors import InputError
from imagescape.evaluate.map_quality import MapQuality, feature_recalls, group_agreement
from imagescape.evaluate.metrics import knn_accuracy, knn_recall
from imagescape.evaluate.splits import stratified_split
from imagescape.evaluate.stability import seed_stability, view_consistency


@pytest.fixture
def coords():
    return np.random.default_rng(0).normal(size=(60, 2))


def test_recall_by_k_is_that_of_each_k(coords):
    features = np.random.default_rng(1).normal(size=(60, 5)) + np.pad(coords, ((0, 0), (0, 3)))
    found = feature_recalls(features, coords)
    assert list(found) == [1, 2, 5, 10, 15, 30, 50]
    for k, score in found.items():
        assert score == knn_recall(features, coords, k)
    assert list(feature_recalls(features[:4], coords[:4])) == [1, 2]
    assert feature_recalls(features[:1], coords[:1]) == {}


def test_superclasses_by_hand():
    """Two heaps of 20; two of the first heap are of the other superclass, where their neighbours are not."""
    coords = np.concatenate([np.arange(20), 1000 + np.arange(20)])[:, None] * [1.0, 0]
    groups = ["a"] * 18 + ["b"] * 2 + ["b"] * 20
    found = group_agreement(coords, groups, "family")
    assert (found.k, found.column, found.purity.rows) == (15, "family", 40)
    in_first = [
        np.argsort(abs(np.arange(20) - row) + 99 * (np.arange(20) == row), kind="stable")[:15] for row in range(20)
    ]
    same = [np.mean([(one >= 18) == (row >= 18) for one in near]) for row, near in enumerate(in_first)]
    assert found.purity.value == pytest.approx((sum(same) + 20) / 40)
    assert found.accuracy == knn_accuracy(coords, groups, k=15, split=stratified_split(groups))
    with pytest.raises(InputError, match="test_rows"):
        group_agreement(coords, [None] * 40, "family")


def test_figures_and_words(coords):
    quality = MapQuality(
        name="M",
        rows=60,
        recalls=feature_recalls(coords, coords),
        views=view_consistency(coords, coords, coords),
        others=("N",),
        compared_rows=60,
        stability=seed_stability([coords, 2 * coords]),
        superclass=group_agreement(coords, ["a", "b"] * 30, "family"),
        feature_norms=np.arange(101.0),
        coord_norms=np.linalg.norm(coords, axis=1),
    )
    figures = json.loads(json.dumps(quality.as_dict(), allow_nan=False))
    assert figures["knn_recall"] == dict.fromkeys(("1", "2", "5", "10", "15", "30", "50"), 1.0)
    assert figures["views"] == {"relative_distance": 0, "found_share": 1, "k": 15, "images": 60}
    assert figures["stability"]["maps"] == ["M", "N"]
    assert figures["stability"]["disparity"]["mean"] == pytest.approx(0, abs=1e-12)
    assert figures["superclass"]["purity"] == quality.superclass.purity.value
    assert figures["norms"]["features"] == {"p5": 5, "median": 50, "p95": 95}
    assert "100.0% of them (60 images)" in str(quality)
    assert "against N: Procrustes disparity 0.000" in str(quality)


def test_what_was_not_measured_is_null_and_said(coords):
    quality = MapQuality(
        name="M",
        rows=60,
        recalls={},
        views=None,
        views_missing="it has none",
        feature_norms=None,
        coord_norms=coords[:, 0],
    )
    figures = quality.as_dict()
    assert [name for name, value in figures.items() if value is None] == [
        "knn_recall",
        "views",
        "stability",
        "superclass",
    ]
    assert figures["views_missing"] == "it has none"
    assert figures["norms"]["features"] is None
    assert str(quality).startswith("views of an image: not measured, it has none\nnorms of the map")
