"""Metrics for TensorBoard: read back by TensorBoard itself."""

import pytest

from imagescape.errors import MissingExtraError
from imagescape.learn.events import Events
from imagescape.learn.train import Record


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"imagescape\[tensorboard\]"):
        Events(tmp_path)


def test_what_is_a_number_is_written(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = Events(tmp_path / "events")
    record = Record(tmp_path, events=events)
    record.log({"stage": 1, "step": 3, "loss": 0.5, "learning_rate": 0.1})
    record.log({"stage": 1, "step": 6, "loss": 0.25, "learning_rate": 0.1})
    events.log(2, {"recall_at_1": 0.75, "distance_at_precision": None}, "guard")
    events.close()
    found = EventAccumulator(str(tmp_path / "events"))
    found.Reload()
    assert [(one.step, one.value) for one in found.Scalars("training/loss")] == [(3, 0.5), (6, 0.25)]
    assert [(one.step, one.value) for one in found.Scalars("guard/recall_at_1")] == [(2, 0.75)]
    assert "guard/distance_at_precision" not in found.Tags()["scalars"]
