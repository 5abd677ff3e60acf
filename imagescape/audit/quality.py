"""Bad images: too dark, too bright, blurry, empty, of an odd size or shape, without colour, framed, full of blocks.

Two stages. `measuring.measure` makes a few raw numbers of each image's pixels; `judge` makes scores and issues of
them, in no time, and again with other thresholds.

Of the nine issues, seven are those of cleanvision 0.3.7 (https://github.com/cleanlab/cleanvision), with its
definitions and its thresholds as ours unless said otherwise, so that both find the same images: `dark`, `bright` (there
`light`), `blurry`, `low_information`, `odd_size`, `odd_aspect_ratio` and `grayscale`. What is different on purpose:

* Pixels are those that one sees: upright, transparency over white, palettes looked up, 16 bits scaled. There the
  numbers of a palette are taken for greys, and alpha is dropped.
* `grayscale` is asked of the pixels. There it is asked of the file's mode, so that a grey picture stored in colour is
  not found.
* `low_information` of a picture without colour is that of one band, as there for a grey file; there a grey picture
  stored in colour scores .158 more.
* `blurry`: images of 512 px or more are shrunk in two steps and not in one, which is several times as fast and changes
  the edges' part of the score by .003 at most of those we looked at.
* `odd_size` scores 0 to .5 where all sizes but a few are the same and this is one of the few; there 0 to 1, against a
  threshold of 1. The images found are the same.

`uniform_border` and `blocky` are our own.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal, Self, get_args

import numpy as np

from imagescape.audit.measuring import Measurements
from imagescape.errors import InputError

Issue = Literal[
    "dark",
    "bright",
    "blurry",
    "low_information",
    "odd_size",
    "odd_aspect_ratio",
    "grayscale",
    "uniform_border",
    "blocky",
]
ISSUES: tuple[Issue, ...] = get_args(Issue)

_ENTROPY_BITS = 10.0  # scores 1
_DEVIATION = 100.0  # of edges or of counts, scores 1 - 1/e
_VARIED = 0.18  # what the counts must score to count at all
_QUARTILE_RANGES = 3.0  # beyond the quartiles, of sizes that are not odd


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """A score below the threshold is an issue; 0 looks for none. Each in [0, 1].

    Attributes:
        dark: Of the 99th percentile of perceived brightness.
        bright: Of 1 less the 5th percentile of perceived brightness.
        blurry: Of what edges there are, after the image is shrunk to 64 px; see `judge`.
        low_information: Of the entropy in bits, over 10.
        odd_size: Of 1 less the distance from the middle of usual sizes over their range; .5 is the end of the range.
        odd_aspect_ratio: Of the shorter side over the longer.
        grayscale: Of the largest difference between two channels of a pixel, over 255. .02 is 5 levels, what JPEG may
            do to grey.
        uniform_border: Of the share of the picture that is no frame.
        blocky: Of how much a step between pixels stands out anywhere, over how much across the lines of JPEG's grid.
    """

    dark: float = 0.32
    bright: float = 0.05
    blurry: float = 0.29
    low_information: float = 0.3
    odd_size: float = 0.5
    odd_aspect_ratio: float = 0.35
    grayscale: float = 0.02
    uniform_border: float = 0.8
    blocky: float = 0.3

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= 1:
                raise InputError(f"the threshold {field.name} must lie in [0, 1], got {value}")


@dataclass(frozen=True, slots=True, eq=False)
class Quality:
    """How good images are, and what is wrong with them.

    Attributes:
        scores: Of each issue, (n,) float64 in [0, 1], lower is worse; NaN for images that were not measured.
        thresholds: Below which a score is an issue.
    """

    scores: Mapping[Issue, np.ndarray]
    thresholds: Thresholds

    def at(self, **thresholds: float) -> Self:
        """The same scores cut elsewhere: `quality.at(dark=.2, blurry=.35)`. Those not named stay.

        Raises:
            InputError: no such issue, or a threshold outside of [0, 1].
        """
        if unknown := [name for name in thresholds if name not in ISSUES]:
            raise InputError(f"a threshold must be of one of {', '.join(ISSUES)}, got '{unknown[0]}'")
        return replace(self, thresholds=replace(self.thresholds, **thresholds))

    @property
    def issues(self) -> dict[Issue, np.ndarray]:
        """Which images have each issue, (n,) bool; False for those that were not measured."""
        return {issue: score < getattr(self.thresholds, issue) for issue, score in self.scores.items()}

    def rows(self, issue: Issue) -> np.ndarray:
        """Images with the issue, the worst first, (m,) int64."""
        score = self.scores[issue]
        found = np.flatnonzero(score < getattr(self.thresholds, issue))
        return found[np.argsort(score[found], kind="stable")]

    @property
    def has_issue(self) -> np.ndarray:
        """Which images have any, (n,) bool."""
        return np.any(list(self.issues.values()), axis=0)

    @property
    def counts(self) -> dict[Issue, int]:
        """Images with each issue."""
        return {issue: int(found.sum()) for issue, found in self.issues.items()}

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """For a table: `<issue>_score` and `is_<issue>_issue`, issue by issue."""
        issues = self.issues
        return {
            name: values
            for issue in self.scores
            for name, values in ((f"{issue}_score", self.scores[issue]), (f"is_{issue}_issue", issues[issue]))
        }

    def __len__(self) -> int:
        return len(self.scores["dark"])

    def as_dict(self) -> dict[str, object]:
        counts = {str(issue): count for issue, count in self.counts.items()}
        return {"images": len(self), "counts": counts, "thresholds": asdict(self.thresholds)}

    def __str__(self) -> str:
        measured = int(np.isfinite(self.scores["dark"]).sum())
        lines = [f"{'issue':<17} {'images':>8} {'share':>8} {'score below':>12}"]
        for issue, count in self.counts.items():
            share = count / max(measured, 1)
            lines.append(f"{issue:<17} {count:>8,} {share:>8.2%} {getattr(self.thresholds, issue):>12g}")
        lines.append(f"{int(self.has_issue.sum()):,} of {measured:,} images have an issue")
        if measured < len(self):
            lines.append(f"{len(self) - measured:,} were not measured")
        return "\n".join(lines)


def judge(measurements: Measurements, thresholds: Thresholds | None = None) -> Quality:
    """Scores of images, from what was measured of each and, for `odd_size`, from all of them.

    Blurry: (1 - exp(-deviation of the edges / 100)) + (1 - exp(-deviation of the histogram's counts / 100)), at most
    1, where the second counts only if above .18; it is what tells a drawing with few colours from a blurry photograph.

    Odd size: size is sqrt(width x height). Usual is what lies between 3 quartile ranges below the first quartile and
    3 above the third. Where all quartiles are equal, every other size is odd.

    Args:
        measurements: Of all images of the collection; rows of NaN are left out of everything.
        thresholds: See `Thresholds`; None for its defaults.
    """
    brightest, darkest = measurements["brightness_99th"], measurements["brightness_5th"]
    edges, counts = (-np.expm1(-measurements[name] / _DEVIATION) for name in ("edge_deviation", "histogram_deviation"))
    width, height = measurements["width_px"], measurements["height_px"]
    scores: dict[Issue, np.ndarray] = {
        "dark": brightest,
        "bright": 1 - darkest,
        "blurry": edges + np.where(counts > _VARIED, counts, 0),
        "low_information": measurements["entropy_bits"] / _ENTROPY_BITS,
        "odd_size": _usual_size(np.sqrt(width * height)),
        "odd_aspect_ratio": np.minimum(width, height) / np.maximum(width, height),
        "grayscale": measurements["color_spread"],
        "uniform_border": 1 - measurements["border_fraction"],
        "blocky": 1 / np.maximum(measurements["blockiness"], 1),
    }
    measured = measurements.measured
    judged = {issue: np.where(measured, np.clip(score, 0, 1), np.nan) for issue, score in scores.items()}
    return Quality(judged, thresholds or Thresholds())


def _usual_size(size: np.ndarray) -> np.ndarray:
    """1 in the middle of the usual sizes, .5 at either end, 0 a range away from the middle."""
    known = size[np.isfinite(size)]
    if not len(known):
        return size
    first, third = np.percentile(known, [25, 75])
    middle, length = (first + third) / 2, (third - first) * (1 + 2 * _QUARTILE_RANGES)
    apart = np.abs(size - middle)
    if length > 0:
        return 1 - apart / length
    return np.where(apart > 0, np.maximum(1 - apart / middle, 0) / 2, 1.0)
