"""Fixtures of several test files of learning."""

from contextlib import contextmanager

import pytest

from imagescape.learn import train


@pytest.fixture
def stopped_after(monkeypatch):
    """`with stopped_after(3):` ends a training before its fourth step, as a kill does.

    A training that is done by then goes on to what follows in the block.
    """

    class Stop(Exception):
        pass

    @contextmanager
    def until(count):
        steps, update = [0], train._update

        def counted(*arguments):
            steps[0] += 1
            if steps[0] > count:
                raise Stop
            return update(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(train, "_update", counted)
            try:
                yield
            except Stop:
                return

    return until
