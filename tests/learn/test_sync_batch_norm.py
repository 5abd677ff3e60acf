"""Batch norm and every loss over two processes against one: same loss, same weights, so the same gradients."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from imagescape.learn.sync_batch_norm import batch_norm_over_devices

TRAIN = """
import sys
import torch
from torch import nn
from imagescape.learn.copy_loss import CopyLoss
from imagescape.learn.losses import InfoNCE, kernel
from imagescape.learn.optim import Schedule
from imagescape.learn.queue_loss import QueueLoss
from imagescape.learn.train import fit, make_fabric

class Pictures:
    device = torch.device("cpu")
    items = torch.randn(64, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    items = items * torch.linspace(.2, 3, 64)[:, None, None, None]
    seen = []
    def __len__(self):
        return 64
    def batch(self, index, generator):
        self.seen.append(torch.rand(2, generator=generator))
        rows = self.items[torch.from_numpy(index)]
        return rows, rows.flip(3) + .3

out, ranks = sys.argv[1], int(sys.argv[2])
fabric = make_fabric("cpu", "fp32")
assert fabric.world_size == ranks
losses = {
    "simclr": InfoNCE(kernel("cosine", temperature=.01)),
    "copies": CopyLoss(entropy_weight=1.0),
    "neighbors": QueueLoss(8, length=24),
}
results = {}
for name, loss in losses.items():
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
        nn.Linear(128, 6), nn.BatchNorm1d(6), nn.Linear(6, 16),
    )
    schedule = Schedule(epochs=1, batch_size=16, learning_rate=.02, optimizer="lars", weight_decay=1e-3)
    pairs = Pictures()
    pairs.seen = []
    history = fit(network, pairs, loss, schedule, fabric=fabric)
    values, draws = torch.tensor([line["loss"] for line in history]), torch.stack(pairs.seen)
    if ranks > 1:
        values, draws = fabric.all_gather(values).mean(0), fabric.all_gather(draws)
    kinds = [type(module).__name__ for module in network]
    results[name] = {"weights": network.state_dict(), "draws": draws, "losses": values, "kinds": kinds}
if fabric.is_global_zero:
    torch.save(results, out)
if ranks > 1:  # no process may leave while another still speaks to it
    fabric.barrier()
    torch.distributed.destroy_process_group()
"""


def test_two_processes_train_as_one(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(TRAIN)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    results = []
    for ranks in (1, 2):
        out = tmp_path / f"{ranks}.pt"
        several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        command = [sys.executable, *(several if ranks > 1 else []), str(script), str(out), str(ranks)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
        results.append(torch.load(out, weights_only=True))
    for name, one in results[0].items():
        two = results[1][name]
        assert_close(two["losses"], one["losses"], atol=1e-4, rtol=1e-4, msg=name)
        assert_close(two["weights"], one["weights"], atol=1e-5, rtol=1e-4)
        assert two["kinds"] == one["kinds"]  # batch norms are themselves again
        # Every process augments in a way of its own.
        assert len(two["draws"]) == 2
        assert (two["draws"][0] != two["draws"][1]).all()


class TestOneProcess:
    """With a group of one, batch norm is torch's own."""

    @pytest.fixture(autouse=True)
    def group(self, tmp_path_factory):
        store = tmp_path_factory.mktemp("group") / "store"
        torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
        yield
        torch.distributed.destroy_process_group()

    @pytest.mark.parametrize(
        ("norm", "shape"),
        [
            (lambda: nn.BatchNorm2d(5), (6, 5, 3, 4)),
            (lambda: nn.BatchNorm1d(5, momentum=None), (7, 5)),
            (lambda: nn.BatchNorm1d(5, affine=False), (7, 5)),
            (lambda: nn.BatchNorm2d(5, track_running_stats=False), (6, 5, 3, 4)),
        ],
    )
    def test_statistics_outputs_and_gradients(self, norm, shape):
        ours, plain = norm(), norm()
        x = 3 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        slope = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        with batch_norm_over_devices(ours):
            for _ in range(2):
                got = ours(a)
            (got * slope).sum().backward()
            ours.eval()
            in_eval = ours(x)
        for _ in range(2):
            wanted = plain(b)
        (wanted * slope).sum().backward()
        assert_close(got, wanted, atol=1e-5, rtol=1e-4)
        assert_close(a.grad, b.grad, atol=1e-4, rtol=1e-4)
        assert_close(ours.state_dict(), plain.state_dict())
        assert_close(in_eval, plain.eval()(x), atol=1e-5, rtol=1e-4)
