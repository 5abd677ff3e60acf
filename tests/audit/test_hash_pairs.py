"""Near hashes against every pair counted, in every scheme of blocks."""

import numpy as np
import pytest

from imagescape.audit import hash_pairs as module
from imagescape.audit.hash_pairs import Scheme, hash_pairs
from imagescape.errors import InputError


def planted(n, width, seed=0, flips=6):
    """Random hashes, of which a third are altered copies of others."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 256, (n, width), dtype=np.uint8)
    for row in range(2 * n // 3, n):
        bits = np.unpackbits(hashes[rng.integers(0, n // 2)])
        bits[rng.integers(0, 8 * width, rng.integers(0, flips + 1))] ^= 1
        hashes[row] = np.packbits(bits)
    return hashes


def by_counting(hashes, radius, new=None):
    """Every pair of rows within the radius, from the bits written out."""
    bits = np.unpackbits(hashes, axis=1).astype(int)
    apart = np.abs(bits[:, None] - bits).sum(axis=2)
    near = np.triu(apart <= radius, 1)
    if new is not None:
        near &= new[:, None] | new
    return {(int(a), int(b)): int(apart[a, b]) for a, b in zip(*np.nonzero(near), strict=True)}


def opened(pairs, n):
    """Every pair that stars of twins stand for."""
    first_of = np.arange(n)
    twins = pairs.distance == 0
    first_of[pairs.second[twins]] = pairs.first[twins]
    rows = {}
    for row, first in enumerate(first_of.tolist()):
        rows.setdefault(first, []).append(row)
    found = {}
    for members in rows.values():
        found |= {(a, b): 0 for a in members for b in members if a < b}
    for a, b, d in zip(pairs.first.tolist(), pairs.second.tolist(), pairs.distance.tolist(), strict=True):
        if d:
            found |= {(min(x, y), max(x, y)): int(d) for x in rows[a] for y in rows[b]}
    return found


@pytest.mark.parametrize("width", [8, 18, 32, 128], ids="{} bytes".format)
@pytest.mark.parametrize("radius", [0, 1, 4, 9])
def test_every_pair(width, radius):
    hashes = planted(240, width)
    assert opened(hash_pairs(hashes, radius), 240) == by_counting(hashes, radius)


@pytest.mark.parametrize("width", [8, 32])
@pytest.mark.parametrize("chosen", [0, 1, 2, 3])
def test_every_scheme_finds_each_pair_once(width, chosen, monkeypatch):
    monkeypatch.setattr(
        module, "_best_scheme", lambda words, bits, radius, asked: Scheme.of(np.arange(bits), radius, chosen)
    )
    monkeypatch.setattr(module, "_FOUND_AT_ONCE", 3)
    monkeypatch.setattr(module, "_TASK", 500)
    given = []
    add = module.NearestPairs.add
    monkeypatch.setattr(module.NearestPairs, "add", lambda self, *found: (given.append(found), add(self, *found)))
    hashes = planted(200, width)
    hashes[:80, : width // 2] = 7  # very many share half of their bits
    assert opened(hash_pairs(hashes, 5), 200) == by_counting(hashes, 5)
    pairs = [pair for one in given for pair in zip(one[0].tolist(), one[1].tolist(), strict=True)]
    assert len(pairs) == len(set(pairs))


def test_keys_that_collide_are_told_apart(monkeypatch):
    monkeypatch.setattr(Scheme, "keys", lambda self, words, table: np.zeros(len(words), np.uint64))
    hashes = planted(120, 32)
    assert opened(hash_pairs(hashes, 5), 120) == by_counting(hashes, 5)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
def test_new_rows_against_all(share):
    hashes = planted(300, 8)
    new = np.random.default_rng(1).random(300) < share
    found = opened(hash_pairs(hashes, 4, new=new), 300)
    wanted = by_counting(hashes, 4, new)
    everything = by_counting(hashes, 4)
    assert wanted.items() <= found.items() <= everything.items()
    # Beyond what was asked for there are only old twins of one that is near something new.
    twins = {tuple(hashes[row]) for row in np.flatnonzero(new)}
    pairs = hash_pairs(hashes, 4, new=new)
    for a, b, d in zip(pairs.first, pairs.second, pairs.distance, strict=True):
        assert d == 0 or tuple(hashes[a]) in twins or tuple(hashes[b]) in twins


def test_a_collection_that_grows_is_as_one_that_was_there():
    hashes = planted(300, 8)
    before = hash_pairs(hashes[:200], 4)
    joined = type(before).concatenate([before, hash_pairs(hashes, 4, new=np.arange(300) >= 200)])
    whole = hash_pairs(hashes, 4)
    for name in ("first", "second", "distance"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))


def test_order_of_rows_changes_nothing():
    hashes = planted(200, 8)
    order = np.random.default_rng(3).permutation(200)
    found = opened(hash_pairs(hashes[order], 4), 200)
    back = {(min(order[a], order[b]), max(order[a], order[b])): d for (a, b), d in found.items()}
    assert back == by_counting(hashes, 4)


def test_very_many_equal_ones_are_a_star():
    hashes = np.zeros((100_000, 8), np.uint8)
    hashes[-1, 0] = 1
    pairs = hash_pairs(hashes, 4)
    assert len(pairs) == 99_999
    assert (pairs.first == 0).all()
    assert pairs.distance[-1] == 1
    assert not len(pairs.crowded)


class TestCrowds:
    """Three thousand hashes that differ in a bit or two of a common one."""

    @pytest.fixture
    def hashes(self):
        rng = np.random.default_rng(0)
        bits = np.zeros((3000, 256), np.uint8)
        bits[np.arange(3000), rng.integers(0, 256, 3000)] = 1
        bits[np.arange(3000), rng.integers(0, 256, 3000)] ^= 1
        return np.packbits(bits, axis=1)

    def test_pairs_are_bounded_and_the_clump_stays_one(self, hashes):
        pairs = hash_pairs(hashes, 4, limit=10)
        n = len(np.unique(hashes, axis=0))
        assert len(pairs) < 3000 * 12
        assert len(pairs.crowded) == n
        from imagescape.audit.duplicates import Duplicates

        groups = Duplicates(3000, pairs).at(4)
        assert groups.sizes.tolist() == [3000]
        assert (groups.distances <= 4).all()

    def test_nothing_is_forgotten_below_the_limit(self, hashes):
        few = hashes[:200]
        pairs = hash_pairs(few, 4, limit=199)
        assert not len(pairs.crowded)
        assert opened(pairs, 200) == by_counting(few, 4)

    def test_a_hub_keeps_all_and_every_crowded_row_has_one(self, hashes):
        few = hashes[:400]
        pairs = hash_pairs(few, 3, limit=5)
        truth = by_counting(few, 3)
        found = opened(pairs, 400)
        assert found.items() <= truth.items()
        near = {row: {a + b - row for a, b in truth if row in (a, b)} for row in range(400)}
        kept = {row: {a + b - row for a, b in found if row in (a, b)} for row in range(400)}
        hubs = {row for row in pairs.crowded.tolist() if kept[row] == near[row]}
        assert all(row in hubs or kept[row] & hubs for row in pairs.crowded.tolist())


def test_schemes():
    scheme = Scheme.of(np.random.default_rng(0).permutation(64), 4, 2)
    assert scheme.tables == 15
    assert len(list(scheme)) == 15
    assert scheme.radius == 4
    assert np.bitwise_count(scheme.blocks).sum() == 64
    assert np.bitwise_or.reduce(scheme.blocks, axis=None) == np.uint64(2**64 - 1)


def test_bits_that_are_always_the_same_are_shared_out():
    """Else a block of them alone would agree in all hashes."""
    hashes = np.random.default_rng(0).integers(0, 256, (5000, 8), dtype=np.uint8) & 0x55
    words = hashes.view(np.uint64)
    order = module._most_telling(words, 64)
    assert set(order[:32] % 2) == {1}  # bits count from the most significant
    assert np.bitwise_count(Scheme.of(order, 4, 2).blocks & np.uint64(0x5555555555555555)).min() >= 5


def test_progress_is_told_to_the_end():
    shares = []
    hash_pairs(planted(300, 8), 4, advance=shares.append)
    assert sum(shares) == pytest.approx(1)


def test_no_rows():
    assert len(hash_pairs(np.empty((0, 8), np.uint8), 4)) == 0
    assert len(hash_pairs(np.zeros((1, 8), np.uint8), 4)) == 0


@pytest.mark.parametrize(
    ("hashes", "radius", "options", "message"),
    [
        (np.zeros((3, 8), np.int64), 4, {}, r"uint8 \(rows, bytes\), got int64 \(3, 8\)"),
        (np.zeros(8, np.uint8), 4, {}, "uint8"),
        (np.zeros((3, 8), np.uint8), -1, {}, "from 0 to 63, got -1"),
        (np.zeros((3, 8), np.uint8), 64, {}, "from 0 to 63, got 64"),
        (np.zeros((3, 8), np.uint8), 1.5, {}, "got 1.5"),
        (np.zeros((3, 8), np.uint8), 4, {"limit": 0}, "limit must be at least 1, got 0"),
        (np.zeros((3, 8), np.uint8), 4, {"new": np.ones(2, bool)}, r"one bool a row, got bool \(2,\) for 3 rows"),
        (np.zeros((3, 8), np.uint8), 4, {"new": np.array([0, 1, 2])}, "one bool a row, got int64"),
    ],
)
def test_refused(hashes, radius, options, message):
    with pytest.raises(InputError, match=message):
        hash_pairs(hashes, radius, **options)
