"""Labels and splits: shares kept, nothing in both sides, nothing invented."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagescape.errors import InputError
from imagescape.evaluate.splits import Split, encode_labels, official_split, stratified_split


class TestEncodeLabels:
    def test_numbers_sort_by_value_and_strings_by_text(self):
        assert encode_labels([10, 9, 2]).classes == (2, 9, 10)
        assert encode_labels(np.array(["b", "a", "b"])).codes.tolist() == [1, 0, 1]

    def test_none_nan_and_noise_are_unlabelled(self):
        labels = encode_labels([None, float("nan"), -1, 4])
        assert labels.codes.tolist() == [-1, -1, -1, 0]
        assert labels.unlabelled_count == 3
        assert labels.labelled.tolist() == [3]

    def test_an_empty_text_is_none(self):
        labels = encode_labels(["", "b", " ", "b"])  # as a table leaves a cell that nobody filled in
        assert labels.codes.tolist() == [-1, 1, 0, 1]
        assert labels.classes == (" ", "b")

    def test_the_string_minus_one_is_a_name(self):
        assert encode_labels(["-1", "x"]).unlabelled_count == 0


class TestStratified:
    def test_worked_by_hand(self):
        split = stratified_split([0] * 6 + [1] * 4, test_rows=5)
        assert len(split.test_index) == 5
        assert (split.test_index < 6).sum() == 3

    def test_default_is_a_fifth_up_to_ten_thousand(self):
        assert len(stratified_split(np.arange(500) % 5).test_index) == 100
        assert len(stratified_split(np.arange(60_000) % 10).test_index) == 10_000

    @given(
        st.lists(st.sampled_from(["a", "b", "c", None]), min_size=6, max_size=80).filter(
            lambda labels: sum(label is not None for label in labels) >= 6
        ),
        st.integers(0, 3),
    )
    def test_shares_are_kept_and_sides_are_apart(self, names, seed):
        labels = encode_labels(names)
        test_rows = len(labels.labelled) // 3
        split = stratified_split(names, test_rows=test_rows, seed=seed)
        together = np.concatenate([split.train_index, split.test_index])
        assert sorted(together) == labels.labelled.tolist()
        for code in range(len(labels.classes)):
            count = (labels.codes == code).sum()
            tested = (labels.codes[split.test_index] == code).sum()
            assert abs(tested - count * test_rows / len(labels.labelled)) <= 1
            assert tested < count

    def test_seeds_name_splits(self):
        labels = np.arange(200) % 2
        assert (
            stratified_split(labels, seed=1).test_index.tolist() == stratified_split(labels, seed=1).test_index.tolist()
        )
        assert (
            stratified_split(labels, seed=1).test_index.tolist() != stratified_split(labels, seed=2).test_index.tolist()
        )

    def test_nothing_to_hold_out(self):
        with pytest.raises(InputError, match=r"between 1 and 9.*got 10"):
            stratified_split([0] * 10, test_rows=10)


def test_official_split_is_test_against_the_rest():
    split = official_split(["train", "test", None, "val"])
    assert split.test_index.tolist() == [1]
    assert split.train_index.tolist() == [0, 2, 3]
    with pytest.raises(InputError, match="'test' and others, got train"):
        official_split(["train", "train"])


def test_an_empty_side_is_refused():
    with pytest.raises(InputError, match="0 to learn from and 1 to test"):
        Split(np.array([], int), np.array([0]))
