"""Looks at a network: every figure worked by hand."""

import numpy as np
import pytest

from imagescape.errors import InputError
from imagescape.evaluate.looks import Copies, Look, table, worst_family


def directions(*degrees):
    turns = np.radians(degrees)
    return np.column_stack([np.cos(turns), np.sin(turns)]).astype(np.float32)


@pytest.fixture
def copies():
    """Two originals at 0 and 90 degrees; a third was left out. Crops are seen, turns unseen."""
    return Copies(
        truth=np.array([0, 1, -1, 0, 1, -1]),
        originals=np.array([0, 1, 2, 0, 1, 2]),
        families=np.array(["crop"] * 3 + ["turn"] * 3),
        unseen=("turn",),
    )


def test_by_hand(copies):
    # Seen: both right and near, and one that matches nothing far away. Unseen: one right, one nearer to the other.
    look = copies.look(directions(0, 90), directions(5, 85, 225, 10, 30, 200), name="it", epoch=3)
    assert (look.name, look.epoch) == ("it", 3)
    assert look.figures.recall_at_1 == 0.75
    assert look.score == (0.75 + look.figures.average_precision) / 2
    assert (look.seen.recall_at_1, look.unseen.recall_at_1) == (1.0, 0.5)
    assert look.by_family == {"crop": 1.0, "turn": 0.5}
    near = 1 - np.cos(np.radians(5))
    assert look.seen.distance_at_precision == pytest.approx(near, abs=1e-6)
    assert look.seen.average_precision == pytest.approx(1.0)
    # At 5 degrees nothing of the unseen is accepted.
    assert (look.carried_precision, look.carried_recall) == (None, 0.0)


def test_a_threshold_that_is_carried_over(copies):
    look = copies.look(directions(0, 90), directions(20, 70, 225, 10, 15, 250), name="it")
    # 20 degrees: of the unseen 10 (right) and 15 (wrong) are accepted.
    assert (look.carried_precision, look.carried_recall) == (0.5, 0.5)


def test_as_plain_values_and_back(copies):
    look = copies.look(directions(0, 90), directions(5, 85, 225, 10, 30, 200), name="it")
    assert Look.from_dict(look.as_dict()) == look


def test_the_worst_family_and_the_table(copies):
    before = copies.look(directions(0, 90), directions(5, 85, 225, 10, 80, 200), name="before")
    after = copies.look(directions(0, 90), directions(5, 5, 225, 10, 80, 200), name="after")
    assert worst_family(before, after) == ("crop", -0.5)
    assert worst_family(before, before)[1] == 0
    assert [line.split()[0] for line in table([before, after]).splitlines()] == ["network", "before", "after"]


def test_both_kinds_are_needed():
    with pytest.raises(InputError, match="there are none unseen among crop"):
        Copies(truth=np.array([0]), originals=np.array([0]), families=np.array(["crop"]), unseen=("turn",))
    with pytest.raises(InputError, match="there are none seen among turn"):
        Copies(truth=np.array([0]), originals=np.array([0]), families=np.array(["turn"]), unseen=("turn",))
    with pytest.raises(InputError, match="one entry a copy"):
        Copies(truth=np.array([0]), originals=np.array([0, 1]), families=np.array(["turn"]), unseen=("turn",))
