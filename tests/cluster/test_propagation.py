"""Names that spread: to the pieces of one cloud and not to the next, to neighbours and not beyond."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from imagescape.cluster.propagation import propagate_to_clusters, propagate_to_rows
from imagescape.errors import InputError


def cloud(center, rows, dimensions, seed=0):
    rng = np.random.default_rng(seed)
    return np.eye(dimensions)[0] * center + rng.normal(size=(rows, dimensions))


class TestClusters:
    @pytest.mark.parametrize("dimensions", [2, 64])
    def test_to_the_other_pieces_of_its_cloud_only(self, dimensions):
        """Two clouds, each cut in two: what is said of a half holds for the other half and for nothing else."""
        clouds = [cloud(0, 300, dimensions), cloud(12, 300, dimensions, 1)]
        halves = [KMeans(2, n_init=3, random_state=0).fit_predict(one) for one in clouds]
        labels = np.concatenate([halves[0], 2 + halves[1]])
        vectors = np.concatenate(clouds)
        assert propagate_to_clusters(vectors, labels, {0: "fox"}) == {1: "fox"}
        assert propagate_to_clusters(vectors, labels, {3: "sea", 0: "fox"}) == {1: "fox", 2: "sea"}

    def test_not_to_clusters_that_stand_apart(self):
        vectors = np.concatenate([cloud(8 * k, 100, 3, k) for k in range(4)])
        labels = np.repeat(np.arange(4), 100)
        assert propagate_to_clusters(vectors, labels, {0: "fox"}) == {}

    def test_between_two_names_it_stays_without(self):
        """Pieces of an even row: 0, 1 and 2, of which the outer ones have names."""
        vectors, labels = np.linspace(0, 3, 300, endpoint=False)[:, None], np.repeat([0, 1, 2], 100)
        assert propagate_to_clusters(vectors, labels, {0: "fox", 2: "sea"}) == {}
        assert propagate_to_clusters(vectors, labels, {0: "fox", 2: "fox"}) == {1: "fox"}
        assert propagate_to_clusters(vectors, labels, {0: "fox"}) == {1: "fox"}  # 2 does not touch 0

    def test_the_margin_is_of_the_distance(self):
        """Centroids at 0.5, 1.5 and 2.6: 1 and 1.1 from the middle, nearer by 9 %."""
        vectors = np.concatenate([np.linspace(0, 1, 50), np.linspace(1, 2, 50), np.linspace(2, 3.2, 50)])[:, None]
        labels, names = np.repeat([0, 1, 2], 50), {0: "fox", 2: "sea"}
        assert propagate_to_clusters(vectors, labels, names, margin=0.08) == {1: "fox"}
        assert propagate_to_clusters(vectors, labels, names, margin=0.1) == {}

    def test_noise_takes_part_in_nothing(self):
        vectors, labels = np.linspace(0, 2, 200)[:, None], np.repeat([0, -1], 100)
        assert propagate_to_clusters(vectors, labels, {0: "fox"}) == {}

    @settings(max_examples=25)
    @given(st.permutations(range(4)), st.integers(0, 2**32 - 1))
    def test_the_order_changes_nothing(self, clusters, seed):
        vectors, labels = cloud(0, 120, 2), np.arange(120) % 4
        labels[np.argsort(vectors[:, 0])] = np.repeat(np.arange(4), 30)
        rows = np.random.default_rng(seed).permutation(120)
        before = propagate_to_clusters(vectors, labels, {0: "fox", 3: "sea"})
        moved = np.array(clusters)[labels[rows]]
        after = propagate_to_clusters(vectors[rows], moved, {clusters[0]: "fox", clusters[3]: "sea"})
        assert after == {clusters[one]: name for one, name in before.items()}
        assert before

    def test_refused(self):
        with pytest.raises(InputError, match="there is no cluster 5 to take the name 'fox' from"):
            propagate_to_clusters(np.eye(3), np.zeros(3, int), {5: "fox"})
        with pytest.raises(InputError, match=r"a margin must lie in \[0, 1\), got 1"):
            propagate_to_clusters(np.eye(3), np.zeros(3, int), {0: "fox"}, margin=1)


class TestRows:
    LINE = np.arange(20, dtype=float)[:, None]

    def test_to_its_neighbours_and_no_further(self):
        assert propagate_to_rows(self.LINE, {0: "fox"}, k=3) == {1: "fox", 2: "fox", 3: "fox"}
        assert propagate_to_rows(self.LINE, {0: "fox", 19: "sea"}, k=2) == {1: "fox", 2: "fox", 17: "sea", 18: "sea"}

    def test_where_names_meet_the_votes_decide(self):
        """Row 3 is reached from 1 and 2 by fox and from 5 by sea; row 4 too."""
        names = {1: "fox", 2: "fox", 5: "sea"}
        assert propagate_to_rows(self.LINE, names, k=4, margin=0.3)[3] == "fox"
        assert 3 not in propagate_to_rows(self.LINE, names, k=4, margin=0.4)  # 2 of 3 lead by a third
        assert 3 not in propagate_to_rows(self.LINE, {2: "fox", 4: "sea"}, k=3)
        assert 3 not in propagate_to_rows(self.LINE, {2: "fox", 4: "sea"}, k=3, margin=0.0)

    def test_a_name_does_not_replace_one(self):
        assert not {0, 1} & propagate_to_rows(self.LINE, {0: "fox", 1: "sea"}, k=5).keys()

    def test_directions_by_cosine(self):
        rows = np.array([[1.0, 0], [50, 1], [0, 1], [1, 0.5]])
        assert propagate_to_rows(rows, {0: "fox"}, k=1, metric="cosine") == {1: "fox"}
        assert propagate_to_rows(rows, {0: "fox"}, k=1) == {3: "fox"}

    def test_none_and_all(self):
        assert propagate_to_rows(self.LINE, {}) == {}
        assert propagate_to_rows(self.LINE, dict.fromkeys(range(20), "fox")) == {}
        assert len(propagate_to_rows(self.LINE, {4: "fox"}, k=99)) == 19

    @pytest.mark.parametrize(
        ("names", "options", "message"),
        [
            ({20: "fox"}, {}, "named rows must lie in 0 to 19"),
            ({-1: "fox"}, {}, "named rows must lie in 0 to 19"),
            ({0: "fox"}, {"k": 0}, "1 neighbour or more"),
            ({0: "fox"}, {"margin": -0.1}, "a margin must lie in"),
        ],
    )
    def test_refused(self, names, options, message):
        with pytest.raises(InputError, match=message):
            propagate_to_rows(self.LINE, names, **options)
