"""Which attacks there are, their names, and how one is asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import Literal

import numpy as np
from PIL import Image

from imagescape.errors import InputError
from imagescape.images.decode import to_rgb
from imagescape.runtime import seed_for
from imagescape.search.attacks import compose, degrade, geometry, lettering, screenshot, tone
from imagescape.search.attacks.compose import Others, drawn_picture

Needs = Literal["nothing", "rng", "others"]


@dataclass(frozen=True, slots=True)
class Attack:
    """One alteration, of one strength.

    Attributes:
        name: Unlike any other's: "jpeg_10".
        family: What the strengths of one alteration share: "jpeg".
        strength: How much, in the family's unit; None where there is no more or less (a flip).
        unit: What the strength counts: "quality".
    """

    name: str
    family: str
    strength: float | None
    unit: str
    _change: Callable[..., Image.Image] = field(repr=False)
    _arguments: tuple[float | str, ...] = field(default=(), repr=False)
    _needs: Needs = field(default="nothing", repr=False)

    def __call__(
        self, image: Image.Image, *, seed: int, image_id: object, others: Others = drawn_picture
    ) -> Image.Image:
        """The altered image. The same arguments give the same pixels, whatever was attacked before.

        Args:
            image: Any Pillow image of any size; transparency is composited over white.
            seed: Of the run.
            image_id: Of the image. Random choices depend on the seed, this and the attack's name, so that images are
                not all noised or captioned alike; ids are compared as text (17 and "17" are one).
            others: Gives other images for a collage, picked with the generator it is handed; see `Others`. Without
                it, drawn landscapes.

        Returns:
            A new RGB image, of a size of its own for some attacks.
        """
        rng = np.random.default_rng(seed_for(seed, "attack", self.name, str(image_id)))
        return self.apply(to_rgb(image), rng, others)

    def apply(self, image: Image.Image, rng: np.random.Generator, others: Others) -> Image.Image:
        """As a call, of an RGB image and with randomness from `rng`."""
        drawn = {"nothing": (), "rng": (rng,), "others": (rng, others)}[self._needs]
        return self._change(image, *self._arguments, *drawn)


def chain(image: Image.Image, edits: int, rng: np.random.Generator, others: Others) -> Image.Image:
    """This many attacks of different families one after the other, any but chains."""
    for family in rng.choice([name for name in FAMILIES if name != "chain"], edits, replace=False):
        members = FAMILIES[family]
        image = members[rng.integers(len(members))].apply(image, rng, others)
    return image


def _graded(
    family: str,
    unit: str,
    change: Callable[..., Image.Image],
    strengths: Sequence[float],
    needs: Needs = "nothing",
    label: str = "",
) -> list[Attack]:
    """A family, or with a label a part of one, in several strengths."""
    prefix = f"{family}_{label}_" if label else f"{family}_"
    return [
        Attack(f"{prefix}{strength:g}", family, strength, unit, change, (strength,), needs) for strength in strengths
    ]


_FACTORS = (0.5, 0.66, 1.5, 2)

_OF_THE_ANCESTOR = [
    *_graded("gaussian_noise", "variance, of values in [0, 1]", degrade.gaussian_noise, (0.01, 0.02, 0.05), "rng"),
    *_graded("speckle_noise", "variance of the factor", degrade.speckle_noise, (0.01, 0.02, 0.05), "rng"),
    *_graded("salt_and_pepper", "fraction of the values", degrade.salt_and_pepper, (0.05, 0.1, 0.15), "rng"),
    *_graded("gaussian_filter", "side of the kernel, px", degrade.gaussian_filter, (3, 5, 7)),
    *_graded("median_filter", "side of the kernel, px", degrade.median_filter, (3, 5, 7)),
    *_graded("jpeg", "quality", degrade.jpeg, (10, 50, 90)),
    *_graded("scale", "factor of both sides", geometry.scale, (0.4, 0.8, 1.2, 1.6)),
    *_graded("crop", "percent of each dimension taken away", geometry.crop, (5, 10, 20, 40, 60)),
    *_graded("rotate", "degrees counter-clockwise", geometry.rotate, (5, 10, 20, 40, 60)),
    *_graded("shear", "degrees, on both axes", geometry.shear, (1, 2, 5, 10, 20)),
    *_graded("contrast", "factor", tone.contrast, _FACTORS),
    *_graded("colour", "factor", tone.colour, _FACTORS),
    *_graded("brightness", "factor", tone.brightness, _FACTORS),
    *_graded("sharpness", "factor", tone.sharpness, _FACTORS),
    *_graded("text", "characters", lettering.text, (10, 20, 30, 40, 50), "rng"),
]

_FURTHER = [
    Attack("flip_horizontal", "flip", None, "", geometry.flip_horizontal),
    Attack("flip_vertical", "flip", None, "", geometry.flip_vertical),
    *_graded(
        "perspective", "percent of each side that corners move, at most", geometry.perspective, (5, 10, 20), "rng"
    ),
    *_graded("motion_blur", "length, px", degrade.motion_blur, (5, 10, 20), "rng"),
    *_graded("webp", "quality", degrade.webp, (10, 50, 90)),
    *_graded("colour_cast", "gain of a channel, at most", tone.colour_cast, (0.15, 0.3), "rng"),
    *_graded("border", "percent of the shorter side", compose.border, (5, 10, 20), "rng"),
    *_graded("overlay", "percent of the area", compose.sticker, (5, 15, 30), "rng", label="sticker"),
    *_graded("overlay", "opacity", compose.translucent_shape, (0.3, 0.6), "rng", label="shape"),
    Attack("caption_bottom", "caption", None, "", lettering.caption, ("bottom",), "rng"),
    Attack("caption_both", "caption", None, "", lettering.caption, ("both",), "rng"),
    Attack("caption_bar", "caption", None, "", lettering.caption, ("bar",), "rng"),
    *_graded("collage", "pictures", compose.collage, (2, 4, 9), "others"),
    Attack("screenshot_phone", "screenshot", None, "", screenshot.phone, (), "rng"),
    Attack("screenshot_browser", "screenshot", None, "", screenshot.browser, (), "rng"),
    *_graded("chain", "edits", chain, (2, 3, 4), "others"),
]

ATTACKS: Mapping[str, Attack] = MappingProxyType({attack.name: attack for attack in (*_OF_THE_ANCESTOR, *_FURTHER)})
"""All attacks by name."""

FAMILIES: Mapping[str, tuple[Attack, ...]] = MappingProxyType(
    {
        family: tuple(attack for attack in ATTACKS.values() if attack.family == family)
        for family in dict.fromkeys(attack.family for attack in ATTACKS.values())
    }
)
"""The attacks of each family, in the order of `ATTACKS`."""

ANCESTOR: tuple[str, ...] = tuple(attack.name for attack in _OF_THE_ANCESTOR)
"""Names of the 58 attacks of the benchmark "Unsupervised improvement of image similarity", for figures that compare."""


def choose(kinds: Sequence[str] | None = None) -> list[Attack]:
    """The attacks asked for, each once, in the order of `ATTACKS`.

    Args:
        kinds: Names of attacks or families, "all", or "ancestor" for the 58 of `ANCESTOR`; all when None. "-" counts
            as "_", and "color" as "colour".

    Raises:
        InputError: `kinds` is empty or has an unknown name.

    >>> [attack.name for attack in choose(["webp", "jpeg-10"])]
    ['jpeg_10', 'webp_10', 'webp_50', 'webp_90']
    """
    if isinstance(kinds, str):
        raise InputError(f"kinds of attacks must be a list of names, got the text '{kinds}'")
    if kinds is not None and not kinds:
        raise InputError("no kind of attack was asked for; leave the kinds out for all of them")
    chosen: set[str] = set()
    for kind in ["all"] if kinds is None else kinds:
        name = kind.strip().replace("-", "_").replace("color", "colour")
        if name == "all":
            chosen |= set(ATTACKS)
        elif name == "ancestor":
            chosen |= set(ANCESTOR)
        elif name in FAMILIES:
            chosen |= {attack.name for attack in FAMILIES[name]}
        elif name in ATTACKS:
            chosen.add(name)
        else:
            raise InputError(_unknown(kind, name))
    return [attack for attack in ATTACKS.values() if attack.name in chosen]


def _unknown(kind: str, name: str) -> str:
    """What is wrong with a kind, and what would be right."""
    family = max((family for family in FAMILIES if name.startswith(family)), key=len, default=None)
    if family is not None:
        return f"of '{family}' there are {', '.join(attack.name for attack in FAMILIES[family])}; got '{kind}'"
    close = get_close_matches(name, [*FAMILIES, *ATTACKS], n=1)
    meant = f"; did you mean '{close[0]}'?" if close else ""
    return (
        f"a kind of attack must be 'all', 'ancestor', a family ({', '.join(FAMILIES)}), or an attack such as "
        f"'jpeg_10'; got '{kind}'{meant}"
    )
