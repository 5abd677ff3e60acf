"""What JPEG does to whole batches: the loss of it, without the file."""

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

# ITU-T T.81 (1992), tables K.1 and K.2: steps of the coefficients of an 8 x 8 block at quality 50.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
# JFIF: colours as luma and two differences.
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


@torch.no_grad()
def jpeg(images: Float[Tensor, "n 3 h w"], quality: Float[Tensor, " n"]) -> Float[Tensor, "n 3 h w"]:
    """Images of colours 0 … 255 as after JPEG of these qualities, 1 to 100; colours at half the resolution (4:2:0).

    Coefficients are rounded as an encoder does by libjpeg's rule for qualities; levels stay unrounded.
    """
    height, width = images.shape[2:]
    padded = F.pad(images, (0, -width % 16, 0, -height % 16), mode="replicate")
    to_ycc, to_rgb, cosines, luma_steps, chroma_steps = _tables(images.device)
    colours = torch.einsum("dc,nchw->ndhw", to_ycc, padded)
    percent = torch.where(quality < 50, 5000 / quality.clamp_min(1), 200 - 2 * quality)
    luma, chroma = (
        _rounded(planes, cosines, ((table * percent[:, None, None] + 50) / 100).floor().clamp(1, 255))
        for planes, table in (
            (colours[:, :1] - 128, luma_steps),
            (F.avg_pool2d(colours[:, 1:], 2), chroma_steps),
        )
    )
    whole = torch.cat([luma + 128, F.interpolate(chroma, scale_factor=2, mode="bilinear")], dim=1)
    return torch.einsum("dc,nchw->ndhw", to_rgb, whole)[:, :, :height, :width].clamp(0, 255)


def _rounded(
    planes: Float[Tensor, "n c h w"], cosines: Float[Tensor, "8 8"], steps: Float[Tensor, "n 8 8"]
) -> Float[Tensor, "n c h w"]:
    """With every cosine coefficient of each 8 x 8 block brought to a multiple of its step."""
    n, c, h, w = planes.shape
    blocks = planes.reshape(n, c, h // 8, 8, w // 8, 8).transpose(3, 4)  # (n, c, down, across, 8, 8)
    steps = steps[:, None, None, None]
    coefficients = (cosines @ blocks @ cosines.T / steps).round() * steps
    return (cosines.T @ coefficients @ cosines).transpose(3, 4).reshape(n, c, h, w)


@lru_cache
def _tables(device: torch.device) -> tuple[Tensor, ...]:
    frequency, place = np.mgrid[:8, :8]
    cosines = np.cos((2 * place + 1) * frequency * math.pi / 16) * np.where(frequency == 0, math.sqrt(1 / 8), 0.5)
    arrays = (_TO_YCC, np.linalg.inv(_TO_YCC), cosines, _LUMA, _CHROMA)
    with torch.inference_mode(False):  # they outlive the mode they are first asked for in
        return tuple(torch.tensor(np.asarray(one), dtype=torch.float32, device=device) for one in arrays)
