"""The table of all figures holds what the single functions give."""

import numpy as np
import pytest

from imagescape.errors import InputError
from imagescape.evaluate.metrics import knn_accuracy, knn_recall
from imagescape.evaluate.scorecard import score_map
from imagescape.evaluate.splits import official_split, stratified_split


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 150)
    features = rng.normal(size=(3, 8))[labels] + rng.normal(size=(150, 8)) * 0.7
    return features, features[:, :2], labels, np.where(rng.random(150) < 0.3, "test", "train")


def test_every_asked_figure_is_there_and_right(scored):
    features, coords, labels, names = scored
    card = score_map(coords, features=features, labels=labels, split_names=names, splits=2)
    for space, x in {"features": features, "map": coords}.items():
        for k in (15, 5):
            one = [knn_accuracy(x, labels, k=k, split=stratified_split(labels, seed=s)).value for s in (0, 1)]
            assert card.value(f"{k}-NN accuracy", space, "stratified") == pytest.approx(np.mean(one))
            official = knn_accuracy(x, labels, k=k, split=official_split(names)).value
            assert card.value(f"{k}-NN accuracy", space, "official") == official
        assert -1 < card.value("silhouette", space) < 1
    assert card.value("linear probe", "features", "official") > 0.7
    assert card.value("15-NN recall", "features in map") == knn_recall(features, coords).value
    assert len(card.as_dicts()) == len(card.figures) == 2 * 5 + 2 + 1
    assert str(card).count("\n") == len(card.figures)


def test_without_labels_only_recall(scored):
    features, coords, *_ = scored
    assert [one.metric for one in score_map(coords, features=features).figures] == ["15-NN recall"]


def test_without_features_only_the_map_and_gaps_are_told(scored):
    _, coords, labels, _ = scored
    card = score_map(coords, labels=[None, *labels[1:].tolist()], split_names=["train"] * 150)
    assert {one.space for one in card.figures} == {"map"}
    assert {one.split for one in card.figures} == {"stratified", ""}
    assert "1 rows have no label" in str(card)


def test_nothing_to_score_by(scored):
    with pytest.raises(InputError, match="labels, features or both"):
        score_map(scored[1])


def test_a_test_split_without_labels_is_no_official_split(scored):
    """As on the Hub, where labels of test rows are kept back."""
    features, coords, labels, names = scored
    hidden = [None if name == "test" else label for name, label in zip(names, labels.tolist(), strict=True)]
    card = score_map(coords, features=features, labels=hidden, split_names=names)
    assert {one.split for one in card.figures} == {"stratified", ""}


@pytest.mark.parametrize("labels", [[None] * 150, ["cat"] * 150, list(range(150)), [None] * 147 + ["a", "a", "b"]])
def test_what_labels_cannot_tell_is_left_out(scored, labels):
    features, coords, *_ = scored
    assert [one.metric for one in score_map(coords, features=features, labels=labels).figures] == ["15-NN recall"]
