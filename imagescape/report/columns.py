"""A column of a table as something to colour by: classes or a quantity, and their colours."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from imagescape.errors import InputError
from imagescape.evaluate.splits import encode_labels

Kind = Literal["auto", "categorical", "numeric"]

MAX_INTEGER_CLASSES = 64  # an integer column with more distinct values is a quantity unless the caller says otherwise

_PLAIN = (str, bool, int, float, type(None))

NULL_COLOR = "#b9bcc2"

# Twenty colours that are legible on white and on near-black. The first twelve stay apart (at least 0.07 in
# OKLab, the largest such set that the search found) for deuteranopes and protanopes too.
PALETTE = (
    *("#045bda", "#f58e2c", "#5ba27e", "#c23c51", "#845ba5", "#e0ce0f", "#81c2ec", "#6d4905", "#c395b4", "#a58109"),
    *("#255283", "#950565", "#98df88", "#e9a693", "#6521ad", "#44e3d9", "#ab98fe", "#467337", "#d06cb6", "#23abd9"),
)


@dataclass(frozen=True, slots=True)
class Categories:
    """A column of classes.

    Attributes:
        codes: (n,) int64 positions in `names`; -1 where the row has no value.
        names: What the classes are called, in the order of a legend.
    """

    codes: np.ndarray
    names: tuple[str, ...]

    @property
    def counts(self) -> np.ndarray:
        """Rows of each class, (classes,) int64."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.names))

    @property
    def colors(self) -> tuple[str, ...]:
        """One "#rrggbb" a class."""
        return category_colors(len(self.names))

    @property
    def null_count(self) -> int:
        return int((self.codes < 0).sum())

    def largest(self, limit: int) -> np.ndarray:
        """Codes of the `limit` classes with the most rows, in the order of `names`."""
        return np.sort(np.argsort(-self.counts, kind="stable")[:limit])


@dataclass(frozen=True, slots=True)
class Quantity:
    """A column of numbers.

    Attributes:
        values: (n,) float64; NaN where the row has no value.
        low: Start of the colour scale: the 1st percentile, so that one outlier does not take all the colours.
        high: Its end: the 99th percentile.
    """

    values: np.ndarray
    low: float
    high: float

    @property
    def null_count(self) -> int:
        return int(np.isnan(self.values).sum())


def read_column(values: Sequence[object] | np.ndarray, kind: Kind = "auto") -> Categories | Quantity:
    """Make classes or a quantity of a column.

    Args:
        values: (n,) strings, booleans, integers or floats; None and NaN mean "no value", and so does -1
            among classes (the mark of noise in clusterings).
        kind: "auto" makes classes of strings, of booleans and of integers with at most 64 distinct values.

    Raises:
        InputError: the values are of another type, or text is asked to be numeric.
    """
    if kind not in ("auto", "categorical", "numeric"):
        raise InputError(f"kind must be 'auto', 'categorical' or 'numeric', got '{kind}'")
    plain: list = values.tolist() if isinstance(values, np.ndarray) else list(values)
    odd = sorted({type(value).__name__ for value in plain if not isinstance(value, _PLAIN)})
    if odd:
        raise InputError(f"a column to colour by holds text, numbers or booleans, got {', '.join(odd)}")
    present = {value for value in plain if value is not None and value == value}  # NaN differs from itself
    is_text = any(isinstance(value, str) for value in present)
    if kind == "numeric" and is_text:
        raise InputError("a numeric column holds numbers, got text; colour by it as 'categorical'")
    if kind == "auto":
        is_float = not is_text and any(isinstance(value, float) for value in present)
        is_count = not is_text and not is_float and len(present) > MAX_INTEGER_CLASSES
        kind = "numeric" if is_float or is_count else "categorical"
    if kind == "categorical":
        labels = encode_labels(plain)
        return Categories(labels.codes, tuple(_class_name(one) for one in labels.classes))
    numbers = np.array([math.nan if value is None else float(value) for value in plain], dtype=np.float64)
    numbers[~np.isfinite(numbers)] = math.nan
    known = numbers[~np.isnan(numbers)]
    low, high = np.percentile(known, [1, 99]) if len(known) else (0.0, 1.0)
    return Quantity(numbers, float(low), float(high))


def _class_name(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return " ".join(str(value).split()) or "(empty)"


def category_colors(count: int) -> tuple[str, ...]:
    """`count` colours as "#rrggbb": the palette, then hues a golden angle apart in three lightnesses.

    Beyond the palette colours only suggest; names have to say which class is which.
    """
    if count <= len(PALETTE):
        return PALETTE[:count]
    golden = math.pi * (3 - math.sqrt(5))
    return tuple(_oklch(0.50 + 0.12 * (code % 3), 0.12, golden * code) for code in range(count))


def _oklch(lightness: float, chroma: float, hue: float) -> str:
    """sRGB hex of an OKLCH colour, clipped to the gamut (Ottosson 2020, bottosson.github.io/posts/oklab)."""
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    clipped = (min(max(value, 0.0), 1.0) for value in linear)
    coded = (12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055 for value in clipped)
    return "#" + "".join(f"{round(255 * v):02x}" for v in coded)
