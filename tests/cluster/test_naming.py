"""Names by words: scores against loops, planted words found, noise left without, and nothing depends on an order."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from imagescape.cluster.naming import Demands, _assign, name_by_words
from imagescape.cluster.vocabulary import Vocabulary
from imagescape.errors import InputError

FIVE = Vocabulary(("ant", "bee", "cat", "dog", "elk"))
# rows: 0 animal, 1 cat, 2 dog, 3 siamese, 4 tabby, 5 poodle, 6 car, 7 boat, 8-27 more
KINDS = Vocabulary(
    ("animal", "cat", "dog", "siamese", "tabby", "poodle", "car", "boat", *(f"thing {i}" for i in range(20))),
    ((), (0,), (0,), (1,), (1,), (2,), (), (), *((),) * 20),
)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def planted(words, sizes, *, noise=0.3, dimensions=32, seed=0, vocabulary=FIVE):
    """Images near the vector of a word (cluster k is of words[k]; None: of a random one each), and the words."""
    rng = np.random.default_rng(seed)
    vectors = np.linalg.qr(rng.normal(size=(dimensions, dimensions)))[0][: len(vocabulary)]
    labels = np.repeat(np.arange(len(words)), sizes)
    which = [rng.integers(len(vocabulary)) if words[k] is None else vocabulary.row(words[k]) for k in labels]
    images = vectors[which] + noise * rng.normal(size=(len(labels), dimensions)) / math.sqrt(dimensions) * 2
    return images.astype(np.float32), labels, vectors.astype(np.float32)


def named(images, labels, vocabulary, vectors, **options):
    return name_by_words(images, labels, vocabulary, vectors, logit_scale=options.pop("logit_scale", 20.0), **options)


def scores_by_loops(images, labels, vectors, scale):
    """log p(word | image), one image and one word at a time."""
    images, vectors = unit(np.float64(images)), unit(np.float64(vectors))
    log_p = np.empty((len(images), len(vectors)))
    for i, image in enumerate(images):
        logits = [scale * float(image @ word) for word in vectors]
        total = sum(math.exp(one) for one in logits)
        log_p[i] = [one - math.log(total) for one in logits]
    clusters = sorted(set(labels.tolist()) - {-1})
    return np.array([log_p[labels == k].mean(0) - log_p.mean(0) for k in clusters])


class TestScores:
    def test_by_hand(self):
        """Two words at right angles, three images of one and one of the other, scale log 9: p = .9 and .1."""
        images = np.float32([[1, 0], [2, 0], [1, 0], [0, 3]])
        first, second = named(
            images, np.array([0, 0, 0, 1]), Vocabulary(("a", "b")), np.eye(2, dtype=np.float32), logit_scale=math.log(9)
        )
        collection = (3 * math.log(0.9) + math.log(0.1)) / 4
        assert first.words[0].word == "a"
        assert_allclose(first.words[0].score, math.log(0.9) - collection, atol=1e-5)
        assert second.words[0].word == "b"
        assert_allclose(second.words[0].score, math.log(0.9) - (math.log(0.9) + 3 * math.log(0.1)) / 4, atol=1e-5)
        assert_allclose(second.words[1].score, math.log(0.1) - collection, atol=1e-5)
        # a beats b by log 9 in the cluster, where the collection has it ahead by (3 - 1) / 4 log 9
        assert_allclose(first.margin, 0.5 * math.log(9), atol=1e-5)

    def test_against_loops(self):
        images, labels, vectors = planted(["ant", "cat", None], [7, 5, 9])
        labels[::6] = -1
        expected = scores_by_loops(images, labels, vectors, 20.0)
        for k, found in enumerate(named(images, labels, FIVE, vectors, top=5)):
            assert [one.word for one in found.words] == [FIVE.words[i] for i in np.argsort(-expected[k])]
            assert_allclose([one.score for one in found.words], np.sort(expected[k])[::-1], atol=1e-4)

    def test_block_by_block_is_the_same(self, monkeypatch):
        images, labels, vectors = planted(["ant", "cat", None], [30, 20, 11])
        whole = named(images, labels, FIVE, vectors)
        monkeypatch.setattr("imagescape.cluster.naming._BLOCK_ENTRIES", 7 * 32)
        for one, other in zip(whole, named(images, labels, FIVE, vectors), strict=True):
            assert (one.name, one.words[0].word, one.reason) == (other.name, other.words[0].word, other.reason)
            assert_allclose([one.score, one.margin], [other.score, other.margin], rtol=1e-4)

    def test_standard_errors_are_those_of_random_draws(self):
        """z of one word over the other spreads by 1 over draws without replacement, of few images and of many."""
        images, _, vectors = planted(["ant", "cat"], [60, 40], noise=0.8)
        rng, vocabulary = np.random.default_rng(1), Vocabulary(("ant", "cat"))
        for size in (5, 60):
            z = []
            for _ in range(400):
                labels = np.full(100, -1)
                labels[rng.choice(100, size, replace=False)] = 0
                (found,) = named(images, labels, vocabulary, vectors[[0, 2]], demands=Demands(margin=0.0, z=1e9))
                sign = 1 if found.reason.startswith("'ant'") else -1
                z.append(sign * float(found.reason.split(" by ")[1].split()[0]))
            assert 0.85 < np.std(z) < 1.15


class TestNames:
    def test_planted_words_are_found(self):
        images, labels, vectors = planted(["cat", "ant", "elk"], [40, 25, 60])
        found = named(images, labels, FIVE, vectors)
        assert [one.name for one in found] == ["cat", "ant", "elk"]
        assert [one.size for one in found] == [40, 25, 60]
        assert [one.cluster for one in found] == [0, 1, 2]
        assert all(one.reason == "" and one.margin > 1 and one.score > 0 for one in found)

    @pytest.mark.parametrize("seed", range(10))
    def test_a_random_draw_is_left_without(self, seed):
        images, labels, vectors = planted(["cat", None, "bee"], [40, 40, 40], seed=seed)
        found = named(images, labels, FIVE, vectors)
        assert [one.name for one in found] == ["cat", None, "bee"]
        assert "fit" in found[1].reason

    def test_draws_from_nothing_but_noise_are_nearly_never_named(self):
        rng, count = np.random.default_rng(0), 0
        vocabulary = Vocabulary(tuple(f"w{i}" for i in range(50)))
        for _ in range(20):
            images, vectors = rng.normal(size=(600, 24)), rng.normal(size=(50, 24))
            found = named(images, rng.integers(0, 20, 600), vocabulary, vectors, logit_scale=30.0)
            count += sum(one.name is not None for one in found)
        assert count <= 2  # of 400

    def test_a_small_lead_is_no_name_however_sure_it_is(self):
        """Cats and a thing like cats, of which very many images are a little more cat."""
        images, labels, vectors = planted(["cat", "ant"], [3000, 3000], noise=0.1)
        vectors[3] = unit(vectors[2:3] + 0.1 * vectors[3])[0]
        sure = named(images, labels, FIVE, vectors, demands=Demands(margin=0.01))[0]
        assert sure.name == "cat"
        assert 0.01 < sure.margin < 0.5
        assert named(images, labels, FIVE, vectors)[0].name is None

    def test_one_cluster_of_all_has_no_name(self):
        images, _, vectors = planted(["cat", "ant"], [20, 20])
        (found,) = named(images, np.zeros(40, int), FIVE, vectors)
        assert found.name is None
        assert_allclose(found.score, 0, atol=1e-5)

    def test_noise_counts_for_the_collection_only(self):
        """A word that all images have is no name; where half of them are noise without it, it is one."""
        images, labels, vectors = planted(["cat", None], [40, 60])
        assert named(images[:40], labels[:40], FIVE, vectors)[0].name is None
        (found,) = named(images, np.where(labels == 1, -1, 0), FIVE, vectors)
        assert found.name == "cat"

    def test_what_no_word_fits_is_not_called_by_what_it_is_least_unlike(self):
        """Cats and dogs are unlike a bee, so that whatever else there is, such as this, is liker to one."""
        images, labels, vectors = planted(["cat", "dog", None], [40, 40, 30], noise=0.0)
        vectors[1] = unit(vectors[1:2] - vectors[2] - vectors[3])[0]  # bee
        images[labels == 2] = np.linalg.svd(vectors)[2][-1] + 1e-3 * images[labels == 2]  # at right angles to all words
        found = named(images, labels, FIVE, vectors)
        assert [one.name for one in found] == ["cat", "dog", None]
        assert found[2].words[0].word == "bee"
        assert found[2].score > 1
        assert found[2].margin > 1
        assert found[2].reason.startswith("no word fits it: 'bee' is only less unlike it")

    def test_no_name_twice(self):
        images, labels, vectors = planted(["cat", "cat", "dog"], [30, 50, 40])
        found = named(images, labels, FIVE, vectors)
        assert sorted(str(one.name) for one in found) == ["None", "cat", "dog"]
        loser = next(one for one in found[:2] if one.name is None)
        assert loser.reason == f"its best word 'cat' fits cluster {1 - loser.cluster} better"
        assert loser.words[0].word == "cat"

    def test_fewer_words_than_clusters(self):
        images, labels, vectors = planted(["ant", "bee", "cat"], [20, 20, 20])
        found = named(images, labels, Vocabulary(("ant", "cat")), vectors[[0, 2]])
        assert [one.name for one in found] == ["ant", None, "cat"]
        assert found[1].reason == "there are fewer words than clusters"

    def test_one_word_says_nothing(self):
        images, labels, vectors = planted(["ant", "bee"], [20, 20])
        found = named(images, labels, Vocabulary(("ant",)), vectors[:1])
        assert [one.name for one in found] == [None, None]

    def test_exemplars_are_the_images_that_fit_the_word(self):
        images, labels, vectors = planted(["cat", "ant"], [12, 9])
        fit = unit(images) @ vectors.T
        for found in named(images, labels, FIVE, vectors, top=2, exemplars=3):
            rows = np.flatnonzero(labels == found.cluster)
            for one in found.words:
                assert list(one.exemplars) == rows[np.argsort(-fit[rows, FIVE.row(one.word)])][:3].tolist()

    @settings(max_examples=25)
    @given(st.permutations(range(4)), st.permutations(range(5)), st.integers(0, 2**32 - 1))
    def test_the_order_of_clusters_words_and_images_changes_nothing(self, clusters, words, seed):
        images, labels, vectors = planted(["cat", "cat", None, "bee"], [15, 12, 20, 9], noise=0.5)
        rows = np.random.default_rng(seed).permutation(len(labels))
        moved = 3 * np.array(clusters)[labels]  # with gaps
        vocabulary = Vocabulary(tuple(FIVE.words[i] for i in words))
        before = {3 * clusters[one.cluster]: one for one in named(images, labels, FIVE, vectors)}
        for one in named(images[rows], moved[rows], vocabulary, vectors[list(words)]):
            assert one.name == before[one.cluster].name
            assert [best.word for best in one.words] == [best.word for best in before[one.cluster].words]
            assert_allclose([one.score, one.margin], [before[one.cluster].score, before[one.cluster].margin], atol=1e-3)

    def test_lengths_of_vectors_do_not_matter(self):
        images, labels, vectors = planted(["cat", "ant"], [12, 9])
        lengths = np.random.default_rng(0).uniform(0.1, 90, (21, 1))
        for one, other in zip(
            named(images, labels, FIVE, vectors), named(images * lengths, labels, FIVE, 7 * vectors), strict=True
        ):
            assert one.name == other.name
            assert_allclose(one.score, other.score, rtol=1e-4)


class TestHypernyms:
    def of(self, mixture, **options):
        """A cluster of images of the words in `mixture`, beside one of boats and one of cars."""
        rng = np.random.default_rng(0)
        vectors = np.linalg.qr(rng.normal(size=(40, 40)))[0][: len(KINDS)]
        # What is above others lies in the middle of them, as it does for encoders.
        vectors[1], vectors[2] = vectors[3] + vectors[4], vectors[5] + 0.2 * vectors[2]
        vectors[0] = vectors[1] + vectors[2]
        vectors = unit(vectors)
        words = [*mixture, *["boat"] * 30, *["car"] * 30]
        images = vectors[[KINDS.row(word) for word in words]] + 0.05 * rng.normal(size=(len(words), 40))
        labels = np.repeat([0, 1, 2], [len(mixture), 30, 30])
        return named(images, labels, KINDS, vectors, demands=Demands(share=0.3), **options)

    def test_one_kind_keeps_its_own_name(self):
        assert [one.name for one in self.of(["poodle"] * 30)] == ["poodle", "boat", "car"]

    def test_two_kinds_that_disagree_are_called_by_what_is_above_them(self):
        found = self.of(["siamese", "tabby"] * 15)[0]
        assert found.name == "cat"
        assert found.words[0].word == "cat"

    def test_further_up_where_it_must_be(self):
        assert self.of(["siamese", "tabby", "poodle", "poodle"] * 10)[0].name == "animal"

    def test_most_images_must_agree(self):
        """On average likest to a siamese, which 4 of 10 are; the others are tabbies, boats, cars and things."""
        rng = np.random.default_rng(0)
        vectors = np.linalg.qr(rng.normal(size=(40, 40)))[0][: len(KINDS)]
        words = ["siamese"] * 40 + ["tabby"] * 12 + ["boat"] * 20 + ["car"] * 13 + ["thing 0"] * 15 + ["thing 1"] * 100
        images, labels = vectors[[KINDS.row(word) for word in words]], np.repeat([0, 1], 100)

        def name(agreement, images=images):
            demands = Demands(z=0, share=0.12, agreement=agreement)
            return named(images, labels, KINDS, vectors, demands=demands)[0]

        assert name(0.4).name == "siamese"
        assert name(0.5).name == "cat"  # 52 of 100
        assert name(0.53).name is None
        assert name(0.53).reason == "'siamese' fits 40% of its images best, and not 53%"
        images = images.copy()
        images[70:100] = vectors[1]  # cats, which say nothing of their kind: 40 of 70 are siamese
        assert name(0.57, images).name == "siamese"

    def test_of_two_words_above_the_one_that_fits_better(self):
        """A duck is a bird and game; the cluster is of ducks and gulls, which are no game."""
        kinds = Vocabulary(
            ("game", "bird", "duck", "gull", "hare", *(f"thing {i}" for i in range(20))),
            ((), (), (0, 1), (1,), (0,), *((),) * 20),
        )
        for order in (slice(None), slice(None, None, -1)):
            ways = tuple(above[order] for above in kinds.hypernyms)
            vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 40)))[0][:25]
            images, labels = vectors[[2] * 51 + [3] * 49 + [5] * 100], np.repeat([0, 1], 100)
            found = named(images, labels, Vocabulary(kinds.words, ways), vectors, demands=Demands(share=0.2))
            assert [one.name for one in found] == ["bird", "thing 0"]

    def test_not_up_to_what_says_too_little(self):
        rng = np.random.default_rng(0)
        vectors = unit(np.linalg.qr(rng.normal(size=(40, 40)))[0][: len(KINDS)])
        words = ["siamese", "tabby"] * 15 + ["boat"] * 30
        images, labels = vectors[[KINDS.row(word) for word in words]], np.repeat([0, 1], 30)
        assert named(images, labels, KINDS, vectors, demands=Demands(share=0.12))[0].name == "cat"  # covers 3 of 28
        assert named(images, labels, KINDS, vectors, demands=Demands(share=0.09))[0].name is None

    def test_a_word_above_that_a_cluster_has_already(self):
        """Both would be cats: the one that is nothing else is called so, the other stays without."""
        rng = np.random.default_rng(0)
        vectors = unit(np.linalg.qr(rng.normal(size=(40, 40)))[0][: len(KINDS)])
        words = ["siamese", "tabby"] * 15 + ["cat"] * 30 + ["boat"] * 30
        images, labels = vectors[[KINDS.row(word) for word in words]], np.repeat([0, 1, 2], 30)
        for share in (0.5, 1.0):  # however clear the ones or the others are
            images[30:60] = vectors[1] + (1 - share) * vectors[20]
            found = named(images, labels, KINDS, vectors, demands=Demands(share=0.12))
            assert [one.name for one in found] == [None, "cat", "boat"]
            assert found[0].reason == "'cat' names cluster 1"
            assert (found[0].margin > found[1].margin) == (share == 0.5)


@settings(max_examples=50)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_the_assignment_is_the_best_of_all(clusters, words, seed):
    rng = np.random.default_rng(seed)
    scores, is_name = rng.normal(size=(clusters, words)), rng.random(words) < 0.8
    taken = _assign(scores, is_name)
    usable = np.flatnonzero(is_name).tolist()
    some = taken[taken >= 0]
    assert len(set(some.tolist())) == len(some) == min(clusters, len(usable))
    assert set(some.tolist()) <= set(usable)
    padded = usable + [-1] * max(0, clusters - len(usable))
    best = max(
        sum(scores[k, word] for k, word in enumerate(choice) if word >= 0)
        for choice in itertools.permutations(padded, clusters)
    )
    assert_allclose(scores[taken >= 0, some].sum(), best)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros(3, int)}, r"images \(n, d\) and labels \(n,\) must fit"),
        ({"labels": np.full(21, -1)}, "there is no cluster to name"),
        ({"word_vectors": np.eye(5)}, r"5 words need vectors of shape \(5, 32\)"),
        ({"images": np.full((21, 32), np.nan)}, "vectors of images must be finite, row 0 is not"),
        ({"logit_scale": 0.0}, "logit scale must be above 0"),
    ],
)
def test_refused(change, message):
    images, labels, vectors = planted(["cat", "ant"], [12, 9])
    given = {"images": images, "labels": labels, "vocabulary": FIVE, "word_vectors": vectors, "logit_scale": 9.0}
    with pytest.raises(InputError, match=message):
        name_by_words(**given | change)


@pytest.mark.parametrize(
    "wrong",
    [
        {"margin": -1},
        {"z": -1},
        {"agreement": 1.1},
        {"agreement": -0.1},
        {"share": 0},
        {"share": 1.1},
        {"margin": math.nan},
    ],
)
def test_demands_out_of_range(wrong):
    with pytest.raises(InputError, match="a name needs"):
        Demands(**wrong)
