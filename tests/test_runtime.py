"""Threads that wait for busy cores are spoken of, once, and left as they are."""

import logging

import pytest
import torch

from imagescape import runtime


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


class TestBusyCores:
    @pytest.fixture
    def said(self, monkeypatch, caplog):
        """What is said where a gradient takes `seconds[threads]`."""

        def said(count, seconds):
            runtime.warn_of_busy_cores.cache_clear()
            monkeypatch.setattr(runtime, "_seconds_of_a_gradient", seconds.__getitem__)
            with caplog.at_level(logging.WARNING):
                runtime.warn_of_busy_cores(count)
            return caplog.text

        return said

    def test_half_the_threads_are_recommended_where_all_are_much_slower(self, said):
        assert "4 threads are 3.0 times as slow as 2" in (text := said(4, {4: 0.6, 2: 0.2}))
        assert "OMP_NUM_THREADS=2" in text

    @pytest.mark.parametrize("seconds", [{2: 0.1, 1: 0.2}, {2: 0.25, 1: 0.2}])
    def test_nothing_is_said_where_they_are_no_slower_or_a_little(self, said, seconds):
        assert said(2, seconds) == ""

    def test_one_thread_is_not_measured(self, said):
        assert said(1, {}) == ""

    def test_it_is_said_once_a_number_of_threads(self, said, caplog):
        said(4, {4: 0.6, 2: 0.2})
        runtime.warn_of_busy_cores(4)
        assert len(caplog.records) == 1

    def test_measuring_leaves_threads_and_randomness_alone(self, threads):
        threads(2)
        state = torch.get_rng_state()
        assert runtime._seconds_of_a_gradient(1) > 0
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.get_rng_state(), state)
