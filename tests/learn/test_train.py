"""The loop: same result resumed or not, on one device or two; honest about what it cannot do."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from imagescape.errors import CheckpointError, InputError, Interrupted
from imagescape.learn import train
from imagescape.learn.losses import InfoNCE, Tempered, cauchy, cosine, info_nce, kernel
from imagescape.learn.optim import Schedule
from imagescape.learn.train import Diverged, Record, _Batches, fit, make_fabric, read_metrics, seconds_per_step

LOSS = partial(info_nce, log_similarity=cauchy)


class Points:
    """Noisy copies of points on a line: a world in which the loop can be seen to learn."""

    device = torch.device("cpu")

    def __init__(self, items=64):
        self.items = torch.linspace(-1, 1, items)[:, None] * torch.ones(1, 4)
        self.seen = []

    def __len__(self):
        return len(self.items)

    def batch(self, index, generator):
        self.seen.append(index)
        rows = self.items[torch.from_numpy(index)]
        return tuple(rows + 0.05 * torch.randn(rows.shape, generator=generator) for _ in range(2))


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 2))


def schedule(**changes):
    return Schedule(**({"epochs": 4, "batch_size": 16, "learning_rate": 0.05} | changes))


@pytest.fixture(scope="module")
def fabric():
    return make_fabric("cpu", "fp32")


def test_the_loss_falls(fabric):
    history = fit(network(), Points(), LOSS, schedule(epochs=40), fabric=fabric)
    assert history[-1]["loss"] < history[0]["loss"] - 0.3
    assert [line["step"] for line in history[:3]] == [1, 2, 3]
    assert history[-1]["epoch"] == 40


def test_one_step_is_torch_s_own(fabric):
    """The first update against SGD written out."""
    pairs, net, plain = Points(16), network().eval(), network().eval()
    net.train = plain.train = lambda mode=True: net  # dropout off: the loop would turn it on
    fit(net, pairs, LOSS, schedule(epochs=1, weight_decay=0.01), fabric=fabric, seed=5)
    from imagescape.runtime import seed_for

    generator = torch.Generator().manual_seed(seed_for(5, 1, 0, 0, 0, "views"))
    a, b = pairs.batch(pairs.seen[0], generator)
    optimizer = torch.optim.SGD(plain.parameters(), 0.05, momentum=0.9, weight_decay=0.01)
    LOSS(*plain(torch.cat([a, b])).chunk(2)).backward()
    optimizer.step()
    assert_close(net.state_dict(), plain.state_dict())


def test_every_epoch_sees_every_item_at_most_once_in_an_order_of_its_own(fabric):
    pairs = Points(70)
    fit(network(), pairs, LOSS, schedule(epochs=3), fabric=fabric)
    epochs = np.stack(pairs.seen).reshape(3, 64)  # 70 items, 4 full batches of 16
    assert all(len(set(epoch)) == 64 for epoch in epochs.tolist())
    assert not (epochs[0] == epochs[1]).all()


def test_seeds_and_stages_settle_everything(fabric):
    def trained(seed, stage):
        net = network()
        fit(net, Points(), LOSS, schedule(), fabric=fabric, seed=seed, stage=stage)
        return net[0].weight.detach()

    assert_close(trained(1, 1), trained(1, 1), atol=0, rtol=0)
    assert (trained(1, 1) - trained(2, 1)).abs().max() > 1e-4
    assert (trained(1, 1) - trained(1, 2)).abs().max() > 1e-4


def test_global_randomness_is_left_alone(fabric):
    net = network()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    fit(net, Points(), LOSS, schedule(epochs=1), fabric=fabric)
    assert_close(torch.rand(3), expected)


def test_accumulated_parts_weigh_as_one_step(fabric):
    """With the same items in both parts, twice half the gradient is the gradient."""
    pairs = Points(32)
    fit(network(), pairs, LOSS, schedule(epochs=1, accumulate=2), fabric=fabric)
    assert [len(index) for index in pairs.seen] == [16, 16]
    history = fit(network(), Points(32), LOSS, schedule(epochs=2, accumulate=2), fabric=fabric)
    assert [line["step"] for line in history] == [1, 2]


def test_a_network_that_asks_is_told_where_training_is_before_each_step(fabric):
    class Asking(nn.Linear):
        def at(self, progress):
            told.append((progress, self.weight.detach().clone()))

    told, net = [], Asking(4, 2)
    first = net.weight.detach().clone()
    fit(net, Points(), LOSS, schedule(epochs=2), fabric=fabric)
    assert [progress for progress, _ in told] == pytest.approx([step / 7 for step in range(8)])
    assert_close(told[0][1], first)
    assert not told[1][1].equal(first)


def test_a_hook_after_each_epoch_changes_nothing_that_is_learned(fabric):
    hooked, plain, told = network(), network(), []

    def look(epoch, epochs):
        told.append((epoch, epochs))
        hooked.eval()
        torch.rand(epoch)

    fit(hooked, Points(), LOSS, schedule(epochs=3), fabric=fabric, after_epoch=look)
    fit(plain, Points(), LOSS, schedule(epochs=3), fabric=fabric)
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert_close(hooked.state_dict(), plain.state_dict(), atol=0, rtol=0)


def test_a_loss_with_parameters_is_trained_too(fabric):
    loss = InfoNCE(Tempered(partial(cosine, temperature=1.0), 0.5, learnable=True))
    fit(network(), Points(), loss, schedule(), fabric=fabric)
    assert loss.log_similarity.temperature().item() != pytest.approx(0.5)


class Asking(nn.Module):
    """A loss that is told how far training is."""

    told = ()

    def at(self, progress):
        self.told += (progress,)

    def forward(self, a, b):
        return LOSS(a, b)


def test_a_loss_that_asks_is_told_how_far_training_is(fabric):
    loss = Asking()
    fit(network(), Points(32), loss, schedule(epochs=2), fabric=fabric)
    assert loss.told == (0, 1 / 3, 2 / 3, 1)


class Clock:
    """Stands for the module `time`: it goes on by the work that is told to it alone."""

    now = 0.0

    def monotonic(self):
        return self.now

    perf_counter = monotonic


class Slow(Points):
    """Points of which a batch takes a second, and from a certain one on two."""

    def __init__(self, clock, slower_from):
        super().__init__()
        self.clock, self.slower_from = clock, slower_from

    def batch(self, index, generator):
        self.clock.now += 2 if len(self.seen) >= self.slower_from else 1
        return super().batch(index, generator)


class TestATime:
    """40 epochs of 4 steps in 160 s, of which a step takes one."""

    @pytest.fixture
    def clock(self, monkeypatch):
        clock = Clock()
        monkeypatch.setattr(train, "time", clock)
        return clock

    @pytest.mark.parametrize(("slower_from", "epochs"), [(1000, 40), (0, 20), (80, 30)])
    def test_as_many_epochs_are_made_as_fit(self, fabric, clock, slower_from, epochs):
        loss = Asking()
        history = fit(network(), Slow(clock, slower_from), loss, schedule(epochs=40), seconds=160, fabric=fabric)
        assert history[-1]["epoch"] == epochs
        assert clock.now == pytest.approx(160, abs=4)
        assert (loss.told[0], loss.told[-1], len(loss.told)) == (0, 1, 4 * epochs)
        rates = [line["learning_rate"] for line in history]
        assert rates[-1] == pytest.approx(schedule(epochs=40).rate_at(159, 4))
        assert rates == sorted(rates, reverse=True)

    def test_what_is_done_after_an_epoch_takes_of_it_too(self, fabric, clock):
        told = []

        def look(epoch, epochs):
            clock.now += 4
            told.append((epoch, epochs))

        run = partial(fit, loss=LOSS, schedule=schedule(epochs=40), seconds=160, fabric=fabric)
        run(network(), Slow(clock, 1000), after_epoch=look)
        assert clock.now == pytest.approx(160, abs=8)
        assert [epoch for epoch, _ in told] == list(range(1, 21))
        assert told[-1] == (20, 20)
        assert all(20 <= epochs <= 40 for _, epochs in told)

    def test_what_a_stopped_run_has_spent_is_gone(self, fabric, clock, tmp_path):
        def stop(epoch, epochs):
            if epoch == 10:
                os.kill(os.getpid(), signal.SIGINT)

        run = partial(fit, loss=LOSS, schedule=schedule(epochs=40), seconds=160, fabric=fabric)
        with pytest.raises(Interrupted):
            run(network(), Slow(clock, 0), record=Record(tmp_path), after_epoch=stop)
        clock.now += 1e6  # until someone takes it up again
        history = run(network(), Slow(clock, 0), record=Record(tmp_path))
        assert (history[-1]["epoch"], clock.now) == (20, pytest.approx(1e6 + 160, abs=8))
        assert run(network(), Slow(clock, 0), record=Record(tmp_path)) == []


def test_gradients_are_clipped_by_value(fabric):
    plain, clipped = network(), network()
    fit(plain, Points(16), LOSS, schedule(epochs=1, weight_decay=0), fabric=fabric)
    fit(clipped, Points(16), LOSS, schedule(epochs=1, weight_decay=0, clip_gradient=1e-3), fabric=fabric)
    moved = (clipped[0].weight - network()[0].weight).abs().max()
    assert moved <= 0.05 * 1e-3 * 1.01
    assert (plain[0].weight - network()[0].weight).abs().max() > moved


class TestRecord:
    def test_metrics_and_checkpoint_are_written(self, fabric, tmp_path):
        history = fit(network(), Points(), LOSS, schedule(), fabric=fabric, record=Record(tmp_path, 0))
        assert read_metrics(tmp_path / "metrics.jsonl") == history
        assert Record(tmp_path).load()["step"] == 16

    @pytest.mark.parametrize(
        "loss", [lambda: LOSS, lambda: InfoNCE(kernel("student_t", dof=10.0, final_dof=1.0, learn_temperature=True))]
    )
    def test_a_stopped_run_ends_as_an_uninterrupted_one(self, fabric, tmp_path, loss):
        whole = network()
        fit(whole, Points(), loss(), schedule(), fabric=fabric, record=Record(tmp_path / "whole", 0))
        resumed, calls = network(), 0

        class Interrupting(Points):
            def batch(self, index, generator):
                nonlocal calls
                calls += 1
                if calls == 7:
                    os.kill(os.getpid(), signal.SIGINT)
                return super().batch(index, generator)

        with pytest.raises(Interrupted, match="stage 1, epoch 2"):
            fit(resumed, Interrupting(), loss(), schedule(), fabric=fabric, record=Record(tmp_path / "cut"))
        fresh = network()
        fit(fresh, Points(), loss(), schedule(), fabric=fabric, record=Record(tmp_path / "cut"))
        assert_close(fresh.state_dict(), whole.state_dict(), atol=0, rtol=0)
        steps = [[line["step"] for line in read_metrics(tmp_path / run / "metrics.jsonl")] for run in ("cut", "whole")]
        assert steps[0] == steps[1]

    def test_a_checkpoint_of_another_network_is_refused(self, fabric, tmp_path):
        fit(network(), Points(), LOSS, schedule(), fabric=fabric, record=Record(tmp_path, 0))
        other = nn.Linear(4, 3)
        with pytest.raises(CheckpointError, match="another network"):
            fit(other, Points(), LOSS, schedule(epochs=9), fabric=fabric, record=Record(tmp_path))

    def test_a_damaged_checkpoint_is_said_to_be_one(self, tmp_path):
        (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
        with pytest.raises(CheckpointError, match="cannot be read"):
            Record(tmp_path).load()

    def test_a_last_line_cut_short_is_left_out(self, tmp_path):
        path = tmp_path / "metrics.jsonl"
        path.write_text(json.dumps({"step": 1}) + '\n{"step": 2, "lo')
        assert read_metrics(path) == [{"step": 1}]

    def test_a_damaged_line_elsewhere_is_named(self, tmp_path):
        path = tmp_path / "metrics.jsonl"
        path.write_text("{oops\n" + json.dumps({"step": 2}) + "\n")
        with pytest.raises(CheckpointError, match=r"line 1 of .* is damaged"):
            read_metrics(path)


def test_a_batch_larger_than_the_collection_is_refused(fabric):
    with pytest.raises(InputError, match="a batch of 16 images needs at least as many images, got 10"):
        fit(network(), Points(10), LOSS, schedule(), fabric=fabric)


def test_a_loss_that_is_no_number_is_said_so(fabric):
    with pytest.raises(Diverged, match=r"the loss became nan in stage 1, epoch 1; lower the learning rate"):
        fit(network(), Points(), lambda a, b: (a - b).sum() * torch.nan, schedule(), fabric=fabric)


def test_measuring_a_step_leaves_the_network_as_it_was(fabric):
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert seconds_per_step(net, Points(), LOSS, schedule(), fabric=fabric) > 0
    assert_close(net.state_dict(), before)


def test_devices_share_a_batch_without_overlap(fabric):
    class Rank:
        world_size = 4

        def __init__(self, rank):
            self.global_rank = rank

    shares = [_Batches(64, schedule(), (0, 1), Rank(rank)).of(2) for rank in range(4)]
    assert sorted(np.concatenate(shares, 1).ravel().tolist()) == sorted(
        _Batches(64, schedule(), (0, 1), fabric).of(2).ravel().tolist()
    )


TWO_RANKS = """
import sys
import torch
from functools import partial
from torch import nn
from imagescape.learn.losses import cauchy, info_nce
from imagescape.learn.optim import Schedule
from imagescape.learn.train import fit, make_fabric

class Points:
    device = torch.device("cpu")
    items = torch.linspace(-1, 1, 64)[:, None] * torch.tensor([[1.0, -2.0, 0.5, 3.0]])
    def __len__(self):
        return 64
    def batch(self, index, generator):
        rows = self.items[torch.from_numpy(index)]
        return rows, rows.roll(1, 1)

torch.manual_seed(1)
network = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
fabric = make_fabric("cpu", "fp32")
schedule = Schedule(epochs=3, batch_size=16, learning_rate=0.05)
history = fit(network, Points(), partial(info_nce, log_similarity=cauchy), schedule, fabric=fabric)
assert fabric.world_size == int(sys.argv[2])
if fabric.is_global_zero:
    torch.save(network.state_dict(), sys.argv[1])
if fabric.world_size > 1:  # no process may leave while another still speaks to it
    fabric.barrier()
    torch.distributed.destroy_process_group()
"""


def test_two_devices_train_as_one(tmp_path):
    """Same weights after 12 steps: so the same loss and the same gradients, negatives of the other device included."""
    script = tmp_path / "train.py"
    script.write_text(TWO_RANKS)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    results = []
    for ranks in (1, 2):
        out = tmp_path / f"{ranks}.pt"
        launch = (
            [sys.executable]
            if ranks == 1
            else [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        )
        command = [*launch, str(script), str(out), str(ranks)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
        results.append(torch.load(out, weights_only=True))
    assert_close(results[0], results[1], atol=1e-6, rtol=1e-5)


def test_kill_is_survived_by_the_checkpoint(tmp_path):
    """A writer killed while it saves again and again always leaves a whole checkpoint."""
    script = (
        "import sys, torch; from pathlib import Path; from imagescape.learn.train import Record\n"
        "record = Record(Path(sys.argv[1]))\n"
        "step = 0\n"
        "while True:\n"
        "    step += 1\n"
        "    record.save({'stage': 1, 'step': step, 'model': {'w': torch.full((200_000,), float(step))}})\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    writer = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], env=environment)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "checkpoint.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
    finally:
        writer.kill()
        writer.wait()
    state = Record(tmp_path).load()
    assert (state["model"]["w"] == state["step"]).all()
