"""Which row stays: by rule, by reference, and always one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagescape.audit.groups import exact_groups
from imagescape.audit.keep import keep
from imagescape.errors import InputError

GROUPS = exact_groups(list("abacabd"))  # a: 0 2 4, b: 1 5; 3 and 6 are alone


def said(kept):
    return kept.kept.tolist(), dict(zip(kept.removed.tolist(), kept.in_favor_of.tolist(), strict=True))


def test_largest_is_of_pixels_and_then_of_bytes():
    pixels, sizes = np.array([4, 9, 8, 0, 8, 9, 0], np.uint32), np.array([99, 5, 1, 0, 2, 5, 0])
    assert said(keep(GROUPS, "largest", pixels=pixels)) == ([1, 2], {0: 2, 4: 2, 5: 1})
    assert said(keep(GROUPS, "largest", pixels=pixels, file_bytes=sizes)) == ([1, 4], {0: 4, 2: 4, 5: 1})


def test_oldest_and_those_without_a_time_last():
    modified = np.array([np.nan, 3, 2, 0, 1, np.nan, 0])
    assert said(keep(GROUPS, "oldest", modified=modified)) == ([1, 4], {0: 4, 2: 4, 5: 1})
    nanoseconds = np.array([1_763_000_000_000_000_002, 5, 1_763_000_000_000_000_001, 0, 2**62, 5, 0])
    assert keep(GROUPS, "oldest", modified=nanoseconds).kept.tolist() == [1, 2]


def test_first_and_center():
    assert said(keep(GROUPS, "first")) == ([0, 1], {2: 0, 4: 0, 5: 1})
    assert said(keep(GROUPS, "center")) == ([0, 1], {2: 0, 4: 0, 5: 1})


def test_the_reference_goes_before_the_rule():
    pixels, reference = np.array([4, 9, 8, 0, 8, 9, 0]), np.array([1, 0, 0, 0, 1, 1, 1], bool)
    assert said(keep(GROUPS, pixels=pixels, reference=reference)) == ([4, 5], {0: 4, 1: 5, 2: 4})
    spared = keep(GROUPS, pixels=pixels, reference=reference, spare_reference=True)
    assert said(spared) == ([0, 4, 5], {1: 5, 2: 4})
    assert str(spared) == "3 rows of groups are kept (largest), 2 would go"


def test_an_order_of_folders():
    pixels, folders = np.array([4, 9, 8, 0, 8, 9, 0]), np.array([2, 7, 1, 0, 1, 3, 0])
    assert said(keep(GROUPS, pixels=pixels, reference=folders)) == ([2, 5], {0: 2, 1: 5, 4: 2})


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20), st.randoms(), st.booleans())
@settings(max_examples=60)
def test_each_group_keeps_one_and_no_reference_goes_for_another(keys, random, spare):
    groups = exact_groups(keys)
    reference = np.array([random.random() < 0.4 for _ in keys])
    pixels = np.array([random.randrange(3) for _ in keys])
    kept = keep(groups, "largest", pixels=pixels, reference=reference, spare_reference=spare)
    assert sorted([*kept.kept, *kept.removed]) == sorted(groups.rows)
    for group in groups:
        assert np.isin(group, kept.kept).any()
    for row, other in zip(kept.removed, kept.in_favor_of, strict=True):
        assert keys[row] == keys[other]
        assert other in kept.kept
        assert reference[other] or not reference[row]
        assert not (spare and reference[row])


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        ("newest", {}, "largest, oldest, first, center, got 'newest'"),
        ("largest", {}, "looks at pixels, which were not given"),
        ("oldest", {}, "looks at modified, which were not given"),
        ("largest", {"pixels": np.ones(3)}, r"pixels must be one number a row, got float64 of shape \(3,\) for 7 rows"),
        ("first", {"reference": np.array(["a"] * 7)}, "reference must be one number a row"),
        ("first", {"spare_reference": True}, "it must be said which rows it is"),
    ],
)
def test_refused(rule, options, message):
    with pytest.raises(InputError, match=message):
        keep(GROUPS, rule, **options)
