"""How well altered copies find their originals as a network changes: one look at it after another.

Some of the kinds of alteration are *seen*, which training shows something like, and some *unseen*: what was learned of
the first is worth something if the others get better too, or no worse at least.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from jaxtyping import Float, Int

from imagescape.errors import InputError
from imagescape.evaluate.neighbors import nearest
from imagescape.evaluate.retrieval import NOTHING, Retrieval, measure

RESULTS = 10  # of each query


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How well queries find their originals, by cosine.

    Attributes:
        recall_at_1: Share whose original comes first, of the queries that have one in the database.
        average_precision: Micro average precision of the first 10 results of all queries, which asks that one distance
            be right for every picture.
        recall_at_precision: Share found by the best distance at which 90 % of what is accepted is right.
        distance_at_precision: That distance, 1 - cosine; None where there is none.
    """

    recall_at_1: float
    average_precision: float
    recall_at_precision: float
    distance_at_precision: float | None

    @classmethod
    def of(cls, found: Retrieval) -> Self:
        return cls(
            recall_at_1=float(found.overall.at[1]),
            average_precision=float(found.average_precision),
            recall_at_precision=float(found.recall_at_precision),
            distance_at_precision=found.distance_at_precision,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at a network.

    Attributes:
        name: Which one: "before", "epoch 4", "epoch 4, 50% of the way".
        epoch: Epochs trained; 0 before any.
        figures: Of all queries.
        unseen, seen: Of the alterations that training never shows, and of the others.
        carried_precision, carried_recall: Of the unseen kinds, at the distance where the seen ones are 90 % right: what
            becomes of a threshold that was set on known alterations. None where there is no such distance.
        by_family: Share whose original comes first, for every family of alterations.
    """

    name: str
    epoch: int
    figures: Figures
    unseen: Figures
    seen: Figures
    carried_precision: float | None
    carried_recall: float | None
    by_family: dict[str, float]

    @property
    def score(self) -> float:
        """What networks are chosen by: the mean of recall@1 and average precision.

        Copies must come first, and at a distance that tells them from others everywhere; either can be had at the
        other's expense.
        """
        return (self.figures.recall_at_1 + self.figures.average_precision) / 2

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        parts = {name: Figures(**values[name]) for name in ("figures", "unseen", "seen")}
        return cls(**{**values, **parts})


@dataclass(frozen=True, kw_only=True)
class Copies:
    """What altered copies were made of, and how.

    Attributes:
        truth: Row of each copy's original in the database, (q,) int64; -1 where it was left out.
        originals: What each copy was made from, (q,) int64, also where that was left out.
        families: What was done to it, (q,) text.
        unseen: Families that training does not show.

    Raises:
        InputError: lengths differ, or there are copies of one sort only.
    """

    truth: Int[np.ndarray, " q"]
    originals: Int[np.ndarray, " q"]
    families: np.ndarray
    unseen: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.truth) == len(self.originals) == len(self.families):
            counts = f"{len(self.truth)}, {len(self.originals)} and {len(self.families)}"
            raise InputError(f"truth, originals and families must have one entry a copy, got {counts}")
        for hidden in (True, False):
            if not (self.truth[self.is_unseen == hidden] != NOTHING).any():
                raise InputError(
                    "a guard needs copies of both, alterations that training shows and others that it does not; there "
                    f"are none {'unseen' if hidden else 'seen'} among {', '.join(sorted(set(self.families)))}"
                )

    @property
    def is_unseen(self) -> np.ndarray:
        """(q,) bool."""
        return np.isin(self.families, self.unseen)

    def look(
        self,
        database: Float[np.ndarray, "m d"],
        queries: Float[np.ndarray, "q d"],
        *,
        name: str,
        epoch: int = 0,
        device: str = "auto",
    ) -> Look:
        """What the features of a database and of the copies are worth."""
        found = nearest(database, queries, min(RESULTS, len(database)), metric="cosine", device=device)

        def measured(rows: np.ndarray) -> Retrieval:
            return measure(
                found.indices[rows],
                found.distances[rows],
                self.truth[rows],
                ks=(1,),
                families=self.families[rows],
                originals=self.originals[rows],
                resamples=0,
            )

        rows = (np.ones(len(queries), bool), self.is_unseen, ~self.is_unseen)
        whole, unseen, seen = (measured(one) for one in rows)
        precision, recall = self._carried(found.indices, found.distances, seen.distance_at_precision)
        return Look(
            name=name,
            epoch=epoch,
            figures=Figures.of(whole),
            unseen=Figures.of(unseen),
            seen=Figures.of(seen),
            carried_precision=precision,
            carried_recall=recall,
            by_family={family: float(one.at[1]) for family, one in whole.by_family.items()},
        )

    def _carried(
        self, ids: np.ndarray, distances: np.ndarray, threshold: float | None
    ) -> tuple[float | None, float | None]:
        """Precision and recall of the unseen kinds at a distance."""
        if threshold is None:
            return None, None
        rows = self.is_unseen
        accepted = distances[rows] <= threshold
        right = accepted & (ids[rows] == self.truth[rows, None])
        matching = int((self.truth[rows] != NOTHING).sum())
        precision = float(right.sum() / accepted.sum()) if accepted.any() else None
        return precision, float(right.sum() / matching)


def worst_family(before: Look, after: Look) -> tuple[str, float]:
    """The family whose recall@1 fell most, or rose least, and by how much it changed."""
    changes = {family: after.by_family[family] - value for family, value in before.by_family.items()}
    family = min(changes, key=lambda one: changes[one])
    return family, changes[family]


def table(looks: Sequence[Look]) -> str:
    """A line a look."""
    width = max(len("network"), *(len(one.name) for one in looks))
    heads = f"{'R@1':>6}  {'uAP':>6}  {'R@P90':>6}"
    lines = [f"{'network':<{width}}  {heads}  unseen: {heads}"]
    for one in looks:
        a, b = (
            f"{figures.recall_at_1:>6.3f}  {figures.average_precision:>6.3f}  {figures.recall_at_precision:>6.3f}"
            for figures in (one.figures, one.unseen)
        )
        lines.append(f"{one.name:<{width}}  {a}          {b}")
    return "\n".join(lines)
