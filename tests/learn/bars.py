"""Small pictures of two kinds, and a network that has learned nothing of them."""

import numpy as np
import torch

from imagescape.learn.encoder import Architecture, Encoder, Preprocessing


def bar(down, seed, size=16):
    """A bar across or down, at a random place and of a random colour, (size, size, 3) uint8."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (size, size, 3)).astype(np.uint8)
    start = rng.integers(2, size - 6)
    place = slice(start, start + 4)
    image[(slice(None), place) if down else place] = rng.integers(120, 256, 3)
    return image


def small_network():
    """Always the same; of pictures of 16 px."""
    architecture = Architecture(backbone="resnet10", stem="strided", width=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = architecture.build()
    half = (0.5, 0.5, 0.5)
    way = Preprocessing(size_px=16, cache_px=16, fit="crop", mean=half, std=half)
    return Encoder(network, architecture, way, device="cpu")
