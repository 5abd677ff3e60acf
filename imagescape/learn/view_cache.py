"""What the frozen part of a network makes of several views of each image, made once and then reused."""

import math
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from imagescape.errors import InputError
from imagescape.learn.pairs import CachedFeatures, Pairs
from imagescape.runtime import seed_for, track

CACHED_BYTES = 2 * 2**30  # in memory; more goes to disk


def cache_views(
    pairs: Pairs,
    frozen: Callable[[Tensor], Tensor],
    *,
    views: int,
    batch_size: int,
    seed: tuple[object, ...],
    folder: Path | None = None,
) -> CachedFeatures:
    """What `frozen` gives of `views` views of each item, an even number, in half precision.

    They go to a file in `folder` that nobody else sees when they are too many for memory.

    Args:
        pairs: Make the views.
        frozen: Views (n, 3, t, t) to features or maps (n, …), in eval mode.
        views: Of each item.
        batch_size: Items at a time.
        seed: With the view and the place of the batch it settles every random choice.
        folder: Where there is room; None: where temporary files go.

    Raises:
        InputError: the disk is too small.
    """
    generator = torch.Generator(pairs.device)
    cache: Tensor | None = None
    with torch.inference_mode(), track("features of views", len(pairs) * views) as tracker:
        for view in range(0, views, 2):
            for start in range(0, len(pairs), batch_size):
                index = np.arange(start, min(start + batch_size, len(pairs)))
                generator.manual_seed(seed_for(*seed, "cache", view, start))
                for side, batch in enumerate(pairs.batch(index, generator)):
                    made = frozen(batch)
                    if cache is None:
                        cache = _room((views, len(pairs), *made.shape[1:]), pairs.device, folder)
                    cache[view + side, start : start + len(index)] = made.to(cache)
                tracker.advance(2 * len(index))
    assert cache is not None
    return CachedFeatures(cache, pairs.device)


def _room(shape: tuple[int, ...], device: torch.device, folder: Path | None) -> Tensor:
    needed_bytes = 2 * math.prod(shape)
    if needed_bytes <= CACHED_BYTES:
        return torch.empty(shape, dtype=torch.float16, device=device)
    place = folder or Path(tempfile.gettempdir())
    if shutil.disk_usage(place).free < needed_bytes:  # writing to a map of a file on a full disk would kill us
        raise InputError(f"features of views need {needed_bytes / 1e9:.0f} GB free in {place}; free some space there")
    file = tempfile.NamedTemporaryFile(prefix="views-", dir=place)  # noqa: SIM115 - lives as long as the map of it
    return torch.from_numpy(np.memmap(file, np.float16, "w+", shape=shape))
