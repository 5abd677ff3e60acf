"""What was done to a collection by hand, one line an act, so that each can be taken back and done again.

`runs/explore/acts.jsonl` is only ever added to. A line is an act with the values before and after, or says that an act
was taken back (`undoes`), done again (`redoes`) or failed (`fails`). It is written before the table is changed: a
process killed between the two leaves an act that changed nothing, and taking that back changes nothing either.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imagescape.collection.locking import storage_errors
from imagescape.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Act:
    """Something a person did.

    Attributes:
        number: From 1.
        text: What it was, such as "tag 3 images 'cat'".
        at: When, in UTC, "2026-11-25T17:40:00Z".
        changed: Rows, or clusters.
        undone: Whether it was taken back since.
    """

    number: int
    text: str
    at: str
    changed: int
    undone: bool = False


@dataclass
class _Entry:
    act: Act
    offset: int  # of its line in the file
    done: bool = True


class Journal:
    """The acts in a file. To be used by one thread at a time; other processes may write to it between two calls.

    Args:
        path: The file; made by the first act.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[int, _Entry] = {}
        self._done: list[int] = []
        self._undone: list[int] = []
        self._offset = 0  # of what was not read yet
        self._last = 0
        self._forgotten: list[int] = []  # what the last act kept from being done again
        self._before: Mapping[str, Any] = {}  # the line before

    def last(self) -> Act | None:
        """The act that would be taken back next."""
        self._look()
        return self._entries[self._done[-1]].act if self._done else None

    def last_undone(self) -> Act | None:
        """The act that would be done again next."""
        self._look()
        return self._entries[self._undone[-1]].act if self._undone else None

    def latest(self, limit: int) -> list[Act]:
        """The latest acts, the last one first."""
        self._look()
        entries = list(self._entries.values())[::-1][:limit]
        return [replace(entry.act, undone=not entry.done) for entry in entries]

    def details(self, number: int) -> dict[str, Any]:
        """All that was written of an act."""
        with self.path.open("rb") as file:
            file.seek(self._entries[number].offset)
            return self._parsed(file.readline())

    def add(self, text: str, changed: int, details: Mapping[str, Any]) -> Act:
        """Write down an act that is about to be done."""
        self._look()
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        act = Act(number=self._last + 1, text=text, at=at, changed=changed)
        self._write({"number": act.number, "at": at, "text": text, "changed": changed, **details})
        return act

    def undo(self, number: int) -> None:
        """Write down that an act is about to be taken back."""
        self._write({"number": self._last + 1, "undoes": number})

    def redo(self, number: int) -> None:
        """Write down that an act is about to be done again."""
        self._write({"number": self._last + 1, "redoes": number})

    def failed(self) -> None:
        """Write down that what was written last was not done after all."""
        self._look()
        self._write({"number": self._last + 1, "fails": self._last})

    def _write(self, entry: Mapping[str, Any]) -> None:
        line = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass") + b"\n"
        with storage_errors(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                if file.tell() != self._offset:  # a line that a killed process did not finish: its act was not done
                    file.truncate(self._offset)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        self._look()

    def _look(self) -> None:
        """Read what was written since the last look."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._take(self._parsed(line))
                self._offset += len(line)

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            entry: dict[str, Any] = json.loads(line)
            entry["number"] += 0  # a number, or this is no line of ours
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"'{self.path}' is damaged; move it away, and a new one is begun") from error
        return entry

    def _take(self, entry: Mapping[str, Any]) -> None:
        number = self._last = entry["number"]
        if "undoes" in entry:
            self._move(entry["undoes"], self._done, self._undone)
        elif "redoes" in entry:
            self._move(entry["redoes"], self._undone, self._done)
        elif "fails" in entry:
            self._fail(entry["fails"])
        else:
            act = Act(**{key: entry[key] for key in ("number", "text", "at", "changed")})
            self._entries[number] = _Entry(act, self._offset)
            self._done.append(number)
            self._forgotten, self._undone = self._undone, []
        self._before = entry

    def _move(self, number: int, source: list[int], target: list[int]) -> None:
        if number in source:
            source.remove(number)
            target.append(number)
            self._entries[number].done = target is self._done

    def _fail(self, number: int) -> None:
        """The line before did not happen: it was an act, or a step between the two stacks, which goes back."""
        if number in self._entries:
            self._done.remove(number)
            del self._entries[number]
            self._undone = self._forgotten
        elif "undoes" in self._before:
            self._move(self._before["undoes"], self._undone, self._done)
        elif "redoes" in self._before:
            self._move(self._before["redoes"], self._done, self._undone)
