"""Attacks on brightness and colour. RGB images in and out, the size stays."""

import math

import numpy as np
from PIL import Image, ImageEnhance


def contrast(image: Image.Image, factor: float) -> Image.Image:
    """Mix with the image's mean grey: 0 is all grey, 1 the image, above 1 more contrast."""
    return ImageEnhance.Contrast(image).enhance(factor)


def colour(image: Image.Image, factor: float) -> Image.Image:
    """Mix with the image in grey: 0 is grey, 1 the image, above 1 more saturated."""
    return ImageEnhance.Color(image).enhance(factor)


def brightness(image: Image.Image, factor: float) -> Image.Image:
    """Mix with black: 0 is black, 1 the image, above 1 brighter."""
    return ImageEnhance.Brightness(image).enhance(factor)


def sharpness(image: Image.Image, factor: float) -> Image.Image:
    """Mix with a smoothed copy: 0 is smooth, 1 the image, above 1 sharpened."""
    return ImageEnhance.Sharpness(image).enhance(factor)


def colour_cast(image: Image.Image, gain: float, rng: np.random.Generator) -> Image.Image:
    """Light of a random hue: the channels are multiplied by 1 - gain to 1 + gain, as a wrong white balance does."""
    hue = rng.uniform(0, 2 * math.pi)
    table: list[int] = []
    for channel in range(3):
        factor = 1 + gain * math.cos(hue - channel * 2 * math.pi / 3)
        table += [min(255, round(value * factor)) for value in range(256)]
    return image.point(table)
