"""Which row of each group to keep."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from imagescape.audit.groups import Groups
from imagescape.errors import InputError

KeepRule = Literal["largest", "oldest", "first", "center"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Kept:
    """What a rule says of the rows that are in groups; all other rows stay.

    Attributes:
        kept: (k,) int64, ascending: at least one of each group.
        removed: (r,) int64, ascending.
        in_favor_of: The row that is kept in place of each of `removed`, (r,) int64.
        rule: The rule.
    """

    kept: np.ndarray
    removed: np.ndarray
    in_favor_of: np.ndarray
    rule: KeepRule

    def __str__(self) -> str:
        return f"{len(self.kept):,} rows of groups are kept ({self.rule}), {len(self.removed):,} would go"


def keep(
    groups: Groups,
    rule: KeepRule = "largest",
    *,
    pixels: np.ndarray | None = None,
    file_bytes: np.ndarray | None = None,
    modified: np.ndarray | None = None,
    reference: np.ndarray | None = None,
    spare_reference: bool = False,
) -> Kept:
    """Choose one row of each group.

    Args:
        groups: Groups of n rows.
        rule: "largest" is the one of most pixels, then of most bytes; "oldest" that modified first; "first" the lowest
            row; "center" the group's centre. Rows that are equal by the rule: the lowest.
        pixels: Width x height of every row, (n,); for "largest".
        file_bytes: Size of every file, (n,); for "largest", where it may be left out.
        modified: Time of last change of every row, (n,), any unit; for "oldest". NaN where it is not known: those last.
        reference: (n,) bool, True for rows of a reference folder; or integers, the order of preference of each row's
            folder, 0 first. It goes before the rule: no row is removed in favour of one that is less preferred.
        spare_reference: Never remove a row of the reference (True, or 0), though a group may then keep several.

    Raises:
        InputError: the rule is unknown, or what it looks at is missing or not one number a row.
    """
    if rule not in get_args(KeepRule):
        raise InputError(f"rule must be one of {', '.join(get_args(KeepRule))}, got '{rule}'")
    if spare_reference and reference is None:
        raise InputError("to spare the reference, it must be said which rows it is")
    rank = np.zeros(len(groups.rows), np.int64)
    if reference is not None:
        given = _column(groups, reference, "reference", "biu")
        rank = (~given).astype(np.int64) if given.dtype == bool else given.astype(np.int64)
    by = {
        "largest": lambda: [
            -_sizes(groups, pixels, "pixels").astype(np.float64),
            -_sizes(groups, file_bytes, "file_bytes", optional=True).astype(np.float64),
        ],
        "oldest": lambda: [_sizes(groups, modified, "modified")],
        "first": lambda: [],
        "center": lambda: [np.arange(len(groups.rows))],
    }[rule]()
    order = np.lexsort((groups.rows, *reversed(by), rank, groups.positions))
    best = groups.rows[order][groups.starts[:-1]]
    stays = np.zeros(groups.count, bool)
    stays[best] = True
    if spare_reference:
        stays[groups.rows[rank == 0]] = True
    in_favor_of = np.empty(groups.count, np.int64)
    in_favor_of[groups.rows] = best[groups.positions]
    rows = np.sort(groups.rows)
    removed = rows[~stays[rows]]
    return Kept(kept=rows[stays[rows]], removed=removed, in_favor_of=in_favor_of[removed], rule=rule)


def _sizes(groups: Groups, values: np.ndarray | None, name: str, *, optional: bool = False) -> np.ndarray:
    """A column at the rows of the groups; of an optional one that is not given, zeros."""
    if values is None and optional:
        return np.zeros(len(groups.rows))
    if values is None:
        raise InputError(f"this rule looks at {name}, which were not given")
    return _column(groups, values, name, "iuf")


def _column(groups: Groups, values: np.ndarray, name: str, kinds: str) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != (groups.count,) or values.dtype.kind not in kinds:
        raise InputError(
            f"{name} must be one number a row, got {values.dtype} of shape {values.shape} for {groups.count} rows"
        )
    return values[groups.rows]
