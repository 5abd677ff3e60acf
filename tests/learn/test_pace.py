"""A stage with a time ends in time, whatever its steps take, and always goes along its whole schedule."""

import json
from itertools import pairwise

import pytest

from imagescape.learn.pace import Pace

PER_EPOCH = 10


def run(pace, step_seconds, begin_seconds=0.0, log_steps=5):
    """Steps as the loop makes them: the places of all, and the seconds they took."""
    places, seconds = [], begin_seconds
    while len(places) < pace.steps:
        places.append(pace.place(len(places)))
        seconds += step_seconds(len(places))
        if len(places) % log_steps == 0:
            pace.settle(len(places), seconds)
    return places, seconds


def test_without_a_time_a_step_is_a_step_of_the_schedule():
    pace = Pace(70, PER_EPOCH)
    places, _ = run(pace, lambda step: 1e6)
    assert places == [float(step) for step in range(70)]
    assert (pace.steps, pace.is_timed) == (70, False)


def test_a_time_that_was_foreseen_changes_nothing():
    places, seconds = run(Pace(200, PER_EPOCH, 200), lambda step: 1.0)
    assert (places, seconds) == ([pytest.approx(step) for step in range(200)], 200)


@pytest.mark.parametrize(
    "step_seconds",
    [
        lambda step: 1.3,
        lambda step: 0.6,
        lambda step: 1.0 if step < 100 else 1.4,
        lambda step: 1.0 + step / 300,
        lambda step: 3.0 if 40 <= step < 60 else 1.0,
    ],
    ids=["slower", "faster", "slower from the middle", "ever slower", "other work for a while"],
)
def test_the_end_is_in_time_by_half_an_epoch_and_at_the_end_of_the_schedule(step_seconds):
    pace = Pace(200, PER_EPOCH, 200)
    places, seconds = run(pace, step_seconds)
    epoch = PER_EPOCH * step_seconds(len(places))
    assert abs(seconds - 200) <= 0.6 * epoch
    assert len(places) % PER_EPOCH == 0
    assert (places[0], places[-1]) == (0, 199)
    assert all(0 < after - before < 2.5 for before, after in pairwise(places))


def test_how_long_it_takes_to_begin_is_no_rate():
    """50 s of compiling: the other 150 are 150 steps more, of which none is rushed through."""
    places, seconds = run(Pace(200, PER_EPOCH, 200), lambda step: 1.0, begin_seconds=50)
    assert (len(places), seconds) == (150, 200)
    assert max(after - before for before, after in pairwise(places)) < 1.5


def test_the_epoch_that_has_begun_is_ended():
    pace = Pace(200, PER_EPOCH, 30)
    places, _ = run(pace, lambda step: 7.0, log_steps=2)
    assert (len(places), places[-1]) == (10, 199)


def test_a_checkpoint_goes_on_where_it_was():
    whole = Pace(200, PER_EPOCH, 200)
    whole.settle(5, 5)
    whole.settle(50, 75)
    taken_up = Pace(200, PER_EPOCH, 200)
    taken_up.restore(json.loads(json.dumps(whole.state())))
    assert taken_up.steps == whole.steps != 200
    untimed = Pace(70, PER_EPOCH)
    untimed.restore(whole.state())
    assert untimed.steps == 70
    assert [taken_up.place(step) for step in range(50, 130)] == [whole.place(step) for step in range(50, 130)]
