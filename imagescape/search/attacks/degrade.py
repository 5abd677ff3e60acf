"""Attacks on the signal: noise, blur and lossy compression. RGB images in and out, the size stays."""

import math
from io import BytesIO

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

_WEBP_LIMIT_PX = 16383


def gaussian_noise(image: Image.Image, variance: float, rng: np.random.Generator) -> Image.Image:
    """Add normal noise of mean 0 to every channel of every pixel; variance of values in [0, 1]."""
    values = np.asarray(image, np.float32)
    return _from_values(values + 255 * math.sqrt(variance) * rng.standard_normal(values.shape, np.float32))


def speckle_noise(image: Image.Image, variance: float, rng: np.random.Generator) -> Image.Image:
    """Multiply every channel of every pixel by 1 + normal noise of mean 0 and this variance."""
    values = np.asarray(image, np.float32)
    return _from_values(values * (1 + math.sqrt(variance) * rng.standard_normal(values.shape, np.float32)))


def salt_and_pepper(image: Image.Image, fraction: float, rng: np.random.Generator) -> Image.Image:
    """Set this fraction of the channel values to 0 or 255, as likely the one as the other."""
    pixels = np.array(image)
    chance = rng.random(pixels.shape, np.float32)
    pixels[chance < fraction / 2] = 0
    pixels[chance >= 1 - fraction / 2] = 255
    return Image.fromarray(pixels)


def gaussian_filter(image: Image.Image, kernel_px: float) -> Image.Image:
    """Blur with a Gaussian cut off at `kernel_px` (odd); its standard deviation is 1, 1.6, 2.2 px for 3, 5, 7.

    The deviation, 0.3 kernel_px + 0.1, is that of the benchmark whose figures are compared with.
    """
    sigma_px = 0.6 * ((kernel_px - 1) * 0.5 - 1) + 1
    values = np.asarray(image, np.float32)
    blurred = ndimage.gaussian_filter(values, sigma_px, axes=(0, 1), radius=int(kernel_px) // 2, mode="mirror")
    return _from_values(blurred)


def median_filter(image: Image.Image, kernel_px: float) -> Image.Image:
    """Replace every channel of every pixel by the median of the square of `kernel_px` (odd) around it."""
    return image.filter(ImageFilter.MedianFilter(int(kernel_px)))


def motion_blur(image: Image.Image, length_px: float, rng: np.random.Generator) -> Image.Image:
    """Smear along a straight line of this length in a random direction, as a camera moved by hand does."""
    angle = rng.uniform(0, math.pi)
    reach = math.ceil(length_px / 2)
    kernel = np.zeros((2 * reach + 2, 2 * reach + 2))
    for along in np.linspace(-length_px / 2, length_px / 2, 4 * math.ceil(length_px) + 1):
        y, x = reach + along * math.sin(angle), reach + along * math.cos(angle)
        top, left = math.floor(y), math.floor(x)
        down, right = y - top, x - left
        kernel[top : top + 2, left : left + 2] += np.outer((1 - down, down), (1 - right, right))
    kernel /= kernel.sum()
    values = np.asarray(image, np.float32)
    height, width = values.shape[:2]
    padded = np.pad(values, ((reach, reach + 1), (reach, reach + 1), (0, 0)), mode="edge")
    blurred = np.zeros_like(values)
    for y, x in np.argwhere(kernel):  # a line fills few of the kernel's cells
        blurred += np.float32(kernel[y, x]) * padded[y : y + height, x : x + width]
    return _from_values(blurred)


def jpeg(image: Image.Image, quality: float) -> Image.Image:
    """Encode as JPEG of this quality, 1 to 95, with Pillow's default chroma subsampling, and decode again."""
    return _encoded(image, "JPEG", quality=int(quality))


def webp(image: Image.Image, quality: float) -> Image.Image:
    """Encode as lossy WebP of this quality, 1 to 100, and decode again.

    WebP knows no side above 16383 px: a larger image is reduced to that first.
    """
    if max(image.size) > _WEBP_LIMIT_PX:
        image = image.copy()
        image.thumbnail((_WEBP_LIMIT_PX, _WEBP_LIMIT_PX))
    return _encoded(image, "WEBP", quality=int(quality))


def _encoded(image: Image.Image, format: str, quality: int) -> Image.Image:
    buffer = BytesIO()
    image.save(buffer, format, quality=quality)
    return Image.open(buffer).convert("RGB")


def _from_values(values: np.ndarray) -> Image.Image:
    """Values in 0..255, rounded to nearest and clipped."""
    return Image.fromarray(np.rint(values).clip(0, 255).astype(np.uint8))
