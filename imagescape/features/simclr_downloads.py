"""The published SimCLR checkpoints, fetched by name.

Addresses and steps are those of Google Research's bucket `simclr-checkpoints`; its README is at
https://github.com/google-research/simclr.
"""

import difflib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from imagescape.errors import InputError
from imagescape.features.tensorflow_bundle import Index
from imagescape.fetch import RemoteFile, cache_folder, fetch

ADDRESS = "https://storage.googleapis.com/simclr-checkpoints"

_V2_MODELS = (
    *(f"r{depth}_{width}x_sk{sk}" for depth in (50, 101, 152) for width in (1, 2) for sk in (0, 1)),
    "r152_3x_sk1",
)
_V2_STEPS = {
    "pretrained": 250228,
    "finetuned_100pct": 37535,
    "finetuned_10pct": 3754,
    "finetuned_1pct": 751,
    "supervised": 28151,
}
# ResNet-50 of width 1, 2 and 4.
_V1_STEPS = {
    "pretrain": (225206, 225206, 225206),
    "finetune_100pct": (9384, 18768, 4692),
    "finetune_10pct": (939, 939, 470),
}


def _published() -> dict[str, dict[str, str]]:
    found = {
        category: {model: f"simclrv2/{category}/{model}/model.ckpt-{step}" for model in _V2_MODELS}
        for category, step in _V2_STEPS.items()
    }
    for category, steps in _V1_STEPS.items():
        found[category] = {
            f"r50_{width}x_sk0": f"simclrv1/{category}/{width}x/model.ckpt-{step}"
            for width, step in zip((1, 2, 4), steps, strict=True)
        }
    return found


PUBLISHED: Mapping[str, Mapping[str, str]] = MappingProxyType(_published())
"""Category to model to the checkpoint's path below `ADDRESS`. The categories that begin with `pretrained`, `finetuned_`
and `supervised` are of SimCLR v2, `pretrain` and `finetune_` of v1."""


def download(
    model: str,
    category: str = "pretrained",
    cache_dir: str | Path | None = None,
    *,
    address: str = ADDRESS,
    attempts: int = 5,
    wait_seconds: float = 1.0,
) -> Path:
    """Download a published checkpoint unless it is here already; its path can be given to `convert`.

    The index is fetched first. It tells how large the file of tensors must be at least, and holds the
    checksum of each tensor, which `convert` compares.

    Args:
        model: One of those of the category: "r50_1x_sk0".
        category: One of `PUBLISHED`.
        cache_dir: Where to keep it; `default_cache_dir()` when None.
        address: Where the bucket is, or a mirror of it.
        attempts, wait_seconds: As for `fetch`.

    Returns:
        The checkpoint's prefix, `…/model.ckpt-250228`.

    Raises:
        InputError: there is no such model.
        DownloadError: it cannot be had, or what came is no checkpoint or too short.
    """
    models = PUBLISHED.get(category)
    if models is None:
        raise InputError(
            f"there is no category '{category}'{_meant(category, PUBLISHED)} (known: {', '.join(PUBLISHED)})"
        )
    if model not in models:
        raise InputError(f"{category} has no model '{model}'{_meant(model, models)} (known: {', '.join(models)})")
    path = Path(models[model])
    folder = cache_folder(f"simclr/{path.parent}", cache_dir)

    def bring(name: str, check: Callable[[Path], object]) -> Path:
        file = RemoteFile(name, (f"{address}/{path.parent}/{name}",))
        return fetch(file, folder, check=check, attempts=attempts, wait_seconds=wait_seconds)

    index = Index.read(bring(f"{path.name}.index", Index.read))
    for shard in range(index.shards):
        bring(index.shard_path(shard).name, partial(index.check_shard, shard))
    return folder / path.name


def _meant(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
