"""What a page changes: tags, marks, notes, labels, names of clusters; and what it takes away: files of a selection."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from imagescape.errors import InputError
from imagescape.explore.about import undo_state
from imagescape.explore.answers import Refused, attachment
from imagescape.explore.downloads import Download, download
from imagescape.explore.explorer import Missing
from imagescape.explore.routes.call import Call, get, send
from imagescape.pipeline.journal import Act

_KEEP_SECONDS = 600.0
_MOST_DOWNLOADS = 16


def routes(selection: "Selection") -> list[BaseRoute]:
    """The addresses."""
    downloads = Downloads()
    return [
        send("/api/acts", _act),
        get("/api/acts", _acts),
        send("/api/undo", lambda call: _done(call, lambda: call.explorer.annotations.undo())),
        send("/api/redo", lambda call: _done(call, lambda: call.explorer.annotations.redo())),
        send("/api/export", downloads.ask),
        get("/api/export/{key}", downloads.fetch),
        get("/api/selection", lambda call: selection.as_dict()),
        send("/api/selection", selection.put, method="PUT"),
    ]


class Selection:
    """What is selected in the page, for Python to ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: list[str] = []
        self._number = 0

    def as_dict(self) -> dict[str, Any]:
        with self._lock:
            return {"ids": list(self._ids), "number": self._number}

    def put(self, call: Call) -> dict[str, Any]:
        ids = call.ids()
        call.numbers()
        with self._lock:
            self._ids, self._number = ids, self._number + 1
            return {"number": self._number, "count": len(ids)}


class Downloads:
    """Files that were asked for and not fetched yet, each under a key that cannot be guessed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, tuple[float, Download]] = OrderedDict()

    def ask(self, call: Call) -> dict[str, Any]:
        asked = call.json()
        columns = asked.get("columns")
        if columns is not None and not (isinstance(columns, list) and all(isinstance(one, str) for one in columns)):
            raise InputError("'columns' must be a list of names, or null for all")
        wanted = download(call.explorer, call.numbers(), asked.get("format", ""), columns)
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._waiting[key] = time.monotonic(), wanted
            while len(self._waiting) > _MOST_DOWNLOADS:
                self._waiting.popitem(last=False)
        return {"url": f"api/export/{key}", "filename": wanted.filename, "count": len(wanted.numbers)}

    def fetch(self, call: Call) -> Response:
        with self._lock:
            asked_at, wanted = self._waiting.get(call.path("key"), (0.0, None))
        if wanted is None or time.monotonic() - asked_at > _KEEP_SECONDS:
            raise Missing("this file is not kept any more; export the selection again")
        return attachment(wanted.filename, wanted.media_type, wanted.chunks(call.explorer))


def _act(call: Call) -> dict[str, Any]:
    asked = call.json()
    annotations, ids = call.explorer.annotations, call.ids

    def rename() -> Act | None:
        cluster, name = asked.get("cluster"), asked.get("name")
        if not isinstance(cluster, int) or isinstance(cluster, bool) or not (name is None or isinstance(name, str)):
            raise InputError("a cluster is a whole number, and its name a text or null")
        return annotations.rename(_text(asked, "clustering"), cluster, name)

    kinds: dict[str, Callable[[], Act | None]] = {
        "tag": lambda: annotations.tag(ids(), _text(asked, "tag")),
        "untag": lambda: annotations.untag(ids(), _text(asked, "tag")),
        "mark": lambda: annotations.mark(ids(), asked.get("mark")),
        "note": lambda: annotations.note(ids(), _text(asked, "note")),
        "set": lambda: annotations.set_class(ids(), _text(asked, "column"), asked.get("value")),
        "rename": rename,
    }
    kind = asked.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        raise InputError(f"'kind' of an act must be one of {', '.join(kinds)}, got {str(kind)[:40]!r}")
    return _done(call, kinds[kind])


def _done(call: Call, act: Callable[[], Act | None]) -> dict[str, Any]:
    if call.explorer.is_read_only:
        raise Refused(403, "read_only", "nothing can be changed here")
    done = act()
    told = None if done is None else {"number": done.number, "text": done.text, "changed": done.changed}
    return {"act": told, "version": call.explorer.scape.version, **undo_state(call.explorer)}


def _acts(call: Call) -> dict[str, Any]:
    limit = call.integer("limit", 100, least=1, most=10_000)
    return {"acts": [asdict(act) for act in call.explorer.annotations.latest(limit)]}


def _text(asked: dict[str, Any], name: str) -> str:
    value = asked.get(name)
    if not isinstance(value, str):
        raise InputError(f"'{name}' must be a text, got {type(value).__name__}")
    return value
