"""The loss that copies are learned by: copies together, everything else evenly apart.

Pizzi et al. 2022, "A self-supervised descriptor for image copy detection" (SSCD), arXiv:2202.10261: InfoNCE, in which
an image that holds parts of two others is a match of both; and an entropy term, by which each descriptor is pushed
away from the nearest that is no match of it (Sablayrolles et al. 2019, arXiv:1806.03198). Descriptors so spread have
no dense regions, and one distance tells copies from others everywhere.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from imagescape.errors import InputError

_CLOSEST = 1e-6  # squared distance below which the entropy term does not look: its slope has no end there


def copy_loss(
    view_a: Float[Tensor, "n d"],
    view_b: Float[Tensor, "n d"],
    *,
    temperature: float = 0.05,
    entropy_weight: float = 30.0,
    mixed: int = 0,
    candidates: tuple[Float[Tensor, "m d"], Float[Tensor, "m d"]] | None = None,
    first_row: int = 0,
) -> Float[Tensor, ""]:
    """InfoNCE over all matches of each descriptor, and `entropy_weight` times what they lack in entropy, in nats.

    Every one of the 2n rows is an anchor. It is held against each of its matches in turn, with all rows that do not
    match it as negatives. The entropy term is the mean of minus the logarithm of the distance to the nearest of those.

    Args:
        view_a, view_b: Descriptors of two views of the same images, row by row, of any length.
        temperature: Of the cosine, > 0.
        entropy_weight: 0 for InfoNCE alone.
        mixed: The first so many rows of `view_b` hold a part of the next image too, the last of them of the first;
            as `edits.mixed` makes them. Of several devices each has as many.
        candidates, first_row: As of `info_nce`.

    Returns:
        A scalar; without the entropy term at least 0.

    Raises:
        InputError: m is below 2, or more rows are mixed than there are.
    """
    n = len(view_a)
    all_a, all_b = (view_a, view_b) if candidates is None else candidates
    if len(all_a) < 2:
        raise InputError(f"copies need at least 2 images to be told apart, got a batch of {len(all_a)}")
    if not 0 <= mixed <= n or mixed == 1:
        raise InputError(f"of a batch of {n} images none or 2 to {n} can be mixed, got {mixed}")
    with torch.autocast(view_a.device.type, enabled=False):
        anchors = F.normalize(torch.cat([view_a, view_b]).float(), dim=1)
        others = F.normalize(torch.cat([all_a, all_b]).float(), dim=1)
        own, matches = _relations(n, len(all_a), mixed, first_row, anchors.device)
        cosines = anchors @ others.T
        logits = cosines / temperature
        negatives = logits.masked_fill(matches | own, -torch.inf)
        against = negatives.logsumexp(1, keepdim=True)
        total = F.softplus(against - logits)[matches].mean()
        if entropy_weight:
            nearest = cosines.masked_fill(matches | own, -torch.inf).amax(1)
            squares = (2 - 2 * nearest[nearest > -torch.inf]).clamp_min(_CLOSEST)
            total = total - entropy_weight * 0.5 * squares.log().sum() / (2 * n)
    return total


def _relations(
    n: int, m: int, mixed: int, first_row: int, device: torch.device
) -> tuple[Bool[Tensor, "a c"], Bool[Tensor, "a c"]]:
    """Which candidates are the anchor itself, and which others hold something that it holds, (2n, 2m) each."""
    image = torch.arange(m, device=device)
    within = image % n  # every device has n
    next_one = torch.where(within < mixed, image - within + (within + 1) % max(mixed, 1), image)
    first, second = torch.cat([image, image]), torch.cat([image, next_one])
    rows = torch.arange(first_row, first_row + n, device=device)
    rows = torch.cat([rows, rows + m])
    own = rows[:, None] == torch.arange(2 * m, device=device)
    held = [(one[rows][:, None] == other) for one in (first, second) for other in (first, second)]
    matches = held[0] | held[1] | held[2] | held[3]
    return own, matches & ~own


class CopyLoss(nn.Module):
    """`copy_loss` with its settings; `mixed_fraction` of each batch is mixed, rounded down."""

    def __init__(self, *, temperature: float = 0.05, entropy_weight: float = 30.0, mixed_fraction: float = 0.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise InputError(f"temperature must be above 0, got {temperature}")
        if not entropy_weight >= 0:
            raise InputError(f"entropy_weight must be at least 0, got {entropy_weight}")
        self.temperature, self.entropy_weight, self.mixed_fraction = temperature, entropy_weight, mixed_fraction

    def forward(self, view_a: Tensor, view_b: Tensor, **shares: object) -> Float[Tensor, ""]:
        return copy_loss(
            view_a,
            view_b,
            temperature=self.temperature,
            entropy_weight=self.entropy_weight,
            mixed=mixed_rows(len(view_a), self.mixed_fraction),
            **shares,  # type: ignore[arg-type]
        )


def mixed_rows(n: int, fraction: float) -> int:
    """How many of n second views are mixed: none, or at least two."""
    rows = int(fraction * n)
    return rows if rows > 1 else 0
