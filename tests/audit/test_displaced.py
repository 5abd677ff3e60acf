"""Displaced subgroups: planted ones found whole, and nothing where there is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagescape.audit.displaced import displaced_subgroups
from imagescape.errors import InputError
from tests.audit.graphs import clouds, graph_of, without


def planted(size=30, spread=0.5, d=5, seed=0):
    """Three clouds, and in the middle of the second a clump with the label of the first; and the clump's rows."""
    rows, labels = clouds([300, 300, 300], d=d, seed=seed)
    rng = np.random.default_rng(seed + 1)
    clump = rows[labels == 1].mean(axis=0) + 0.3 + spread * rng.normal(size=(size, d))
    return np.concatenate([rows, clump]), np.concatenate([labels, np.zeros(size, int)]), np.arange(900, 900 + size)


@pytest.mark.parametrize(("size", "spread"), [(10, 0.3), (30, 0.1), (30, 0.5), (100, 0.3)])
def test_a_clump_is_found_whole(size, spread):
    """Smaller than the neighbours asked, denser than its host, as loose as it, and large."""
    rows, labels, clump = planted(size, spread)
    found = displaced_subgroups(graph_of(rows), labels)
    assert len(found) == 1
    (group,) = found.groups
    assert (group.label, group.host) == (0, 1)
    assert len(np.setdiff1d(group.rows, clump)) == 0
    assert len(group) >= 0.9 * size
    assert group.host_share > 0.95
    assert group.label_share == pytest.approx(len(group) / (300 + size))
    assert group.center == group.rows[0]


def test_its_figures_by_loops():
    rows, labels, _ = planted()
    graph = graph_of(rows)
    (group,) = displaced_subgroups(graph, labels).groups
    inside = set(group.rows.tolist())
    touching = {j for i in inside for j in graph.indices[i].tolist()} - inside
    touching |= {i for i in range(len(rows)) if i not in inside and inside & set(graph.indices[i].tolist())}
    assert group.host_share == sum(labels[i] == 1 for i in touching) / len(touching)
    near = labels[graph.indices[group.rows]]
    assert group.own_share == pytest.approx((near == 0).mean())
    assert group.score == pytest.approx(group.host_share * group.own_share)


def test_single_wrong_labels_make_no_group():
    rows, labels = clouds([600, 600])
    wrong = np.random.default_rng(0).permutation(1200)[:60]
    labels[wrong] = 1 - labels[wrong]
    assert len(displaced_subgroups(graph_of(rows), labels)) == 0


@pytest.mark.parametrize("apart", [3, 5, 12])
def test_nothing_where_labels_are_right(apart):
    rows, labels = clouds([400, 400, 400], apart=apart)
    assert len(displaced_subgroups(graph_of(rows), labels)) == 0


def test_an_island_lies_in_nobodys_region():
    rows, labels = clouds([300, 300, 100])
    labels[labels == 2] = 0
    assert len(displaced_subgroups(graph_of(rows), labels)) == 0


def test_a_few_strays_beside_an_island_are_no_region():
    rows, labels = clouds([300, 300, 100])
    strays = rows[labels == 2].mean(axis=0) + 0.5 * np.random.default_rng(1).normal(size=(3, 5))
    rows, labels = np.concatenate([rows, strays]), np.concatenate([np.where(labels == 2, 0, labels), [1, 1, 1]])
    assert len(displaced_subgroups(graph_of(rows), labels)) == 0


def test_images_beside_a_core_belong_to_its_group():
    rows, labels, clump = planted(30, 0.5)
    graph = graph_of(rows)
    (group,) = displaced_subgroups(graph, labels, min_neighbors=8).groups
    kind = np.isin(graph.indices[group.rows], clump).sum(axis=1)
    assert kind.max() >= 8
    assert kind.min() < 8


def test_a_label_that_lies_among_another_as_a_whole_lives_there():
    rows, labels, _ = planted()
    labels[900:] = 7
    assert len(displaced_subgroups(graph_of(rows), labels)) == 0


def test_two_clumps_the_clearer_first_and_cuts():
    rows, labels, clump = planted(40, 0.2)
    rng = np.random.default_rng(3)
    loose = rows[labels == 2].mean(axis=0) + 0.7 * rng.normal(size=(25, 5))
    rows, labels = np.concatenate([rows, loose]), np.concatenate([labels, np.ones(25, int)])
    found = displaced_subgroups(graph_of(rows), labels)
    assert [(one.label, one.host) for one in found.groups] == [(0, 1), (1, 2)]
    assert found.groups[0].score > found.groups[1].score
    assert [one.label for one in found.at(min_size=30).groups] == [0]
    assert len(found.at(host_share=1.0)) <= 2
    assert str(found).startswith("2 displaced subgroups of 8 images or more")
    assert f"{len(clump)} '0' among '1'" in str(found)
    assert found.as_dict()["groups"][0]["rows"] == found.groups[0].rows.tolist()
    with pytest.raises(InputError, match="sought from 8 images"):
        found.at(min_size=4)


def test_images_without_label_or_features_are_passed_over():
    rows, labels, clump = planted(40)
    labels[clump[:5]] = -1
    labels[310:330] = -1
    graph = without(graph_of(rows, 20), [clump[6], 400])
    (group,) = displaced_subgroups(graph, labels).groups
    assert len(np.setdiff1d(group.rows, clump[[5, *range(7, 40)]])) == 0
    assert len(group) >= 30


@settings(max_examples=10)
@given(st.permutations(range(3)), st.integers(0, 2**32 - 1))
def test_neither_order_nor_names_matter(names, seed):
    rows, labels, _ = planted()
    order = np.random.default_rng(seed).permutation(len(rows))
    (before,) = displaced_subgroups(graph_of(rows), labels).groups
    (after,) = displaced_subgroups(graph_of(rows[order]), np.array(names)[labels[order]]).groups
    assert set(order[after.rows].tolist()) == set(before.rows.tolist())
    assert (after.label, after.host) == (names[0], names[1])
    assert after.host_share == pytest.approx(before.host_share)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (np.zeros(40, int), {}, "only where there are 2, got 1"),
        ([None] * 40, {}, "got no labels"),
        (np.arange(39), {}, "one entry a row, got 39 for 40"),
        (np.arange(40) % 2, {"k": 16}, "k must lie between 1 and the 15 neighbours"),
        (np.arange(40) % 2, {"min_neighbors": 16}, "min_neighbors must lie between 1 and the 15"),
        (np.arange(40) % 2, {"min_size": 1}, "min_size must be at least 2, got 1"),
        (np.arange(40) % 2, {"host_share": 0}, r"host_share must lie in \(0, 1\], got 0"),
    ],
)
def test_refused(labels, options, message):
    with pytest.raises(InputError, match=message):
        displaced_subgroups(graph_of(clouds([40])[0]), labels, **options)
