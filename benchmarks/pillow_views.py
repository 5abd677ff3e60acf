"""The usual way: the contrastive augmentations on one Pillow image at a time, as a data loader's worker runs them."""

import math
import random

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.utils.data import Dataset


class PillowView:
    """Random resized crop, mirror, colour jitter in a random order, grayscale, to a normalised tensor."""

    def __init__(self, size_px: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.size_px = size_px
        self.mean, self.std = (torch.tensor(values)[:, None, None] for values in (mean, std))

    def __call__(self, image: Image.Image) -> Tensor:
        image = image.resize((self.size_px, self.size_px), Image.Resampling.BILINEAR, box=self._crop(*image.size))
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if random.random() < 0.8:
            changes = [self._brightness, self._contrast, self._saturation, self._hue]
            random.shuffle(changes)
            for change in changes:
                image = change(image)
        if random.random() < 0.2:
            image = image.convert("L").convert("RGB")
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(255)
        return pixels.sub_(self.mean).div_(self.std)

    def _crop(self, width: int, height: int) -> tuple[float, float, float, float]:
        for _ in range(10):
            area = width * height * random.uniform(0.2, 1)
            aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                left, top = random.randint(0, width - w), random.randint(0, height - h)
                return left, top, left + w, top + h
        return 0, 0, width, height

    def _brightness(self, image: Image.Image) -> Image.Image:
        return ImageEnhance.Brightness(image).enhance(random.uniform(0.6, 1.4))

    def _contrast(self, image: Image.Image) -> Image.Image:
        return ImageEnhance.Contrast(image).enhance(random.uniform(0.6, 1.4))

    def _saturation(self, image: Image.Image) -> Image.Image:
        return ImageEnhance.Color(image).enhance(random.uniform(0.6, 1.4))

    def _hue(self, image: Image.Image) -> Image.Image:
        hue, saturation, value = image.convert("HSV").split()
        turned = np.asarray(hue, np.uint8) + np.uint8(int(random.uniform(-0.1, 0.1) * 255) % 256)
        return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


class PillowPairs(Dataset[tuple[Tensor, Tensor]]):
    """Two views of each image."""

    def __init__(self, pixels: np.ndarray, view: PillowView) -> None:
        self.images = [Image.fromarray(one) for one in pixels]
        self.view = view

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.images[index]
        return self.view(image), self.view(image)
