"""Nearest neighbours among earlier projections as positives: NNCLR (Dwibedi et al. 2021, arXiv:2104.14548)."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from imagescape.errors import InputError
from imagescape.learn.heads import Projector


class Predicting(nn.Module):
    """A projector and a predictor on it: features -> projections and predictions beside each other, (n, 2d)."""

    def __init__(self, in_features: int, hidden: int = 1024, out_features: int = 128) -> None:
        super().__init__()
        self.projector = Projector(in_features, hidden, out_features)
        self.predictor = Projector(out_features, hidden, out_features)

    def forward(self, features: Float[Tensor, "n in_features"]) -> Float[Tensor, "n twice_d"]:
        projections = self.projector(features)
        return torch.cat([projections, self.predictor(projections)], dim=1)


class QueueLoss(nn.Module):
    """Of each view the nearest earlier projection is the positive of the prediction of the other view.

    Predictions of the other images are what it is compared with, those of the other devices among them. Projections
    enter the queue after each batch, in training only, and the oldest leave; before there are any, a view's own
    projection stands for its neighbour.

    Args:
        dimension: Of a projection.
        length: Of the queue, in projections. It should be shorter than an epoch: else the nearest is the image itself.
        temperature: Of the cosine, > 0.
    """

    queue: Tensor
    filled: Tensor
    place: Tensor

    def __init__(self, dimension: int, *, length: int = 4096, temperature: float = 0.1) -> None:
        super().__init__()
        if not temperature > 0:
            raise InputError(f"temperature must be above 0, got {temperature}")
        if length < 1:
            raise InputError(f"a queue holds at least 1 projection, got {length}")
        self.temperature = temperature
        self.register_buffer("queue", torch.zeros(length, dimension))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    def forward(
        self,
        view_a: Float[Tensor, "n twice_d"],
        view_b: Float[Tensor, "n twice_d"],
        *,
        candidates: tuple[Tensor, Tensor] | None = None,
        first_row: int = 0,
    ) -> Float[Tensor, ""]:
        """Mean cross-entropy, in nats, of picking the prediction of a view's partner by the view's neighbour.

        Args:
            view_a, view_b: What `Predicting` gives of both views of the same images.
            candidates, first_row: As of `info_nce`.

        Raises:
            InputError: there is nothing to compare with.
        """
        everyone = (view_a, view_b) if candidates is None else candidates
        if len(everyone[0]) < 2:
            raise InputError(f"neighbours need at least 2 images to contrast, got a batch of {len(everyone[0])}")
        with torch.autocast(view_a.device.type, enabled=False):
            (z_a, _), (z_b, _) = (self._halves(view) for view in (view_a, view_b))
            (all_z, all_p_a), (_, all_p_b) = (self._halves(view) for view in everyone)
            here = torch.arange(first_row, first_row + len(view_a), device=view_a.device)
            losses = []
            for own, predictions in ((z_a, all_p_b), (z_b, all_p_a)):
                logits = self._neighbors(own) @ predictions.T / self.temperature
                losses.append(F.cross_entropy(logits, here))
            if self.training and torch.is_grad_enabled():
                self._append(all_z.detach())
        return (losses[0] + losses[1]) / 2

    def _halves(self, view: Tensor) -> tuple[Tensor, Tensor]:
        z, p = view.float().chunk(2, dim=1)
        return F.normalize(z, dim=1), F.normalize(p, dim=1)

    @torch.no_grad()
    def _neighbors(self, projections: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        similarities = projections @ self.queue.T
        empty = torch.arange(len(self.queue), device=projections.device) >= self.filled
        found = self.queue[similarities.masked_fill(empty, -torch.inf).argmax(1)]
        return torch.where(self.filled > 0, found, projections)

    @torch.no_grad()
    def _append(self, projections: Float[Tensor, "m d"]) -> None:
        length: Any = len(self.queue)
        projections = projections[-length:]
        places = (self.place + torch.arange(len(projections), device=projections.device)) % length
        self.queue.index_copy_(0, places, projections)
        self.place.add_(len(projections)).remainder_(length)
        self.filled.add_(len(projections)).clamp_max_(length)
