"""Names by tokens: log-odds worked by hand, loops, and what must not matter."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from imagescape.cluster.tokens import log_odds, name_by_tokens, tokens_of
from imagescape.errors import InputError


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("cat", ["cat"]),
        ("Sea lions", ["sea", "lions", "sea lions"]),
        ("2019/Sea_lions/IMG_004", ["sea", "lions", "sea lions", "img"]),
        ("seaLions-Zoo", ["sea", "lions", "zoo", "sea lions zoo"]),
        ("a, b; c4 x2", ["c4", "x2", "c4 x2"]),
        ("2019/07", []),
        ("", []),
        ("Überschallflugzeug ДОМ 日本", ["überschallflugzeug", "дом", "日本", "überschallflugzeug дом 日本"]),
        ("鳥", ["鳥"]),
        ("one two three four five", ["one", "two", "three", "four", "five"]),
        ("cat/CAT\\cat", ["cat"]),
        ("don't", ["don", "don t"]),
    ],
)
def test_tokens(text, tokens):
    assert tokens_of(text) == tokens


class TestLogOdds:
    def test_by_hand(self):
        """4 of 5 images inside and 1 of 15 outside: four clusters of this size, so a prior of 4 images, 1 with it."""
        ratio, z = log_odds(np.array([4.0]), np.array([1.0]), 5, 15)
        a, not_a, b, not_b = 4 + 1, 5 + 4 - 5, 1 + 1, 15 + 4 - 2
        assert (a, not_a, b, not_b) == (5, 4, 2, 17)
        assert_allclose(ratio, math.log(5 / 4) - math.log(2 / 17))
        assert_allclose(z, ratio / math.sqrt(1 / 5 + 1 / 4 + 1 / 2 + 1 / 17))

    @settings(max_examples=60)
    @given(st.integers(1, 30), st.integers(1, 30), st.data())
    def test_equal_shares_are_no_odds_and_more_is_more(self, inside, times, data):
        said = data.draw(st.integers(0, inside - 1)) if inside > 1 else 0
        if said:
            even, _ = log_odds(np.array([said * 1.0]), np.array([said * times * 1.0]), inside, inside * times)
            assert_allclose(even, 0, atol=1e-9)
        more, z = log_odds(np.array([said + 1.0]), np.array([said * times * 1.0]), inside, inside * times)
        if said + 1 < inside:
            assert more > 0
            assert z > 0

    def test_rare_ones_are_held_back(self):
        """One image of one is no evidence; twenty of twenty are."""
        _, z = log_odds(np.array([1.0, 20.0]), np.array([0.0, 0.0]), 20, 180)
        assert z[0] < 1.5
        assert z[1] > 5


def by_loops(columns, labels):
    """z of every token in every cluster, counted image by image."""
    said = [set().union(*(tokens_of(column[i]) for column in columns if column[i])) for i in range(len(labels))]
    found = {}
    for cluster in sorted(set(labels) - {-1}):
        inside = [said[i] for i, label in enumerate(labels) if label == cluster]
        outside = [said[i] for i, label in enumerate(labels) if label != cluster]
        for token in set().union(*said):
            y, x = sum(token in one for one in inside), sum(token in one for one in outside)
            if y > 0 and x + y < len(labels):
                prior, prior_images = (x + y) / len(inside), len(labels) / len(inside)
                a, b = y + prior, x + prior
                not_a, not_b = len(inside) + prior_images - a, len(outside) + prior_images - b
                ratio = math.log(a / not_a) - math.log(b / not_b)
                found[cluster, token] = ratio / math.sqrt(1 / a + 1 / not_a + 1 / b + 1 / not_b)
    return found


FOLDERS = ["zoo/sea lions"] * 20 + ["zoo/red fox"] * 15 + ["zoo/harbour"] * 25
LABELS = np.repeat([0, 1, 2], [20, 15, 25])


class TestNames:
    def test_what_is_said_more(self):
        found = name_by_tokens([FOLDERS], LABELS)
        assert [one.name for one in found] == ["sea lions", "red fox", "harbour"]  # phrases before their words
        assert [one.size for one in found] == [20, 15, 25]
        assert all(one.margin > 0 and one.reason == "" for one in found)
        assert {one.token for one in found[0].tokens} == {"sea lions", "sea", "lions"}
        assert all(one.images == 20 for one in found[0].tokens)

    def test_what_all_have_is_no_name(self):
        with np.errstate(all="raise"):
            assert [one.name for one in name_by_tokens([["photos"] * 60], LABELS)] == [None] * 3
        assert name_by_tokens([["photos"] * 60], LABELS)[0].reason.startswith("nothing is said of it more")

    def test_against_loops(self):
        rng = np.random.default_rng(0)
        words = ["ant", "bee", "cat", "dog", "elk and gnu"]
        columns = [
            [None if rng.random() < 0.2 else "/".join(rng.choice(words, 2)) for _ in range(80)] for _ in range(3)
        ]
        labels = rng.integers(-1, 4, 80)
        expected = by_loops(columns, labels.tolist())
        for found in name_by_tokens(columns, labels, top=99, z=0.0):
            here = {token: z for (cluster, token), z in expected.items() if cluster == found.cluster and z > 0}
            assert {one.token for one in found.tokens} == set(here)
            for one in found.tokens:
                assert_allclose(one.z, here[one.token])
            assert [one.z for one in found.tokens] == sorted(here.values(), reverse=True)

    def test_an_image_says_a_thing_once(self):
        once = name_by_tokens([FOLDERS], LABELS)
        assert name_by_tokens([FOLDERS, FOLDERS, [one.upper() for one in FOLDERS]], LABELS) == once

    def test_noise_is_part_of_the_rest(self):
        labels = np.where(LABELS == 2, -1, LABELS)
        found = name_by_tokens([FOLDERS], labels)
        assert [(one.cluster, one.name) for one in found] == [(0, "sea lions"), (1, "red fox")]
        everywhere = [one if label == 1 else "sea lions" for one, label in zip(FOLDERS, LABELS, strict=True)]
        assert name_by_tokens([everywhere], labels)[0].name is None  # as much is said of the noise

    @pytest.mark.parametrize("seed", range(5))
    def test_random_clusters_are_left_without(self, seed):
        rng = np.random.default_rng(seed)
        texts = [" ".join(rng.choice([f"word{'abcdefghij'[i]}" for i in range(10)], 3)) for _ in range(400)]
        found = name_by_tokens([texts], rng.integers(0, 10, 400))
        assert sum(one.name is not None for one in found) <= 1
        assert "standard errors" in next(one for one in found if one.name is None).reason

    def test_no_name_twice(self):
        texts = ["fox"] * 40 + ["fox den"] * 20 + ["sea"] * 60
        found = name_by_tokens([texts], np.repeat([0, 1, 2], [40, 20, 60]))
        assert [one.name for one in found] == ["fox", "fox den", "sea"]
        texts = ["fox"] * 60 + ["sea"] * 60
        found = name_by_tokens([texts], np.repeat([0, 1, 2], [40, 20, 60]))
        assert sorted(str(one.name) for one in found) == ["None", "fox", "sea"]
        loser = next(one for one in found if one.name is None)
        assert loser.reason == f"its token 'fox' fits cluster {1 - loser.cluster} better"

    def test_no_text_at_all(self):
        assert [one.name for one in name_by_tokens([[None] * 60, [""] * 60], LABELS)] == [None] * 3

    @settings(max_examples=25)
    @given(st.permutations(range(3)), st.integers(0, 2**32 - 1))
    def test_the_order_of_clusters_and_images_changes_nothing(self, clusters, seed):
        rows = np.random.default_rng(seed).permutation(60)
        texts = [FOLDERS[i] for i in rows]
        before = {clusters[one.cluster]: one for one in name_by_tokens([FOLDERS], LABELS)}
        for one in name_by_tokens([texts], np.array(clusters)[LABELS[rows]]):
            assert (one.name, one.score, one.size) == pytest.approx(
                (before[one.cluster].name, before[one.cluster].score, before[one.cluster].size)
            )

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (([FOLDERS[:5]], LABELS), r"one text for each of 60 images, got \[5\]"),
            (([], LABELS), r"one text for each of 60 images, got \[\]"),
            (([FOLDERS], np.full(60, -1)), "there is no cluster to name"),
        ],
    )
    def test_refused(self, arguments, message):
        with pytest.raises(InputError, match=message):
            name_by_tokens(*arguments)
        with pytest.raises(InputError, match="z of a name must be 0 or more"):
            name_by_tokens([FOLDERS], LABELS, z=-1.0)
