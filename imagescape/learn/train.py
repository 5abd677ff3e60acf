"""The training loop: every recipe's stages go through `fit`.

It owns shuffling, precision, devices, schedules, progress, checkpoints and resume, and knows
nothing of images, recipes or what the loss means. Randomness is a function of the seed, the
stage and the step, never of what ran before, so a run that is stopped and taken up again ends
with the same weights, bit for bit, as one that was not, unless it has a time to keep.
"""

import copy
import json
import logging
import math
import os
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from imagescape.errors import CheckpointError, ImagescapeError, InputError, Interrupted
from imagescape.learn.events import Events
from imagescape.learn.optim import Schedule
from imagescape.learn.pace import Pace
from imagescape.learn.pairs import Pairs
from imagescape.learn.sync_batch_norm import batch_norm_over_devices
from imagescape.runtime import (
    Precision,
    autocast_dtype,
    keep_freed_memory,
    resolve_device,
    seed_for,
    stop_requested,
    track,
    warn_of_busy_cores,
)

Loss = Callable[..., Tensor]
LOGS_PER_EPOCH = 4
LOG_STEPS_AT_MOST = 50


def make_fabric(device: str = "auto", precision: Precision = "auto") -> Fabric:
    """Device and precision for `fit`; under torchrun, all of its processes as one.

    Start several devices with `torchrun --nproc-per-node N -m imagescape map …`.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    chosen = resolve_device(device)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    fabric = Fabric(
        accelerator=chosen.type,
        devices=here if world > 1 else ([chosen.index] if chosen.index is not None else 1),
        num_nodes=world // here,
        strategy="ddp" if world > 1 else "auto",
        precision="bf16-mixed" if autocast_dtype(chosen, precision) is not None else "32-true",
    )
    fabric.launch()
    return fabric


def fabric_of_one(device: str, precision: Precision, what: str) -> Fabric:
    """`make_fabric` for what one process learns: "a map of features is".

    Raises:
        InputError: there are several, by torchrun.
    """
    fabric = make_fabric(device, precision)
    if fabric.world_size > 1:
        raise InputError(f"{what} learned by one process; start it without torchrun")
    return fabric


class Diverged(ImagescapeError):
    """The loss is no longer a number."""


@dataclass
class Record:
    """A run's folder on disk: its metrics, line by line, and its last checkpoint.

    Args:
        folder: Made when missing.
        checkpoint_minutes: How often the state is saved; 0: after every step.
        events: Where metrics go too, for TensorBoard.
    """

    folder: Path
    checkpoint_minutes: float = 5.0
    events: Events | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._saved_at = time.monotonic()

    @property
    def metrics_path(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def checkpoint_path(self) -> Path:
        return self.folder / "checkpoint.pt"

    def load(self) -> dict[str, Any] | None:
        """The last saved state, or None when there is none."""
        if not self.checkpoint_path.exists():
            return None
        try:
            return torch.load(self.checkpoint_path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a file that is not its own
            raise CheckpointError(
                f"{self.checkpoint_path} cannot be read ({error}); delete the folder to start this run again"
            ) from error

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint at once: a kill at any instant leaves the old one or the new one."""
        part = self.checkpoint_path.with_suffix(".part")
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.checkpoint_path)
        self._saved_at = time.monotonic()

    def is_due(self) -> bool:
        return time.monotonic() - self._saved_at >= 60 * self.checkpoint_minutes

    def log(self, line: dict[str, Any]) -> None:
        with self.metrics_path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if self.events is not None:
            self.events.log(line["step"], line)

    def forget_after(self, stage: int, step: int) -> None:
        """Drop metrics written after the checkpoint, which the resumed run will write again."""
        if self.metrics_path.exists():
            kept = [line for line in read_metrics(self.metrics_path) if (line["stage"], line["step"]) <= (stage, step)]
            part = self.metrics_path.with_suffix(".part")
            part.write_text("".join(json.dumps(line) + "\n" for line in kept))
            part.replace(self.metrics_path)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; a last line cut short by a kill is left out.

    Raises:
        CheckpointError: another line is damaged.
    """
    lines = path.read_text().splitlines()
    metrics = []
    for number, line in enumerate(lines, 1):
        try:
            metrics.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise CheckpointError(f"line {number} of {path} is damaged; delete the line or the run") from error
    return metrics


class _Objective(nn.Module):
    """Both views through the network in one batch (so also one batch-norm batch), then the loss.

    Over several devices the projections of all of them are gathered with their gradients, so that each
    device's images have the whole batch as negatives; batch norm too is over the whole batch.
    """

    def __init__(self, network: nn.Module, loss: Loss, fabric: Fabric) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs
        self.loss = loss
        self._gather = fabric.all_gather if fabric.world_size > 1 else None
        self._rank = fabric.global_rank

    def forward(self, view_a: Tensor, view_b: Tensor) -> Tensor:
        a, b = self.network(torch.cat([view_a, view_b])).chunk(2)
        if self._gather is None:
            return self.loss(a, b)
        shares = [cast(Tensor, self._gather(view.float(), sync_grads=True)) for view in (a, b)]
        everyone = tuple(share.flatten(0, 1) for share in shares)
        return self.loss(a, b, candidates=everyone, first_row=self._rank * len(a))


def fit(
    network: nn.Module,
    pairs: Pairs,
    loss: Loss,
    schedule: Schedule,
    *,
    fabric: Fabric,
    seconds: float | None = None,
    seed: int = 0,
    stage: int = 1,
    record: Record | None = None,
    after_epoch: Callable[[int, int], object] | None = None,
) -> list[dict[str, Any]]:
    """Train `network` in place so that `loss` of its projections of `pairs` falls.

    Args:
        network: Maps a batch of views to projections (n, d). Parameters that do not require a
            gradient stay as they are. If it has a method `at`, that is told of each step, as the loss is.
        pairs: Items and how two views of them are made.
        loss: `loss(a, b)` of both views' projections, a scalar; trained too when it is a module
            with parameters. Over several devices it is also given `candidates` and `first_row`. If it
            has a method `at`, that is told before each step how far training is: 0 at the first step,
            1 at the last.
        schedule: Epochs, batch, rates, optimizer.
        fabric: Device and precision, from `make_fabric`.
        seconds: Time to take: the epochs of the schedule are then a first guess, and as many are made, at least one,
            as fit; rates and `at` go from their start to their end all the same.
        seed: Together with `stage` it settles every random choice.
        stage: Which part of a longer recipe this is; names lines and checkpoints.
        record: Where metrics and checkpoints go; training goes on from a checkpoint found there.
        after_epoch: Told after each epoch how many are done and, as far as is known, of how many, before that is saved;
            it may use the network in eval mode, and changes nothing of what is learned. Its time counts among
            `seconds`. Of several devices the first alone calls it.

    Returns:
        The metrics of this stage, as written: stage, epoch, step, loss, learning_rate, images_per_second.

    Raises:
        InputError: fewer items than one batch.
        Diverged: the loss is infinite or not a number.
        Interrupted: Ctrl-C; the state is saved when there is a `record`.
    """
    batches = _Batches(len(pairs), schedule, (seed, stage), fabric)
    objective = _Objective(network, loss, fabric).to(fabric.device)
    optimizer = schedule.build(objective)
    pace = Pace(schedule.epochs * batches.steps_per_epoch, batches.steps_per_epoch, seconds)
    step, spent = _restore(objective, optimizer, pace, record, stage, fabric)
    if step >= pace.steps:
        return []
    if pairs.device.type == "cpu":
        keep_freed_memory()
        warn_of_busy_cores(torch.get_num_threads())
    step_objective, optimizer = fabric.setup(objective, optimizer)
    step_objective.train()

    started = time.monotonic() - spent

    def save() -> None:
        if record is not None and fabric.is_global_zero:
            model, moments = objective.state_dict(), optimizer.state_dict()
            state = {"stage": stage, "step": step, "seconds": time.monotonic() - started, "pace": pace.state()}
            record.save(state | {"model": model, "optimizer": moments})

    told = [part.at for part in (cast(Any, network), loss) if hasattr(part, "at")]
    history: list[dict[str, Any]] = []
    log_steps = min(max(1, batches.steps_per_epoch // LOGS_PER_EPOCH), LOG_STEPS_AT_MOST)
    total, unlogged, began = torch.zeros((), device=fabric.device), 0, time.monotonic()
    with (
        batch_norm_over_devices(network) if fabric.world_size > 1 else nullcontext(),
        torch.random.fork_rng(devices=_cuda(fabric)),
        stop_requested() as stopped,
        track(
            f"stage {stage}, {'about ' if pace.is_timed else ''}{schedule.epochs} epochs",
            pace.steps * batches.items_per_step,
            done=step * batches.items_per_step,
        ) as tracker,
    ):
        while step < pace.steps:
            place = pace.place(step)
            rate = schedule.rate_at(place, batches.steps_per_epoch)
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("rate_fraction", 1.0)
            for tell in told:
                tell(place / max(1, schedule.epochs * batches.steps_per_epoch - 1))
            total += _update(step_objective, optimizer, pairs, batches, schedule.clip_gradient, step, fabric)
            step, unlogged = step + 1, unlogged + 1
            if step % log_steps == 0 or step == pace.steps:
                line = {
                    "stage": stage,
                    "epoch": step / batches.steps_per_epoch,
                    "step": step,
                    "loss": total.item() / unlogged,  # the only place that waits for the device
                    "learning_rate": rate,
                    "images_per_second": unlogged * batches.items_per_step / (time.monotonic() - began),
                }
                _check_loss(line)
                history.append(line)
                if record is not None and fabric.is_global_zero:
                    record.log(line)
                tracker.advance(unlogged * batches.items_per_step, loss=line["loss"])
                if pace.is_timed:
                    pace.settle(step, fabric.broadcast(time.monotonic() - started))
                    tracker.expect(pace.steps * batches.items_per_step)
                total, unlogged, began = torch.zeros_like(total), 0, time.monotonic()
            if after_epoch is not None and step % batches.steps_per_epoch == 0 and fabric.is_global_zero:
                paused = time.monotonic()
                after_epoch(step // batches.steps_per_epoch, pace.steps // batches.steps_per_epoch)
                step_objective.train()
                began += time.monotonic() - paused
            # Several devices must stop after the same step: they agree where they meet anyway.
            if stopped() if fabric.world_size == 1 else unlogged == 0 and _any(stopped(), fabric):
                save()
                raise Interrupted(f"stopped in stage {stage}, epoch {math.ceil(step / batches.steps_per_epoch)}")
            if record is not None and record.is_due():
                save()
    save()
    return history


def _cuda(fabric: Fabric) -> list[torch.device]:
    """The device whose random state is to be kept, beside the processor's."""
    return [fabric.device] if fabric.device.type == "cuda" else []


def _seed_device(fabric: Fabric, seed: int) -> None:
    """As `torch.manual_seed`, which also puts a seed and a stack trace in store for devices that are not in use."""
    torch.default_generator.manual_seed(seed)
    if fabric.device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif fabric.device.type == "mps":
        torch.mps.manual_seed(seed)


def _any(flag: bool, fabric: Fabric) -> bool:
    total = fabric.all_reduce(torch.tensor(float(flag), device=fabric.device), reduce_op="sum")
    return bool(cast(Tensor, total) > 0)


def _check_loss(line: dict[str, Any]) -> None:
    if not math.isfinite(line["loss"]):
        raise Diverged(
            f"the loss became {line['loss']} in stage {line['stage']}, epoch {math.ceil(line['epoch'])}; "
            "lower the learning rate or set clip_gradient (4 is a good value)"
        )


def _restore(
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    pace: Pace,
    record: Record | None,
    stage: int,
    fabric: Fabric,
) -> tuple[int, float]:
    """Put all back to the checkpoint of this stage; the steps it had done, and the seconds they took."""
    if record is None:
        return 0, 0.0
    state = record.load()
    if state is None or state["stage"] != stage:
        if fabric.is_global_zero:
            record.forget_after(stage, 0)
        return 0, 0.0
    try:
        objective.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        pace.restore(state["pace"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{record.checkpoint_path} is of another network or version: {error}") from error
    if fabric.is_global_zero:
        record.forget_after(stage, state["step"])
    return state["step"], state["seconds"]


class _Batches:
    """Which items make up each step: epochs in an order of their own, every batch full.

    What does not fill a step sits out its epoch. Every device takes its own share of a batch.
    """

    def __init__(self, items: int, schedule: Schedule, seed: tuple[int, int], fabric: Fabric) -> None:
        self.items_per_step = schedule.batch_size * schedule.accumulate
        if items < self.items_per_step:
            raise InputError(
                f"a batch of {self.items_per_step} images needs at least as many images, got {items}; "
                "use a smaller batch_size"
            )
        if schedule.batch_size % fabric.world_size:
            raise InputError(f"batch_size {schedule.batch_size} must be a multiple of the {fabric.world_size} devices")
        self.seed = seed
        self.parts = schedule.accumulate
        self.steps_per_epoch = items // self.items_per_step
        self._items = items
        self._shares, self._rank = fabric.world_size, fabric.global_rank
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def of(self, step: int) -> np.ndarray:
        """(parts, share) items of this device."""
        epoch, within = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            shuffle = np.random.default_rng(seed_for(*self.seed, "order", epoch))
            self._epoch, self._order = epoch, shuffle.permutation(self._items)
        items = self._order[within * self.items_per_step : (within + 1) * self.items_per_step]
        return items.reshape(self.parts, self._shares, -1)[:, self._rank]


def _update(
    objective: Any,
    optimizer: torch.optim.Optimizer,
    pairs: Pairs,
    batches: _Batches,
    clip_gradient: float | None,
    step: int,
    fabric: Fabric,
) -> Tensor:
    """One step of the optimizer; returns its loss without waiting for the device."""
    total = torch.zeros((), device=fabric.device)
    generator = torch.Generator(pairs.device)
    for part, index in enumerate(batches.of(step)):
        here = (*batches.seed, step, part, fabric.global_rank)
        _seed_device(fabric, seed_for(*here, "network"))  # for dropout and the like
        generator.manual_seed(seed_for(*here, "views"))
        with fabric.no_backward_sync(objective, enabled=part + 1 < batches.parts):
            value = objective(*pairs.batch(index, generator)) / batches.parts
            fabric.backward(value)
        total += value.detach()
    if clip_gradient is not None:
        fabric.clip_gradients(objective, optimizer, clip_val=clip_gradient)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def seconds_per_step(
    network: nn.Module, pairs: Pairs, loss: Loss, schedule: Schedule, *, fabric: Fabric, measure_seconds: float = 0.0
) -> float:
    """Median time of a training step, measured on a copy that is thrown away (two more steps warm up).

    At least four steps are measured, and as many as fit in `measure_seconds`: a processor that is busy with something
    else for a moment must not pass for a slow one.
    """
    if pairs.device.type == "cpu":
        keep_freed_memory()
    batches = _Batches(len(pairs), schedule, (0, 0), fabric)
    objective = _Objective(copy.deepcopy(network), copy.deepcopy(loss), fabric)
    objective, optimizer = fabric.setup(objective, schedule.build(objective))
    objective.train()
    times: list[float] = []
    with torch.random.fork_rng(devices=_cuda(fabric)):
        while len(times) < 6 or sum(times[2:]) < measure_seconds:
            began = time.perf_counter()
            _update(objective, optimizer, pairs, batches, None, len(times), fabric).item()
            times.append(time.perf_counter() - began)
    return statistics.median(times[2:])
