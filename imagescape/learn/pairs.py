"""Where positives come from: items of a collection as two aligned batches of views."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from imagescape.errors import InputError
from imagescape.learn.augment import Augment, Contrastive, Draw
from imagescape.learn.copy_loss import mixed_rows
from imagescape.learn.edits import Edits, mixed


class Pairs(Protocol):
    """Items 0 … len - 1, drawn as pairs of views that should end up together."""

    device: torch.device

    def __len__(self) -> int:
        """Items, not pairs."""

    def batch(self, index: np.ndarray, generator: Generator) -> tuple[Tensor, Tensor]:
        """Two views of each item of `index`, on the device; row i of both is a positive pair.

        All randomness comes from `generator`, so the same call gives the same batch.
        """


class Views(Pairs, Protocol):
    """Pairs that can also be made of two different items."""

    def of(self, first: np.ndarray, second: np.ndarray, generator: Generator) -> tuple[Tensor, Tensor]:
        """A view of each item of `first` and one of each of `second`; as `batch` where they are the same."""


class Mixed:
    """Pairs of which some are of an image and one of its neighbours, and not of one image twice.

    Nearest neighbours as positives (Dwibedi et al. 2021, arXiv:2104.14548), by a graph that is known beforehand: what
    no augmentation can make of an image, another image of the same kind shows.

    Args:
        views: Of the items.
        graph: (n, k) rows of each item's neighbours, as good as one another; an item that has none is its own.
        fraction: Of the pairs that are of neighbours, 0 to 1.

    Raises:
        InputError: the graph is not one of these items, or the fraction is none.
    """

    def __init__(self, views: Views, graph: Int[np.ndarray, "n k"], fraction: float) -> None:
        graph = np.asarray(graph)
        if graph.ndim != 2 or len(graph) != len(views) or not graph.shape[1] or graph.dtype.kind not in "iu":
            raise InputError(
                f"a graph of {len(views)} images has {len(views)} lists of their neighbours' rows, as whole numbers; "
                f"got {graph.dtype} of shape {graph.shape}"
            )
        if graph.min() < 0 or graph.max() >= len(views):
            raise InputError(f"rows of neighbours must be 0 to {len(views) - 1}, got {graph.min()} to {graph.max()}")
        if not 0 <= fraction <= 1:
            raise InputError(f"the fraction of neighbours must be 0 to 1, got {fraction}")
        self.views, self.device = views, views.device
        self._graph, self._fraction = graph, fraction

    def over(self, views: Views) -> "Mixed":
        """The same neighbours, of other views of the items."""
        return Mixed(views, self._graph, self._fraction)

    def __len__(self) -> int:
        return len(self.views)

    def batch(self, index: np.ndarray, generator: Generator) -> tuple[Tensor, Tensor]:
        return self.views.of(index, self._partners(index, generator), generator)

    def _partners(self, index: np.ndarray, generator: Generator) -> np.ndarray:
        # On the processor, where the pixels are looked up; a generator of the device would have to be waited for.
        draw = np.random.default_rng(generator.initial_seed())
        neighbor = self._graph[index, draw.integers(self._graph.shape[1], size=len(index))]
        return np.where(draw.random(len(index)) < self._fraction, neighbor, index)


class Augmented:
    """Two augmentations of the same image: SimCLR's and t-SimCNE's pairs.

    Args:
        pixels: (n, s, s, 3) uint8, in memory or memory-mapped.
        augment: Makes one random view of each image of a batch.
        device: Where views are made. The pixels move there once, whole, when they take less
            than half of the free memory of a CUDA device; else batch by batch.
    """

    def __init__(self, pixels: np.ndarray, augment: Augment, device: torch.device) -> None:
        self.augment, self.device = augment, device
        self._pixels = pixels
        self._resident: Tensor | None = None
        if device.type == "cuda" and pixels.nbytes < torch.cuda.mem_get_info(device)[0] // 2:
            self._resident = torch.from_numpy(np.array(pixels)).to(device)

    def __len__(self) -> int:
        return len(self._pixels)

    def batch(self, index: np.ndarray, generator: Generator) -> tuple[Tensor, Tensor]:
        return self.of(index, index, generator)

    def of(self, first: np.ndarray, second: np.ndarray, generator: Generator) -> tuple[Tensor, Tensor]:
        pixels = self._gather(first)
        others = pixels if second is first else self._gather(second)
        return self.augment(pixels, generator), self.augment(others, generator)

    def _gather(self, index: np.ndarray) -> Tensor:
        if self._resident is not None:
            return self._resident[_moved(torch.from_numpy(index), self.device)]
        return _moved(torch.from_numpy(self._pixels[index]), self.device)


def _moved(batch: Tensor, device: torch.device) -> Tensor:
    """The batch on the device; CUDA does not wait for the copy."""
    return batch.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else batch.to(device)


class WeakStrong(Augmented):
    """Each image as it is and strongly augmented: self-labelling's pairs.

    Args:
        pixels, device: As `Augmented`.
        weak: Makes the view that labels are taken from; nothing of it is random.
        strong: Makes the view that learns them.
        items: Which images, (m,); all when None.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        weak: Callable[[Tensor], Tensor],
        strong: Augment,
        device: torch.device,
        items: np.ndarray | None = None,
    ) -> None:
        super().__init__(pixels, strong, device)
        self.weak, self._items = weak, np.arange(len(pixels)) if items is None else items

    def __len__(self) -> int:
        return len(self._items)

    def batch(self, index: np.ndarray, generator: Generator) -> tuple[Tensor, Tensor]:
        pixels = self._gather(self._items[index])
        return self.weak(pixels), self.augment(pixels, generator)


class Copies(Augmented):
    """Each image as it is, or edited, and an edited copy of it; some copies hold a part of another image too.

    Args:
        pixels, device: As `Augmented`.
        edits: Makes the copies.
        mixed_fraction: Of each batch, the copies that are mixed: the first so many rows, each with the next, as
            `edits.mixed` does. The loss has to be told.
        plain_fraction: Of the images that are shown as they are beside their copy, which is how a search sees them.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        edits: Edits,
        device: torch.device,
        *,
        mixed_fraction: float = 0.0,
        plain_fraction: float = 0.5,
    ) -> None:
        super().__init__(pixels, edits, device)
        self.edits, self._mixed, self._plain = edits, mixed_fraction, plain_fraction
        self._as_it_is = Contrastive(size_px=edits.size_px, mean=edits.mean, std=edits.std).plain

    def of(self, first: np.ndarray, second: np.ndarray, generator: Generator) -> tuple[Tensor, Tensor]:
        pixels = self._gather(first)
        sources = pixels if second is first else self._gather(second)
        others = self._gather(self._strangers(first, generator))
        shown = self.edits(pixels, generator, others)
        plain = Draw(len(pixels), generator).chance(self._plain).nonzero()[:, 0]
        shown[plain] = self._as_it_is(pixels[plain])
        copies = self.edits(sources, generator, others)
        if rows := mixed_rows(len(copies), self._mixed):
            copies[:rows] = mixed(copies[:rows], Draw(rows, generator))
        return shown, copies

    def _strangers(self, index: np.ndarray, generator: Generator) -> np.ndarray:
        """Images to fill collages with, that are not in the batch where there are others."""
        draw = np.random.default_rng(generator.initial_seed())
        drawn = draw.integers(len(self._pixels), size=max(16, len(index) // 2))
        outside = drawn[~np.isin(drawn, index)]
        return outside if len(outside) else drawn


class NeighborImages(Augmented):
    """Views of an image and of one of its neighbours: SCAN's pairs.

    Args:
        pixels, augment, device: As `Augmented`.
        graph: (n, k) rows of each image's neighbours.
        items: Which images are drawn as the first of a pair, (m,); all when None. Any may be the second.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        graph: Int[np.ndarray, "n k"],
        augment: Augment,
        device: torch.device,
        items: np.ndarray | None = None,
    ) -> None:
        super().__init__(pixels, augment, device)
        self._graph, self._items = graph, np.arange(len(pixels)) if items is None else items

    def __len__(self) -> int:
        return len(self._items)

    def batch(self, index: np.ndarray, generator: Generator) -> tuple[Tensor, Tensor]:
        rows = self._items[index]
        drawn = torch.randint(self._graph.shape[1], (len(rows),), generator=generator, device=generator.device)
        neighbors = self._graph[rows, drawn.cpu().numpy()]
        return self.augment(self._gather(rows), generator), self.augment(self._gather(neighbors), generator)


class CachedFeatures:
    """Two different views of an item among several made beforehand, when the network below is frozen.

    Args:
        features: (views, n, d) with at least 2 views; row i of every view is item i.
        device: Where batches go.
    """

    def __init__(self, features: Float[Tensor, "views n d"], device: torch.device) -> None:
        if len(features) < 2:
            raise InputError(f"pairs need at least 2 views of each item, got {len(features)}")
        self.features, self.device = features, device

    def __len__(self) -> int:
        return self.features.shape[1]

    def batch(self, index: np.ndarray, generator: Generator) -> tuple[Tensor, Tensor]:
        return self.of(index, index, generator)

    def of(self, first: np.ndarray, second: np.ndarray, generator: Generator) -> tuple[Tensor, Tensor]:
        views, place = len(self.features), self.features.device
        view = torch.randint(views, (len(first),), generator=generator, device=generator.device)
        # A shift of 1 … views - 1 can never come back to the first.
        shift = torch.randint(1, views, (len(first),), generator=generator, device=generator.device)
        pair = ((view, first), ((view + shift) % views, second))
        a, b = (self.features[v.to(place), torch.from_numpy(i).to(place)].to(self.device).float() for v, i in pair)
        return a, b


class GraphPairs:
    """Items and their neighbours, by row: the pairs of a table.

    Args:
        graph: (n, k) rows of each row's neighbours.
        device: Where batches go.
    """

    def __init__(self, graph: Int[np.ndarray, "n k"], device: torch.device) -> None:
        self.device = device
        self._graph = torch.from_numpy(np.ascontiguousarray(graph, np.int64)).to(device)

    def __len__(self) -> int:
        return len(self._graph)

    def batch(self, index: np.ndarray, generator: Generator) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(index).to(self.device)
        which = torch.randint(self._graph.shape[1], (len(rows),), generator=generator, device=self.device)
        return rows, self._graph.view(-1).index_select(0, rows * self._graph.shape[1] + which)


class ReadyPairs:
    """A dataset that makes its own pairs: item i is (view_a, view_b), float tensors of one shape (3, t, t).

    Its own randomness is beyond our seeds: such a run cannot be repeated exactly.
    """

    def __init__(self, dataset: Sequence[tuple[Tensor, Tensor]], device: torch.device) -> None:
        self.dataset, self.device = dataset, device

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, index: np.ndarray, generator: Generator) -> tuple[Tensor, Tensor]:
        items = [self.dataset[int(i)] for i in index]
        a, b = (torch.stack([torch.as_tensor(item[side]) for item in items]) for side in (0, 1))
        return a.to(self.device), b.to(self.device)
