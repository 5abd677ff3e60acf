"""Views a second on one core: batched augmentation against Pillow, one image at a time.

python benchmarks/augment.py [--size 32] [--images 512]
"""

import argparse

import torch
from measure import hardware, pictures, rate, seconds
from PIL import Image
from pillow_views import PillowView

from imagescape.learn.augment import Contrastive
from imagescape.runtime import keep_freed_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32, help="side of a view, px")
    parser.add_argument("--images", type=int, default=512, help="a batch")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as the training loop does
    pixels = pictures(options.images, round(1.25 * options.size))
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    batch, generator = torch.from_numpy(pixels), torch.Generator().manual_seed(0)
    augment = Contrastive(size_px=options.size, mean=mean, std=std)
    one_by_one = PillowView(options.size, mean, std)
    images = [Image.fromarray(one) for one in pixels]
    pillow = seconds(lambda: [one_by_one(image) for image in images])
    batched = seconds(lambda: augment(batch, generator), repeats=21)

    print(hardware())
    print(f"views of {options.size} px a second, one thread: median (least … most)")
    slow, text = rate(options.images, pillow)
    print(f"  Pillow, one image at a time  {text}")
    fast, text = rate(options.images, batched)
    print(f"  batched                      {text}")
    print(f"  ratio                        {fast / slow:9.1f}")


if __name__ == "__main__":
    main()
