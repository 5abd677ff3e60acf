"""Near features against every distance in double precision."""

import numpy as np
import pytest

from imagescape.audit import feature_pairs as module
from imagescape.audit.duplicates import Duplicates
from imagescape.audit.feature_pairs import feature_pairs
from imagescape.audit.pairs import Pairs
from imagescape.errors import InputError

SLIP = 2e-6  # of distances in float32


def planted(n, d, dtype=np.float32, seed=0):
    """Rows in clumps away from the origin, of which a third are altered copies of others."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(0.3, 1, (20, d))[rng.integers(0, 20, n)] + rng.normal(0, 0.6, (n, d))
    copies = np.arange(2 * n // 3, n)
    noise = rng.normal(0, 1, (len(copies), d)) * rng.choice([0, 0.02, 0.1, 0.3], (len(copies), 1))
    rows[copies] = rows[rng.integers(0, n // 2, len(copies))] + noise
    return rows.astype(dtype)


def all_distances(rows, metric):
    rows = rows.astype(np.float64)
    if metric == "cosine":
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    squares = ((rows[:, None] - rows) ** 2).sum(axis=2)
    return squares / 2 if metric == "cosine" else np.sqrt(squares)


def opened(pairs, n):
    """The matrix (n, n) of the distances that pairs stand for, inf where they say nothing."""
    first_of = np.arange(n)
    twins = pairs.distance == 0
    first_of[pairs.second[twins]] = pairs.first[twins]
    of_firsts = np.full((n, n), np.inf)
    of_firsts[pairs.first, pairs.second] = of_firsts[pairs.second, pairs.first] = pairs.distance
    np.fill_diagonal(of_firsts, 0)
    full = of_firsts[np.ix_(first_of, first_of)]
    np.fill_diagonal(full, 0)
    return full


def check(pairs, rows, metric, radius, wanted=None):
    truth = all_distances(rows, metric)
    found = opened(pairs, len(rows))
    sure = truth < radius - SLIP
    if wanted is not None:
        sure &= wanted
    assert np.isfinite(found[sure]).all()
    near = np.isfinite(found)
    np.testing.assert_allclose(found[near], truth[near], atol=SLIP)
    assert (truth[near] <= radius + SLIP).all()


@pytest.fixture(params=["small blocks", "one block"])
def blocks(request, monkeypatch):
    if request.param == "small blocks":
        for name, size in {"BLOCK_ROWS": 16, "BLOCK_COLUMNS": 40, "READ_NUMBERS": 300, "FOUND_AT_ONCE": 3}.items():
            monkeypatch.setattr(module, f"_{name}", size)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("n", "d"), [(250, 40), (120, 3), (30, 64)])
@pytest.mark.usefixtures("blocks")
class TestEveryPair:
    @pytest.mark.parametrize("similarity", [0.5, 0.9, 0.99])
    def test_by_cosine(self, n, d, dtype, similarity):
        rows = planted(n, d, dtype)
        check(feature_pairs(rows, similarity), rows, "cosine", 1 - similarity)

    @pytest.mark.parametrize("radius", [0.5, 2.0, 6.0])
    def test_by_distance(self, n, d, dtype, radius):
        rows = planted(n, d, dtype)
        check(feature_pairs(rows, radius=radius, limit=n), rows, "euclidean", radius)


@pytest.mark.parametrize("axes", [1, 2, 7, 24])
def test_any_number_of_axes(axes, monkeypatch):
    monkeypatch.setattr(module, "_axes_worth", lambda rows, reach: axes)
    rows = planted(200, 24)
    check(feature_pairs(rows, 0.8, limit=200), rows, "cosine", 0.2)
    check(feature_pairs(rows, radius=4.0, limit=200), rows, "euclidean", 4.0)


def test_rows_on_few_axes_have_no_rest():
    """The length of the rest is then a root of nearly nothing, and its rounding must not hide a pair."""
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(400, 2)) @ rng.normal(size=(2, 100)) * 100).astype(np.float32)
    check(feature_pairs(rows, radius=8.0, limit=400), rows, "euclidean", 8.0)


def test_far_from_the_origin():
    rows = planted(150, 16) * 0.01 + 30
    truth = all_distances(rows.astype(np.float32), "euclidean")
    found = np.isfinite(opened(feature_pairs(rows.astype(np.float32), radius=0.03, limit=150), 150))
    assert found[truth < 0.0299].all()
    assert not found[truth > 0.0301].any()


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
@pytest.mark.usefixtures("blocks")
def test_new_rows_against_all(share):
    rows = planted(300, 20)
    new = np.random.default_rng(1).random(300) < share
    pairs = feature_pairs(rows, 0.9, new=new)
    check(pairs, rows, "cosine", 0.1, new[:, None] | new)
    twins = {row.tobytes() for row in rows[new]}
    for a, b, d in zip(pairs.first, pairs.second, pairs.distance, strict=True):
        assert d == 0 or rows[a].tobytes() in twins or rows[b].tobytes() in twins
    if not share:
        assert not len(pairs)


def test_a_collection_that_grows_is_as_one_that_was_there():
    rows = planted(300, 20)
    before = feature_pairs(rows[:200], 0.9)
    joined = Pairs.concatenate([before, feature_pairs(rows, 0.9, new=np.arange(300) >= 200)])
    whole = feature_pairs(rows, 0.9)
    assert set(zip(joined.first, joined.second, strict=True)) == set(zip(whole.first, whole.second, strict=True))


def test_very_many_equal_ones_are_a_star():
    rows = np.ones((50_000, 8), np.float16)
    rows[-1, 0] = 1.5
    pairs = feature_pairs(rows, 0.95)
    assert len(pairs) == 49_999
    assert (pairs.first == 0).all()


def test_scaled_copies_are_near_by_cosine_and_zeros_only_to_each_other():
    rows = np.array([[1, 2, 3], [2, 4, 6], [0, 0, 0], [0, 0, 0], [-1, -2, -3]], np.float32)
    found = np.isfinite(opened(feature_pairs(rows, 0.5), 5))
    assert found.tolist() == [
        [True, True, False, False, False],
        [True, True, False, False, False],
        [False, False, True, True, False],
        [False, False, True, True, False],
        [False, False, False, False, True],
    ]


class TestCrowds:
    """A black video: every frame is near every other."""

    @pytest.fixture
    def frames(self):
        rng = np.random.default_rng(0)
        clump = rng.normal(0, 1, 32) + rng.normal(0, 0.05, (2000, 32))
        return np.concatenate([clump, rng.normal(0, 1, (200, 32))]).astype(np.float32)

    def test_pairs_are_bounded_and_the_clump_stays_one(self, frames):
        pairs = feature_pairs(frames, 0.95, limit=10)
        assert len(pairs) < 2000 * 12
        assert pairs.crowded.tolist() == list(range(2000))
        groups = Duplicates(2200, pairs).at(0.95)
        assert groups.sizes.tolist() == [2000]

    def test_the_kept_are_the_nearest(self, frames):
        pairs = feature_pairs(frames, 0.95, limit=10)
        truth = all_distances(frames[:2000], "cosine")
        np.fill_diagonal(truth, np.inf)
        kept = np.isfinite(opened(pairs, 2200))
        nearest = np.argsort(truth, axis=1)[:, :9]
        assert kept[np.arange(2000)[:, None], nearest].all()


def test_progress_is_told_to_the_end():
    shares = []
    feature_pairs(planted(300, 8), 0.9, advance=shares.append)
    assert sum(shares) == pytest.approx(1)


def test_few_rows():
    for n in (0, 1):
        assert len(feature_pairs(np.ones((n, 4), np.float32), 0.9)) == 0
    assert len(feature_pairs(np.ones((2, 4), np.float32), 0.9)) == 1


BAD = np.ones((4, 3), np.float32)
BAD[2, 1] = np.nan


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (np.ones((3, 2)), {}, "give one of the two"),
        (np.ones((3, 2)), {"similarity": 0.9, "radius": 1}, "give one of the two"),
        (np.ones((3, 2)), {"similarity": 0}, "above 0 and up to 1, got 0"),
        (np.ones((3, 2)), {"similarity": 95}, "above 0 and up to 1, got 95"),
        (np.ones((3, 2)), {"radius": -1}, "0 or more, got -1"),
        (np.ones((3, 2)), {"radius": 1, "limit": 0}, "limit must be at least 1"),
        (np.ones(3), {"radius": 1}, r"matrix of numbers \(rows, dimensions\), got float64 of shape \(3,\)"),
        (np.array([["a"]]), {"radius": 1}, "matrix of numbers"),
        (BAD, {"radius": 1}, "must be finite, row 2 is not"),
        (np.ones((3, 2)), {"radius": 1, "new": np.ones(4, bool)}, r"one bool a row, got bool \(4,\) for 3 rows"),
    ],
)
def test_refused(features, options, message):
    with pytest.raises(InputError, match=message):
        feature_pairs(features, **options)
