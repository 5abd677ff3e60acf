"""Doubts about labels: by hand, flipped labels found, and rare or scattered classes left in peace."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagescape.audit.label_doubts import label_doubts, vote_weights
from imagescape.errors import InputError
from imagescape.evaluate.neighbors import Neighbors
from tests.audit.graphs import clouds, graph_of, without


def flipped(labels, share, seed=0):
    """Labels of which some are changed to another class, and which."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(labels))[: round(share * len(labels))]
    out = labels.copy()
    out[rows] = (labels[rows] + rng.integers(1, labels.max() + 1, len(rows))) % (labels.max() + 1)
    return out, rows


def precision_and_recall(found, planted):
    hits = len(np.intersect1d(found, planted))
    return hits / max(len(found), 1), hits / len(planted)


class TestByHand:
    """Six images on a line, each seeing its two nearest: 0 1 2 and 10 11 12; image 2 is called 'b', as 10 to 12."""

    GRAPH = graph_of(np.array([[0.0], [1], [2], [10], [11], [12]]), 2)
    LABELS = tuple("aabbbb")

    def test_weights(self):
        one, two = np.exp(-1 / 1.5), np.exp(-2 / 1.5)
        expected = [one / (one + two), two / (one + two)]
        codes = np.array([0, 0, 1, 1, 1, 1])
        found = vote_weights(self.GRAPH, codes)
        assert found[0] == pytest.approx(expected)
        assert found[1] == pytest.approx([0.5, 0.5])
        assert vote_weights(self.GRAPH, np.array([0, 0, -1, 1, 1, 1]))[0] == pytest.approx([1, 0])

    def test_figures(self):
        near = 1 / (1 + np.exp(-1 / 1.5))
        found = label_doubts(self.GRAPH, self.LABELS)
        assert found.own_share == pytest.approx([near, 0.5, 0, 1, 1, 1])
        assert found.usual_share == pytest.approx([(near + 0.5) / 2, 0.75])
        assert found.suggested.tolist() == [1, 1, 0, -1, -1, -1]
        assert found.suggested_share[:3] == pytest.approx([1 - near, 0.5, 1])
        # Image 2: all its neighbours are 'a', none 'b', and the three other 'b' are all surer.
        assert found.confidence[2] == pytest.approx(1 * 1 * 3 / 4)
        # Image 1: half of them are 'b', .5 / .75; its own share is below the usual; one of two 'a' is surer.
        usual = (near + 0.5) / 2
        assert found.confidence[1] == pytest.approx((0.5 + 0.5 / 0.75) / 2 * (1 - 0.5 / usual) * 1 / 2)
        assert found.rows.tolist() == [2]
        assert (found.label_of(2), found.suggestion_for(2)) == ("b", "a")
        assert found.reason(2) == (
            f"labelled 'b', but 100% of its 2 nearest, by weight, are 'a' (usual of 'a': {usual:.0%}), "
            "0% 'b' (usual: 75%)"
        )
        assert found.reason(4) == "nothing speaks for another label"

    def test_without_a_label(self):
        labels = ["a", "a", None, "b", "b", None]
        found = label_doubts(self.GRAPH, labels)
        assert len(found) == 0
        assert found.suggestions.tolist() == [2, 5]
        assert [found.suggestion_for(row) for row in (2, 5)] == ["a", "b"]
        assert found.confidence[[2, 5]].tolist() == [1, 1]
        assert found.label_of(2) is None
        assert found.reason(2) == "100% of its 2 nearest, by weight, are 'a' (usual of 'a': 100%)"
        assert "2 suggestions for 2 images without label" in str(found)
        told = found.as_dict()
        assert (told["doubts"], [one["suggested"] for one in told["suggestions"]]) == ([], ["a", "b"])

    def test_clusters(self):
        """Of the two others in image 2's cluster both are 'a'."""
        found = label_doubts(self.GRAPH, self.LABELS, clusters=np.array([0, 0, 0, 1, 1, 1]))
        assert found.cluster_own_share == pytest.approx([0.5, 0.5, 0, 1, 1, 1])
        assert found.cluster_suggested_share[:3] == pytest.approx([0.5, 0.5, 1])
        assert found.confidence[2] == pytest.approx((3 / 4 + 1 * 1 * 3 / 4) / 2)
        assert found.reason(2).endswith("; of its cluster, 100% are 'a'")
        noise = label_doubts(self.GRAPH, self.LABELS, clusters=np.full(6, -1))
        assert np.array_equal(noise.confidence, label_doubts(self.GRAPH, self.LABELS).confidence, equal_nan=True)
        assert np.isnan(noise.cluster_own_share).all()
        mixed = label_doubts(self.GRAPH, self.LABELS, clusters=np.array([0, 0, 1, 1, 1, 1]))
        assert mixed.confidence[2] == pytest.approx(3 / 8)  # its cluster says that it is right


class TestPlanted:
    @pytest.mark.parametrize("seed", range(3))
    def test_flipped_labels_are_found(self, seed):
        rows, labels = clouds([300] * 6, d=6, seed=seed)
        given_labels, planted = flipped(labels, 0.05, seed)
        found = label_doubts(graph_of(rows), given_labels)
        precision, recall = precision_and_recall(found.rows, planted)
        assert precision > 0.98
        assert recall > 0.95
        assert (found.suggested[planted] == labels[planted]).mean() > 0.98
        assert precision_and_recall(found.rows[: len(planted)], planted)[0] > 0.98  # most certain first

    def test_among_clouds_that_overlap(self):
        rows, labels = clouds([300] * 4, apart=3.5)
        given_labels, planted = flipped(labels, 0.05)
        found = label_doubts(graph_of(rows), given_labels)
        precision, recall = precision_and_recall(found.rows, planted)
        assert precision > 0.75
        assert recall > 0.9

    def test_clusters_help_where_clouds_overlap(self):
        rows, labels = clouds([300] * 4, apart=3)
        given_labels, planted = flipped(labels, 0.05)
        plain = label_doubts(graph_of(rows), given_labels)
        helped = label_doubts(graph_of(rows), given_labels, clusters=labels)
        many = len(planted)
        assert (
            precision_and_recall(helped.rows[:many], planted)[0] >= precision_and_recall(plain.rows[:many], planted)[0]
        )

    def test_true_labels_are_left_in_peace(self):
        rows, labels = clouds([300] * 4, apart=6)
        assert len(label_doubts(graph_of(rows), labels)) <= 3

    def test_a_rare_class_is_not_a_doubt(self):
        """Twelve images of a class of their own, in a place of their own, fewer than there are neighbours."""
        rows, labels = clouds([2000, 12])
        found = label_doubts(graph_of(rows, 30), labels)
        assert found.own_share[labels == 1].max() < 0.9
        assert len(found) == 0

    def test_a_scattered_class_is_not_a_doubt(self):
        """Features that do not know a class: its images lie anywhere among the others."""
        rows, labels = clouds([1000, 1000])
        scattered = np.random.default_rng(1).permutation(2000)[:60]
        labels[scattered] = 2
        found = label_doubts(graph_of(rows), labels)
        assert len(np.intersect1d(found.rows, scattered)) <= 6
        assert (found.own_share[scattered] == 0).mean() > 0.5  # though most have no neighbour of their class

    def test_a_class_of_one_image_is_not_a_doubt(self):
        rows, labels = clouds([300, 300])
        labels[5] = 9
        found = label_doubts(graph_of(rows), labels)
        assert found.own_share[5] == 0
        assert 5 not in found.rows

    @settings(max_examples=15)
    @given(st.permutations(range(4)), st.integers(0, 2**32 - 1))
    def test_neither_order_nor_names_matter(self, names, seed):
        rows, labels = clouds([50] * 4, apart=4)
        labels, _ = flipped(labels, 0.1)
        order = np.random.default_rng(seed).permutation(200)
        before = label_doubts(graph_of(rows), labels)
        after = label_doubts(graph_of(rows[order]), np.array(names)[labels[order]])
        assert after.confidence == pytest.approx(before.confidence[order], rel=1e-3, abs=1e-6, nan_ok=True)

    def test_cuts(self):
        rows, labels = clouds([100] * 3, apart=4)
        labels, _ = flipped(labels, 0.1)
        found = label_doubts(graph_of(rows), labels)
        confidence = found.confidence[found.rows]
        assert (np.diff(confidence) <= 0).all()
        assert np.array_equal(found.at(confidence[5]).rows, found.rows[confidence >= confidence[5]])
        assert len(found.at(1e-6)) > len(found)

    def test_images_without_features_are_passed_over(self):
        rows, labels = clouds([100] * 3)
        found = label_doubts(without(graph_of(rows), [4]), labels)
        assert np.isnan(found.confidence[4])
        assert found.suggested[4] == -1
        assert np.isfinite(np.delete(found.confidence, 4)).all()

    def test_copies_with_different_labels(self):
        """All at one place: every vote counts alike, and nothing is divided by 0."""
        graph = Neighbors(np.array([[1, 2], [0, 2], [0, 1]]), np.zeros((3, 2)))
        found = label_doubts(graph, list("aab"))
        assert found.own_share.tolist() == [0.5, 0.5, 0]


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (np.zeros(40, int), {}, "at least 2 classes, got 1"),
        ([None] * 40, {}, "at least 2 classes, got no labels"),
        (np.arange(39), {}, "one entry a row, got 39 for 40 rows"),
        (np.arange(40) % 2, {"k": 16}, "k must lie between 1 and the 15 neighbours"),
        (np.arange(40) % 2, {"clusters": np.zeros(3, int)}, "clusters must have one entry a row, got 3 for 40"),
        (np.arange(40) % 2, {"threshold": 0}, r"must lie in \(0, 1\], got 0"),
    ],
)
def test_refused(labels, options, message):
    with pytest.raises(InputError, match=message):
        label_doubts(graph_of(clouds([40])[0]), labels, **options)
