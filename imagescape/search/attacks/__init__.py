"""Alterations that images meet on their way through the world, to measure whether search still finds the original.

>>> for attack in choose(["jpeg", "flip_horizontal"]):
...     print(attack.name)
jpeg_10
jpeg_50
jpeg_90
flip_horizontal

Each is a function of image, seed and the image's id: `attack(image, seed=0, image_id=17)`.
"""

from imagescape.search.attacks.catalogue import ANCESTOR, ATTACKS, FAMILIES, Attack, choose

__all__ = ["ANCESTOR", "ATTACKS", "FAMILIES", "Attack", "choose"]
