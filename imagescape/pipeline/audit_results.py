"""What an audit found, as columns of the table and as plain values.

Every score is in [0, 1], and lower is worse. Columns of an earlier audit are replaced; columns of the same names that
no audit wrote are the user's, and stay.
"""

import json
from typing import Any

import numpy as np
import pyarrow as pa

from imagescape.audit.groups import Groups
from imagescape.audit.quality import ISSUES
from imagescape.collection.locking import storage_errors
from imagescape.collection.store import Collection
from imagescape.collection.vectors import ids_of_numbers
from imagescape.errors import InputError
from imagescape.pipeline.audit_memory import FOLDER
from imagescape.pipeline.auditing import Audit

KEEP = "audit_keep"

_GROUPS = ("exact_group", "duplicate_group", "duplicate_of", KEEP, "leak", "label_suggested", "displaced_group")
_SCORED = ("outlier", "label_doubt")
_OURS = {"written_by": "audit"}  # stands beside every column of an audit
_UNDER_WAY = "columns.json"  # names of the columns that an audit is writing


def audit_columns(scape: Collection) -> list[str]:
    """Columns that an audit wrote; none where there was no audit."""
    path = scape.path / FOLDER / _UNDER_WAY
    begun = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []  # by one that was killed
    mark = {key.encode(): value.encode() for key, value in _OURS.items()}
    return [
        field.name for field in scape.schema if mark.items() <= (field.metadata or {}).items() or field.name in begun
    ]


def check_columns(scape: Collection) -> None:
    """Refuse a collection in which columns of an audit would overwrite others.

    Raises:
        InputError: a column of such a name is there that no audit wrote.
    """
    scores = [name for issue in ISSUES for name in (f"{issue}_score", f"is_{issue}_issue")]
    scores += [name for one in _SCORED for name in (f"{one}_score", f"is_{one}_issue", f"{one}_reason")]
    taken = set(scape.columns) & {*_GROUPS, *scores} - set(audit_columns(scape))
    if taken:
        raise InputError(
            f"'{scape.path.name}' has a column '{min(taken)}' that no audit wrote, and an audit would overwrite it; "
            "rename it in the source"
        )


def write_columns(scape: Collection, audit: Audit) -> list[str]:
    """Write what was found into the table: a row that could not be looked at gets null.

    Returns:
        The columns.

    Raises:
        InputError: as `check_columns`.
    """
    check_columns(scape)
    columns, before = _columns(scape, audit), audit_columns(scape)
    path = scape.path / FOLDER / _UNDER_WAY
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(list(columns)), encoding="utf-8")
    scape.add_columns(ids_of_numbers(audit.ids), columns, overwrite=True)
    scape.annotate(list(columns), _OURS)
    if stale := [name for name in before if name not in columns]:
        scape.drop_columns(stale)
    path.unlink(missing_ok=True)
    return list(columns)


def _columns(scape: Collection, audit: Audit) -> dict[str, Any]:
    n, ids = len(audit), ids_of_numbers(audit.ids)
    stays = np.ones(n, bool)
    stays[audit.kept.removed] = False
    instead, leak = np.full(n, None, object), np.full(n, None, object)
    instead[audit.kept.removed] = ids[audit.kept.in_favor_of]
    columns: dict[str, Any] = {
        "exact_group": _groups(audit.exact),
        "duplicate_group": _groups(audit.groups),
        "duplicate_of": pa.array(instead, pa.string()),
        KEEP: stays,
    }
    if audit.leaks is not None:
        # Of several other splits the nearest copy: the last that is written.
        order = np.argsort(-audit.leaks.distances, kind="stable")
        leak[audit.leaks.rows[order]] = ids[audit.leaks.copies[order]]
        columns["leak"] = pa.array(leak, pa.string())
    for name, values in audit.quality.columns.items():
        columns[name] = values.astype(np.float32) if values.dtype != bool else values
    if audit.outliers is not None:
        columns |= _scored("outlier", _share_as_odd(audit.outliers.score), audit.outliers.rows, audit.outliers.reasons)
    if audit.doubts is not None:
        doubts = audit.doubts
        doubt = np.where(doubts.labels.codes >= 0, 1 - doubts.confidence, np.nan)
        columns |= _scored("label_doubt", doubt, doubts.rows, lambda row: (doubts.reason(row),))
        suggested = np.full(n, None, object)
        for row in np.concatenate([doubts.rows, doubts.suggestions]).tolist():
            suggested[row] = doubts.suggestion_for(row)
        columns["label_suggested"] = pa.array(suggested.tolist(), _type_of(scape, audit))
    if audit.displaced is not None:
        number = np.full(n, -1, np.int64)
        for position, group in enumerate(audit.displaced.groups):
            number[group.rows] = position
        columns["displaced_group"] = pa.array(number, mask=number < 0)
    return columns


def _type_of(scape: Collection, audit: Audit) -> pa.DataType:
    assert audit.settings.label is not None
    return scape.schema.field(audit.settings.label).type


def _groups(groups: Groups) -> pa.Array:
    labels = groups.labels()
    return pa.array(labels, mask=labels < 0)


def _share_as_odd(oddity: np.ndarray) -> np.ndarray:
    """Share of the images that are at least as odd, (n,) in (0, 1]; NaN where nothing is known."""
    known = np.isfinite(oddity)
    ascending = np.sort(oddity[known])
    share = np.full(len(oddity), np.nan)
    share[known] = 1 - np.searchsorted(ascending, oddity[known], side="left") / max(len(ascending), 1)
    return share


def _scored(name: str, score: np.ndarray, rows: np.ndarray, reasons: Any) -> dict[str, Any]:
    found, why = np.zeros(len(score), bool), np.full(len(score), None, object)
    found[rows] = True
    for row in rows.tolist():
        why[row] = "; ".join(reasons(row)) or None
    return {
        f"{name}_score": pa.array(score.astype(np.float32), mask=np.isnan(score)),
        f"is_{name}_issue": found,
        f"{name}_reason": pa.array(why, pa.string()),
    }


def as_dict(audit: Audit) -> dict[str, Any]:
    """All that was found in plain values, images by their ids."""
    ids = ids_of_numbers(audit.ids)

    def listed(groups: Groups) -> list[list[str]]:
        return [ids[rows].tolist() for rows in groups]

    found: dict[str, Any] = {
        "n": len(audit),
        "new": audit.compared,
        "flagged": audit.flagged,
        "features": audit.settings.features,
        "rule": audit.rule,
        "exact_groups": listed(audit.exact),
        "near_groups": listed(audit.groups),
        "remove": ids[audit.kept.removed].tolist(),
        "outliers": [],
        "quality": {str(issue): ids[audit.quality.rows(issue)].tolist() for issue in audit.quality.scores},
        "label_doubts": [],
        "label_suggestions": [],
        "displaced_subgroups": [],
        "leaks": [],
        "missing": list(audit.missing),
    }
    if audit.outliers is not None:
        one = audit.outliers
        found["outliers"] = [
            {"image_id": str(ids[row]), "oddity": float(one.score[row]), "reasons": list(one.reasons(row))}
            for row in one.rows.tolist()
        ]
    if audit.doubts is not None:
        told = audit.doubts.as_dict()
        found["label_doubts"], found["label_suggestions"] = (
            [{"image_id": str(ids[entry.pop("row")]), **entry} for entry in told[kind]]  # type: ignore[attr-defined]
            for kind in ("doubts", "suggestions")
        )
    if audit.displaced is not None:
        found["displaced_subgroups"] = [
            {"image_ids": ids[group.pop("rows")].tolist(), **group, "center": str(ids[group["center"]])}
            for group in audit.displaced.as_dict()["groups"]  # type: ignore[attr-defined]
        ]
    if audit.leaks is not None:
        leaks = audit.leaks
        found["leaks"] = [
            {
                "image_id": str(ids[row]),
                "split": leaks.splits[own],
                "copy": str(ids[copy]),
                "copy_split": leaks.splits[of],
            }
            for row, own, copy, of in zip(
                *(one.tolist() for one in (leaks.rows, leaks.splits_of_rows, leaks.copies, leaks.splits_of_copies)),
                strict=True,
            )
        ]
    return found
