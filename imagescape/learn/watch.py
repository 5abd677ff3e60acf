"""Looks at a network while it is fine-tuned, keeps the weights of each look, and says which of them to take.

In the end it also looks at networks on the way back to the old one, whose weights are means of old and new ones
(WiSE-FT: Wortsman et al. 2022, arXiv:2109.01903), and at the descriptors whitened once more.
"""

import copy
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from imagescape.evaluate.looks import Look
from imagescape.learn.adapters import has_adapters, without_adapters
from imagescape.learn.descriptor import Described, Pooled
from imagescape.learn.encoder import Encoder, save_weights
from imagescape.learn.events import Events
from imagescape.learn.guard import Guard
from imagescape.learn.heads import Network

LOOKS, EPOCHS = "looks.jsonl", "epochs"
WAYS_BACK = (0.75, 0.5, 0.25)  # shares of the new weights

Weights = dict[str, Tensor]


@dataclass
class _Best:
    look: Look
    weights: Weights


class Watch:
    """What is seen of one training.

    Args:
        old: The encoder that it begins with.
        guard: Looks at it; None: nobody does, and the last network is taken.
        folder: Of the run. `looks.jsonl` has a line for every look; `epochs/` the weights after the epochs that were
            looked at, `epoch-0004.safetensors`, and the features of the guard's pictures at every look. What an earlier
            process left there of the same run is gone on from.
        events: For TensorBoard.

    Attributes:
        looks: In the order they were taken.
        kept: The look at the network that was taken.
        seconds_a_look: What one costs.
    """

    def __init__(self, old: Encoder, guard: Guard | None, folder: Path | None, events: Events | None) -> None:
        self._old, self._guard, self._folder, self._events = old, guard, folder, events
        self.looks: list[Look] = []
        self.kept: Look | None = None
        self.seconds_a_look = 0.0
        self._earlier: list[Look] = []
        self._best: _Best | None = None
        self._start: Weights | None = None
        if folder is not None:
            (folder / EPOCHS).mkdir(parents=True, exist_ok=True)

    def before(self) -> None:
        """Look at the encoder as it came."""
        self._earlier = [] if self._folder is None or self._guard is None else read_looks(self._folder)
        began = time.monotonic()
        self._look(self._old, "before", 0)
        self.seconds_a_look = time.monotonic() - began

    def at_start(self, new: Encoder) -> None:
        """Look at what is trained, before it is, where that is not the encoder as it came."""
        self._start = plain_weights(new)
        if isinstance(new.network.backbone, Described) and not isinstance(self._old.network.backbone, Described):
            self._consider(self._look(new, "whitened", 0), self._start)
            self._save(self._start, 0)
        for look in self._earlier:  # what a process that was stopped has seen
            path = self._weights_path(look.epoch)
            if look.name == f"epoch {look.epoch}" and path is not None and path.exists():
                self.looks.append(look)
                self._consider(look, load_file(path))

    def at_epoch(self, new: Encoder, epoch: int) -> None:
        """Look at what is trained after so many epochs, and keep its weights."""
        weights = plain_weights(new)
        self._save(weights, epoch)
        self._consider(self._look(new, f"epoch {epoch}", epoch), weights)

    def choose(self, new: Encoder, whiten: Callable[[Encoder], None]) -> Encoder:
        """The best network, without adapters; ways back and descriptors whitened again are looked at, too.

        Args:
            new: What was trained; it may be changed.
            whiten: Whitens the descriptors of an encoder once more.
        """
        plain = _without_adapters(new)
        describes = isinstance(plain.network.backbone, Described)
        if self._best is None or self._start is None:
            if describes:
                whiten(plain)
            return plain
        best = self._best
        for share in WAYS_BACK if best.look.epoch else ():
            plain.network.load_state_dict(between(self._start, best.weights, share))
            name = f"{best.look.name}, {share:.0%} of the way"
            self._consider(self._look(plain, name, best.look.epoch), plain_weights(plain))
        if describes:
            plain.network.load_state_dict(self._best.weights)
            whiten(plain)
            best = self._best
            name = f"{best.look.name}, whitened again"
            self._consider(self._look(plain, name, best.look.epoch), plain_weights(plain))
        plain.network.load_state_dict(self._best.weights)
        self.kept = self._best.look
        return alike(plain, plain.network)

    def _consider(self, look: Look | None, weights: Weights) -> None:
        if look is not None and (self._best is None or look.score > self._best.look.score):
            self._best = _Best(look, weights)

    def _weights_path(self, epoch: int) -> Path | None:
        return None if self._folder is None else weights_path(self._folder, epoch)

    def _save(self, weights: Weights, epoch: int) -> None:
        if (path := self._weights_path(epoch)) is not None:
            save_weights(weights, path)

    def _look(self, encoder: Encoder, name: str, epoch: int) -> Look | None:
        if self._guard is None:
            return None
        database, queries = self._guard.encode(encoder)
        look = self._guard.copies.look(database, queries, name=name, epoch=epoch, device=str(encoder.device))
        self.looks = [*(one for one in self.looks if one.name != name), look]
        if self._folder is not None:
            path = self._folder / LOOKS
            part = path.with_suffix(".part")
            part.write_text("".join(json.dumps(one.as_dict()) + "\n" for one in self.looks))
            part.replace(path)
            half = np.float16
            np.savez(features_path(self._folder, name), database=database.astype(half), queries=queries.astype(half))
        if self._events is not None:
            self._events.log(epoch, asdict(look.figures), "guard")
            self._events.log(epoch, asdict(look.unseen), "guard, unseen kinds")
        return look


def read_looks(folder: Path) -> list[Look]:
    """The looks of a run, in the order they were taken; none where there is no file of them."""
    path = folder / LOOKS
    lines = path.read_text().splitlines() if path.exists() else []
    return [Look.from_dict(json.loads(line)) for line in lines]


def weights_path(folder: Path, epoch: int) -> Path:
    """Where a run keeps the weights after so many epochs."""
    return folder / EPOCHS / f"epoch-{epoch:04}.safetensors"


def features_path(folder: Path, name: str) -> Path:
    """Where a run keeps the features of the guard's pictures at the look called `name`: `database` and `queries`."""
    words = "".join(letter if letter.isalnum() else " " for letter in name).split()
    return folder / EPOCHS / f"{'-'.join(words)}.npz"


def alike(given: Encoder, network: Network) -> Encoder:
    """Another network on the same backbone, without a projector, that prepares images as `given` does."""
    backbone = network.backbone
    descriptor, pooling = 0, 0.0
    if isinstance(backbone, Described):
        descriptor = backbone.out_features
        pooling = backbone.body.pool.power if isinstance(backbone.body, Pooled) else 0.0
    architecture = replace(given.architecture, out_features=0, descriptor=descriptor, pooling=pooling)
    return Encoder(network, architecture, given.preprocessing, device=str(given.device), precision=given.precision)


def plain_weights(encoder: Encoder) -> Weights:
    """A copy of all weights as they are saved: without adapters, on the processor."""
    network = _without_adapters(encoder).network
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}


def _without_adapters(encoder: Encoder) -> Encoder:
    """The encoder itself, or a copy without adapters."""
    backbone = encoder.network.backbone
    body = backbone.body if isinstance(backbone, Described) else backbone
    if not has_adapters(body):
        return encoder
    plain = without_adapters(body)
    if isinstance(backbone, Described):
        described = Described(plain, backbone.out_features)
        described.describe = copy.deepcopy(backbone.describe)
        plain = described
    return alike(encoder, Network(plain, None))


def between(old: Weights, new: Weights, share: float) -> Weights:
    """`share` of the new weights and the rest of the old; what is no real number is of the new."""
    return {
        name: torch.lerp(old[name], value, share) if value.is_floating_point() else value for name, value in new.items()
    }
