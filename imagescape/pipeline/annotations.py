"""What persons say of images: tags, marks, notes, labels, names of clusters; each act can be taken back exactly.

Tags are in the column `tags` (a list of text, sorted), marks in `mark` ("keep" or "remove"), notes in `note`; a
cluster's name is where `imagescape name` keeps it. See `journal` for how acts are written down.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from pyarrow import types

from imagescape.collection.clusterings import clustering_columns, clustering_names
from imagescape.collection.columns import RESERVED, as_ids
from imagescape.collection.locking import exclusive
from imagescape.collection.results import columns_of, feature_names, is_class_column, map_names
from imagescape.collection.store import Collection
from imagescape.errors import ImagescapeError, InputError
from imagescape.pipeline.audit_results import audit_columns
from imagescape.pipeline.journal import Act, Journal
from imagescape.pipeline.names_record import checked_name
from imagescape.pipeline.naming import person_names, rename_clusters

TAGS, MARK, NOTE = "tags", "mark", "note"
MARKS = ("keep", "remove")
TYPES = {TAGS: pa.list_(pa.string()), MARK: pa.string(), NOTE: pa.string()}
"""The columns of annotations, which the first of them makes."""

MOST_SIGNS = 2000  # of a text


class ChangedSince(ImagescapeError):
    """What an act set was set otherwise by another program, and would be lost."""


class Annotations:
    """The annotations of a collection, and the acts that made them. Safe to use from many threads and processes."""

    def __init__(self, scape: Collection) -> None:
        self._scape = scape
        self._journal = Journal(scape.path / "runs" / "explore" / "acts.jsonl")
        self._thread = threading.Lock()

    def tag(self, image_ids: Sequence[str], tag: str) -> Act | None:
        """Add a tag to images; what was done, or None if all have it already. So of all acts.

        Raises:
            InputError: an image is not in the collection, or the text cannot be a tag.
        """
        tag = _text(tag, "a tag")
        if not tag:
            raise InputError("a tag must not be empty")

        def with_tag(tags: list[str] | None) -> list[str]:
            return tags if tags and tag in tags else sorted({*(tags or ()), tag})

        return self._set(image_ids, TAGS, TYPES[TAGS], with_tag, lambda images: f"tag {images} '{tag}'")

    def untag(self, image_ids: Sequence[str], tag: str) -> Act | None:
        """Take a tag away from images."""
        tag = _text(tag, "a tag")

        def without(tags: list[str] | None) -> list[str] | None:
            return tags if not tags or tag not in tags else [one for one in tags if one != tag] or None

        return self._set(image_ids, TAGS, TYPES[TAGS], without, lambda images: f"untag {images} '{tag}'")

    def mark(self, image_ids: Sequence[str], mark: str | None) -> Act | None:
        """Mark images as "keep" or "remove"; None takes the mark away. Nothing is removed by that."""
        if mark is not None and mark not in MARKS:
            raise InputError(f"a mark is one of {', '.join(MARKS)}, or null for none, got {mark!r}")
        return self._set(
            image_ids,
            MARK,
            TYPES[MARK],
            lambda _: mark,
            lambda images: f"mark {images} '{mark}'" if mark else f"unmark {images}",
        )

    def note(self, image_ids: Sequence[str], note: str) -> Act | None:
        """Write a note to images; "" takes it away."""
        note = _text(note, "a note", lines=True)
        said = "note on" if note else "no note on"
        return self._set(image_ids, NOTE, TYPES[NOTE], lambda _: note or None, lambda images: f"{said} {images}")

    def set_class(self, image_ids: Sequence[str], column: str, value: str | int | bool | None) -> Act | None:
        """Set a class of the user's own, such as a label; None for none.

        Raises:
            InputError: the column holds no classes, or a step made it; the value is of another type.
        """
        self._check_own(column)
        kind = self._scape.schema.field(column).type
        if isinstance(value, str):
            value = _text(value, "a class")
        if value is not None and not _fits(value, kind):
            raise InputError(f"column '{column}' holds {kind}, got {value!r}")
        return self._set(
            image_ids, column, kind, lambda _: value, lambda images: f"set {column} of {images} to {value!r}"
        )

    def rename(self, clustering: str, cluster: int, name: str | None) -> Act | None:
        """Name a cluster; "" says that it has no name, None forgets what was said.

        Raises:
            InputError: no such clustering or cluster.
        """
        name = None if name is None else _text(checked_name(name, f"cluster {cluster}"), "a name")
        with self._alone(f"naming cluster {cluster}"):
            before = person_names(self._scape, clustering)
            if cluster not in before:
                raise InputError(f"the clustering '{clustering}' has no cluster {cluster}")
            if before[cluster] == name:
                return None
            said = (
                f"name cluster {cluster} of {clustering} '{name}'"
                if name
                else f"unname cluster {cluster} of {clustering}"
            )
            details = {"clustering": clustering, "cluster": cluster, "before": before[cluster], "after": name}
            act = self._journal.add(said, 1, details)
            with self._or_failed():
                rename_clusters(self._scape, clustering, {cluster: name})
            return act

    def undo(self) -> Act | None:
        """Take the last act back that was not taken back; None if there is none.

        Raises:
            ChangedSince: another program changed what the act had set; nothing is changed.
        """
        with self._alone("undoing"):
            act = self._journal.last()
            if act is not None:
                self._turn(act, "after", "before", self._journal.undo)
            return act

    def redo(self) -> Act | None:
        """Do the act again that was taken back last; None if there is none, or another act was done since.

        Raises:
            ChangedSince: another program changed what the act would set; nothing is changed.
        """
        with self._alone("redoing"):
            act = self._journal.last_undone()
            if act is not None:
                self._turn(act, "before", "after", self._journal.redo)
            return act

    def last(self) -> Act | None:
        """What `undo` would take back."""
        with self._thread:
            return self._journal.last()

    def last_undone(self) -> Act | None:
        """What `redo` would do again."""
        with self._thread:
            return self._journal.last_undone()

    def latest(self, limit: int = 100) -> list[Act]:
        """The latest acts, the last one first."""
        with self._thread:
            return self._journal.latest(limit)

    @contextmanager
    def _alone(self, doing: str) -> Iterator[None]:
        folder = self._journal.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive(folder / "lock", doing), self._thread:
            yield

    @contextmanager
    def _or_failed(self) -> Iterator[None]:
        """Write down that the act failed if its change of the table does."""
        try:
            yield
        except Exception:
            self._journal.failed()
            raise

    def _set(
        self,
        image_ids: Sequence[str],
        column: str,
        type: pa.DataType,
        new: Callable[[Any], Any],
        said: Callable[[str], str],
    ) -> Act | None:
        """Set `new(value)` in a column; `said("3 images")` tells what was done."""
        ids = as_ids(image_ids)
        act: Act | None = None

        def change(rows: pa.Table) -> dict[str, Any] | None:
            nonlocal act
            before = rows[column].to_pylist()
            after = [new(value) for value in before]
            changes = _grouped(rows["image_id"].to_pylist(), before, after)
            if not changes:
                return None
            count = sum(len(one["ids"]) for one in changes)
            if act is not None:  # a foreign writer came between, and what was there before is another thing now
                self._journal.failed()
            act = self._journal.add(said(_images(count)), count, {"column": column, "changes": changes})
            return {column: after}

        with self._alone("annotating"):
            try:
                self._scape.revise(ids, {column: type}, change)
            except Exception:
                if act is not None:
                    self._journal.failed()
                raise
            return act

    def _turn(self, act: Act, now: str, then: str, record: Callable[[int], None]) -> None:
        """Set what an act changed from one side to the other."""
        details = self._journal.details(act.number)
        if "clustering" in details:
            self._turn_name(act, details, now, then, record)
            return
        column = details["column"]
        if column not in self._scape.columns:
            raise ChangedSince(f"the column '{column}' is gone, in which was done: {act.text}")
        kind = self._scape.schema.field(column).type
        expected = {one: change[now] for change in details["changes"] for one in change["ids"]}
        target = {one: change[then] for change in details["changes"] for one in change["ids"]}
        here = [one for one in self._scape.read(["image_id"])["image_id"].to_pylist() if one in target]
        recorded = False

        def change(rows: pa.Table) -> dict[str, Any] | None:
            nonlocal recorded
            ids, values = rows["image_id"].to_pylist(), rows[column].to_pylist()
            done = values == [target[one] for one in ids]  # by a process that was killed before it set them
            if not done and (other := sum(value != expected[one] for one, value in zip(ids, values, strict=True))):
                raise ChangedSince(
                    f"{_images(other)} of '{act.text}' were changed by another program since; change them by hand"
                )
            if not recorded:
                record(act.number)
                recorded = True
            return None if done else {column: [target[one] for one in ids]}

        try:
            self._scape.revise(here, {column: kind}, change)
        except Exception:
            if recorded:
                self._journal.failed()
            raise

    def _turn_name(self, act: Act, details: dict[str, Any], now: str, then: str, record: Callable[[int], None]) -> None:
        clustering, cluster = details["clustering"], details["cluster"]
        names = person_names(self._scape, clustering) if clustering in clustering_names(self._scape) else {}
        if cluster not in names or names[cluster] not in (details[now], details[then]):
            raise ChangedSince(f"what '{act.text}' named was named or clustered otherwise since; name it by hand")
        record(act.number)
        if names[cluster] != details[then]:
            with self._or_failed():
                rename_clusters(self._scape, clustering, {cluster: details[then]})

    def _check_own(self, column: str) -> None:
        scape = self._scape
        if column not in scape.columns or not is_class_column(scape, column):
            raise InputError(f"no column of classes is called '{column}'; classes are text, whole numbers or booleans")
        made = {one for name in (*map_names(scape), *feature_names(scape)) for one in columns_of(scape, name)}
        made.update(audit_columns(scape), *(clustering_columns(scape, name) for name in clustering_names(scape)))
        if column in RESERVED | set(TYPES) | made:
            raise InputError(f"'{column}' is a column that imagescape made; only your own ones can be set")


def _text(text: object, what: str, *, lines: bool = False) -> str:
    if not isinstance(text, str):
        raise InputError(f"{what} is a text, got {type(text).__name__}")
    text = checked_name(text, what)
    if len(text) > MOST_SIGNS:
        raise InputError(f"{what} has at most {MOST_SIGNS} signs, got {len(text)}")
    if not lines and text.replace("\t", " ").splitlines() not in ([], [text.replace("\t", " ")]):
        raise InputError(f"{what} is one line, got {len(text.splitlines())}")
    return text


def _fits(value: str | int | bool, kind: pa.DataType) -> bool:
    if isinstance(value, bool) or types.is_boolean(kind):
        return isinstance(value, bool) and types.is_boolean(kind)
    return types.is_integer(kind) if isinstance(value, int) else isinstance(value, str) and types.is_string(kind)


def _images(count: int) -> str:
    return f"{count:,} image{'s' if count != 1 else ''}"


def _grouped(ids: list[str], before: list[Any], after: list[Any]) -> list[dict[str, Any]]:
    """What changed, images of the same change together."""
    groups: dict[str, dict[str, Any]] = {}
    members: defaultdict[str, list[str]] = defaultdict(list)
    for image_id, old, new in zip(ids, before, after, strict=True):
        if old != new:
            key = repr((old, new))
            groups.setdefault(key, {"before": old, "after": new})
            members[key].append(image_id)
    return [{**change, "ids": members[key]} for key, change in groups.items()]
