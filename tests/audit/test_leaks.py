"""Copies across splits against loops over all pairs of rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagescape.audit.duplicates import Duplicates
from imagescape.audit.groups import exact_groups
from imagescape.audit.leaks import leaks
from imagescape.audit.pairs import Pairs
from imagescape.errors import InputError


def hamming(pairs):
    first, second, distance = (np.array(side) for side in zip(*pairs, strict=True)) if pairs else 3 * (np.empty(0),)
    return Pairs.of(first, second, distance, metric="hamming", radius=9, limit=99)


def entries(found):
    splits = found.splits
    return [
        (row, splits[a], splits[b], copy, distance)
        for row, a, b, copy, distance in zip(
            found.rows.tolist(),
            found.splits_of_rows.tolist(),
            found.splits_of_copies.tolist(),
            found.copies.tolist(),
            found.distances.tolist(),
            strict=True,
        )
    ]


def test_worked_by_hand():
    splits = ["train", "test", "train", "test", "valid", "train", None, "test"]
    pairs = hamming([(0, 1, 2), (1, 2, 1), (4, 5, 3), (6, 7, 1)])
    found = leaks(pairs, splits)
    assert entries(found) == [
        (0, "train", "test", 1, 2),
        (1, "test", "train", 2, 1),  # of 0 and 2, the nearer
        (2, "train", "test", 1, 1),
        (4, "valid", "train", 5, 3),
        (5, "train", "valid", 4, 3),
    ]
    assert found.splits == ("test", "train", "valid")
    assert found.sizes.tolist() == [3, 3, 1]
    assert found.counts().tolist() == [[0, 1, 0], [2, 0, 1], [0, 1, 0]]
    np.testing.assert_allclose(found.shares(), [[0, 1 / 3, 0], [2 / 3, 0, 1 / 3], [0, 1, 0]])
    assert found.rows_of("train").tolist() == [0, 2, 5]
    assert found.rows_of("train", "test").tolist() == [0, 2]
    assert "1 of 3 rows of 'test' (33.33%) have a copy in 'train'" in str(found)
    assert str(found).count("\n") == 5
    with pytest.raises(InputError, match="the splits are test, train, valid; there is no 'dev'"):
        found.rows_of("dev")


def test_twins_of_a_copy_are_copies():
    # 0 (test) and 1 (train) are twins of 2 (test); 3 (test) is near them.
    found = leaks(hamming([(0, 1, 0), (0, 2, 0), (0, 3, 4)]), np.array(["test", "train", "test", "test"]))
    assert entries(found) == [
        (0, "test", "train", 1, 0),
        (1, "train", "test", 0, 0),
        (2, "test", "train", 1, 0),
        (3, "test", "train", 1, 4),
    ]


def test_groups_of_equal_keys():
    found = leaks(exact_groups(list("xyxzy")), np.array([0, 0, 1, 1, 0]))
    assert entries(found) == [(0, 0, 1, 2, 0), (2, 1, 0, 0, 0)]


def test_groups_of_near_rows_say_the_larger_distance_to_the_centre():
    groups = Duplicates(4, hamming([(0, 1, 2), (0, 2, 3), (0, 3, 1)])).at(3)
    found = leaks(groups, ["a", "a", "b", "b"])
    assert entries(found) == [(0, "a", "b", 3, 1), (1, "a", "b", 3, 2), (2, "b", "a", 0, 3), (3, "b", "a", 0, 1)]


def test_no_leak():
    found = leaks(hamming([(0, 1, 2)]), ["a", "a", "b"])
    assert entries(found) == []
    assert not found.counts().any()


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(0, 4)), max_size=14),
    st.lists(st.sampled_from(["a", "b", "c", None]), min_size=9, max_size=9),
)
@settings(max_examples=120)
def test_against_loops(given_pairs, splits):
    if len(set(splits) - {None}) < 2:
        return
    pairs = hamming(given_pairs)
    near = np.full((9, 9), np.inf)
    head = np.arange(9)
    head[pairs.second[pairs.distance == 0]] = pairs.first[pairs.distance == 0]
    apart = {
        frozenset((a, b)): d
        for a, b, d in zip(pairs.first.tolist(), pairs.second.tolist(), pairs.distance.tolist(), strict=True)
    }
    for i in range(9):
        for j in range(9):
            near[i, j] = 0 if head[i] == head[j] else apart.get(frozenset((int(head[i]), int(head[j]))), np.inf)
    expected = []
    for i in range(9):
        for other in sorted(set(splits) - {None, splits[i]}):
            best = min((near[i, j], j) for j in range(9) if splits[j] == other)
            if splits[i] is not None and np.isfinite(best[0]):
                expected.append((i, splits[i], other, best[1], best[0]))
    assert entries(leaks(pairs, splits)) == expected


def test_refused():
    with pytest.raises(InputError, match="there are 1 of them"):
        leaks(hamming([(0, 1, 2)]), ["a", "a"])
    with pytest.raises(InputError, match="got 2 and a row 2"):
        leaks(hamming([(0, 2, 2)]), ["a", "b"])
