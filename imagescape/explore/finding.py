"""Looking for images: by a condition, a name, a text, a picture, and by what lies beside one."""

import re
import threading
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from imagescape.collection.results import feature_names
from imagescape.collection.vectors import numbers_of
from imagescape.errors import InputError
from imagescape.explore.conditions import MOST_SIGNS, check_condition
from imagescape.explore.explorer import Explorer, Missing, number_of
from imagescape.explore.order import Order
from imagescape.explore.pictures import name_of
from imagescape.features.text import TextEncoder
from imagescape.images.decode import DEFAULT_MAX_PIXELS, decode
from imagescape.pipeline.queries import Placer, text_encoder_of, text_problem
from imagescape.pipeline.similarity import Searcher
from imagescape.search.index import Found

MOST_HITS = 1000
_PROMPTS = ("{}", "a photo of a {}.", "a picture of {}.")  # whose mean tells more than the text alone
_SEARCHERS = 2  # held at a time: each holds all vectors of its features


class NotAnImage(InputError):
    """What was sent holds no picture that can be read."""


class TooManyPixels(InputError):
    """What was sent is a picture of more pixels than are decoded."""


class CannotDo(InputError):
    """These features, this map cannot do that."""


class Finder:
    """Searches of one collection. Networks and vectors are loaded when they are needed first; one query at a time.

    Args:
        explorer: Of the collection.
    """

    def __init__(self, explorer: Explorer) -> None:
        self._explorer = explorer
        self._lock = threading.Lock()
        self._searchers: dict[str, tuple[str, Searcher]] = {}
        self._texts: dict[str, TextEncoder] = {}
        self._placers: dict[str, tuple[str, Placer]] = {}

    # -- without vectors ----------------------------------------------------------------------------------------------

    def where(self, order: Order, condition: str) -> np.ndarray:
        """Rows (m,) uint32 of the images that meet an SQL condition; InputError where it makes no sense."""
        check_condition(condition)
        try:
            found = self._explorer.scape.read(["image_id"], where=condition)
        except InputError:
            raise
        except (OSError, ValueError, RuntimeError) as error:  # found out while it was worked out, as 1 / 0 is
            reason = re.sub(r",? /\S+\.rs:\d+:\d+", "", str(error)).partition("\n")[0]
            raise InputError(f"the condition cannot be worked out: {reason[:300]}") from error
        return _known(order.rows_of(numbers_of(found["image_id"])))

    def named(self, order: Order, text: str, limit: int) -> np.ndarray:
        """Rows (m,) uint32 of the images whose name holds a text, whatever the case; the first `limit` of the order."""
        if not text or len(text) > MOST_SIGNS:
            raise InputError(f"a part of a name has 1 to {MOST_SIGNS} signs, got {len(text)}")
        uris = order.read(self._explorer.scape, ["uri"])["uri"]
        rows = np.arange(len(order))
        if " " not in text:  # then the name holds it only where the uri does, and few of them have to be taken apart
            rows = np.flatnonzero(pc.match_substring(uris, text, ignore_case=True).fill_null(False).to_numpy())
            uris = uris.take(pa.array(rows))
        called = pc.replace_substring(pc.replace_substring_regex(uris, r"^(?s:.*)/", ""), "#row=", " ")
        found = pc.match_substring(called, text, ignore_case=True).fill_null(False).to_numpy()
        return rows[found][:limit].astype(np.uint32)

    def beside(self, order: Order, image_id: str, map_name: str, k: int) -> list[dict[str, Any]]:
        """The k images nearest to one on a map; CannotDo where it is not on it."""
        coords = self._explorer.coords(order, map_name)
        row = int(order.rows_of(number_of(image_id))[0])
        if row < 0 or not np.isfinite(coords[row, 0]):
            raise CannotDo(f"the image is not on the map '{map_name}'")
        return self._near(order, coords, coords[row], k, leave_out=row)

    def _near(
        self, order: Order, coords: np.ndarray, place: np.ndarray, k: int, leave_out: int = -1
    ) -> list[dict[str, Any]]:
        away = np.square(coords - place).sum(axis=1)
        if leave_out >= 0:
            away[leave_out] = np.nan
        count = min(k, int(np.isfinite(away).sum()))
        nearest = np.argpartition(away, count - 1)[:count] if count else np.empty(0, np.int64)  # NaN sorts last
        nearest = nearest[np.argsort(away[nearest], kind="stable")]
        found = Found(order.numbers[nearest][None], np.sqrt(away[nearest])[None])
        return self._hits(order, found)

    # -- by vectors ---------------------------------------------------------------------------------------------------

    def neighbors(self, order: Order, image_id: str, features: str, k: int) -> tuple[str | None, list[dict[str, Any]]]:
        """The k images most like one, by the graph in the table where it has as many, else by a search.

        Returns:
            The metric, None where the graph does not say, and the hits.

        Raises:
            Missing: no such image or features.
            CannotDo: the image has no such features.
        """
        self._check(features)
        graph = [f"neighbors_{features}", f"distances_{features}"]
        columns = self._explorer.scape.columns
        if all(one in columns for one in graph):
            row = self._explorer.row(image_id, graph)
            ids, distances = (row[one][0].as_py() for one in graph)
            if ids is not None and distances is not None and len(ids) >= k:
                numbers = numbers_of(np.array(ids[:k], "U16"))
                return None, self._hits(order, Found(numbers[None], np.array([distances[:k]])))
        with self._lock:
            searcher = self._searcher(features)
            number = number_of(image_id)
            if number[0] not in searcher.ids:
                self._explorer.row(image_id, [])
                raise CannotDo(f"the image has no features '{features}'")
            return searcher.metric, self._hits(order, searcher.neighbors_of([image_id], k))

    def by_text(self, order: Order, text: str, features: str, k: int) -> dict[str, Any]:
        """The k images that fit a text best.

        Raises:
            CannotDo: the features are of an encoder without a text side.
        """
        self._check(features)
        if not text.strip() or len(text) > MOST_SIGNS:
            raise InputError(f"a text to look for has 1 to {MOST_SIGNS} signs, got {len(text)}")
        if problem := text_problem(self._explorer.scape, features):
            raise CannotDo(problem)
        with self._lock:
            searcher = self._searcher(features)
            if features not in self._texts:
                self._texts = {features: text_encoder_of(self._explorer.scape, features, self._explorer.device)}
            vectors = self._texts[features].encode_words([text.strip()], _PROMPTS)
            found = searcher.search(vectors.astype(np.float32), k)
            return {"features": features, "metric": searcher.metric, "hits": self._hits(order, found)}

    def by_picture(self, order: Order, content: bytes, features: str, k: int) -> dict[str, Any]:
        """The k images most like a picture, encoded as those of the table were.

        Raises:
            NotAnImage: the bytes hold none.
        """
        self._check(features)
        with self._lock:
            searcher = self._searcher(features)
            picture, about = _decoded(content, searcher.encoder.at_least_px)
            found = searcher.search(searcher.encode([picture]), k)
            hits = self._hits(order, found)
        return {"features": features, "metric": searcher.metric, "hits": hits, "image": about}

    def place(self, order: Order, content: bytes, map_name: str, k: int) -> dict[str, Any]:
        """Where a picture is on a map, and the k images that are nearest to it there; nothing is written.

        Raises:
            NotAnImage: the bytes hold no picture.
            CannotDo: nothing new can be put on this map.
        """
        written = self._explorer.map_written(map_name)
        with self._lock:
            if self._placers.get(map_name, ("", None))[0] != written:
                try:
                    self._placers = {map_name: (written, Placer(self._explorer.scape, map_name, self._explorer.device))}
                except InputError as error:
                    raise CannotDo(str(error)) from error
            placer = self._placers[map_name][1]
            picture, about = _decoded(content, placer.at_least_px)
            place = placer.place(picture)
        near = self._near(order, self._explorer.coords(order, map_name), place, k)
        x, y = place.tolist()
        return {"map": map_name, "features": placer.features, "x": x, "y": y, "hits": near, "image": about}

    def _searcher(self, features: str) -> Searcher:
        """The vectors of features as they are now, ready to be searched; to be called by one thread at a time."""
        written = self._explorer.features_written(features)
        if self._searchers.get(features, ("", None))[0] != written:
            self._searchers.pop(features, None)
            while len(self._searchers) >= _SEARCHERS:
                self._searchers.pop(next(iter(self._searchers)))
            about = self._explorer
            searcher = Searcher(about.scape, features, engine=about.engine, device=about.device)
            self._searchers[features] = written, searcher
        return self._searchers[features][1]

    def _check(self, features: str) -> None:
        here = feature_names(self._explorer.scape)
        if features not in here:
            raise Missing(f"no features are called '{features}'; there are: {', '.join(here) or 'none yet'}")

    def _hits(self, order: Order, found: Found) -> list[dict[str, Any]]:
        numbers = found.ids[0][found.ids[0] != -1]
        rows = self._explorer.take(np.unique(numbers), ["uri"])
        ids, uris = rows["image_id"], rows["uri"].to_pylist()
        called = dict(zip(numbers_of(ids).tolist(), zip(ids.to_pylist(), map(name_of, uris), strict=True), strict=True))
        places = order.rows_of(found.ids[0]).tolist()
        return [
            {"row": row if row >= 0 else None, "id": called[number][0], "distance": near, "name": called[number][1]}
            for number, near, row in zip(found.ids[0].tolist(), found.distances[0].tolist(), places, strict=True)
            if number in called
        ]


def rows_table(rows: np.ndarray) -> pa.Table:
    """Rows as one Arrow column `row`."""
    return pa.table({"row": pa.array(rows, pa.uint32())})


def _known(rows: np.ndarray) -> np.ndarray:
    return np.sort(rows[rows >= 0]).astype(np.uint32)


def _decoded(content: bytes, at_least_px: int | None) -> tuple[Image.Image, dict[str, Any]]:
    """The picture in an upload and what it is, by the way of ingest: bounded in pixels, whatever the bytes are."""
    result = decode(content, max_pixels=DEFAULT_MAX_PIXELS, at_least_px=at_least_px)
    if result.image is None:
        problem = f"this is no image that can be read: {result.reason}"
        raise TooManyPixels(problem) if result.status == "too_large" else NotAnImage(problem)
    return result.image, {"width": result.width, "height": result.height, "format": result.format}
