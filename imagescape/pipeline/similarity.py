"""`search` and `neighbors`: which images are like this one."""

import json
import logging
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast, get_args

import numpy as np
import pyarrow as pa
from PIL import Image

from imagescape.collection.locking import exclusive
from imagescape.collection.ordered import ordered_map
from imagescape.collection.readers import open_source
from imagescape.collection.results import features_identity, last_features
from imagescape.collection.store import Collection
from imagescape.collection.vectors import Places, Vectors, ids_of_numbers, numbers_of
from imagescape.errors import InputError
from imagescape.features.extract import ImageEncoder
from imagescape.images.decode import Decoded, decode, read_file
from imagescape.learn.encoder import Encoder
from imagescape.pipeline.embedding import encoder_of
from imagescape.runtime import track, worker_count
from imagescape.search.exact import ExactIndex
from imagescape.search.index import Found, Index, Metric, build_index, load_index

# Stored halves are searched as float32 where that is no more than this: nothing is converted for each query again.
_FLOAT32_BYTES = 2 << 30

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hit:
    """One image that was found.

    Attributes:
        image_id, uri: Of the image.
        distance: From the query, in the metric of the search; smaller is closer.
    """

    image_id: str
    uri: str
    distance: float


class Searcher:
    """The images of a collection, held ready to be searched.

    Args:
        scape: The collection.
        name: Of the features; None: the last that were made.
        engine: "exact", a FAISS factory string, "binary" or "lance"; see `search.index`. All but "exact" are built
            once and kept in `indexes/` of the collection.
        metric: None: "hamming" for hashes, else "cosine".
        search_width: How much an approximate engine looks through; None: its own default.
        center: Measure from the mean of the collection's vectors. What all images share then counts for nothing,
            which makes angles tell more: networks whose features are all positive see every image in a narrow cone.
        encoder: What made the features, where that is a module of the user's own, which no folder can bring back.
        device: Where networks and exact search run.

    Raises:
        InputError: no such features, or the engine cannot do this.
    """

    def __init__(
        self,
        scape: Collection,
        name: str | None = None,
        *,
        engine: str = "exact",
        metric: Metric | None = None,
        search_width: int | None = None,
        center: bool = False,
        encoder: Encoder | None = None,
        device: str = "auto",
    ) -> None:
        self._own_encoder = encoder
        self.scape, self.name = scape, name or last_features(scape)
        self._vectors = Vectors(scape, self.name)
        self.ids = self._vectors.ids
        self.metric: Metric = metric or ("hamming" if self._vectors.dtype == np.uint8 else "cosine")
        if center and self.metric == "hamming":
            raise InputError(f"'{self.name}' are hashes: bits have no mean to measure from; leave the centring out")
        self.device = device
        self._center: np.ndarray | None = None
        self._visible: np.ndarray | None = None
        self._indexes = self._open(engine, center)
        if search_width is not None:
            self._indexes[0].search_width = search_width

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def encoder(self) -> ImageEncoder:
        """What made the features, and makes those of queries; see `encoder_of`."""
        return encoder_of(self.scape, self.name, self.device, own=self._own_encoder)

    def search(self, queries: np.ndarray, k: int = 10, *, where: str | None = None) -> Found:
        """The k nearest images to each query vector.

        Args:
            queries: (m, d), made by `encoder`.
            k: Images a query; all there are where that is fewer.
            where: Among these images only, an SQL condition such as "label = 'cat'".

        Raises:
            InputError: no image meets the condition, the vectors are of another width, or k < 1.
        """
        return self._find(self._moved(queries), k, None if where is None else self._among(where))

    def neighbors_of(self, image_ids: Sequence[str], k: int = 10, *, where: str | None = None) -> Found:
        """The k nearest other images to images of the collection itself; errors as `search`.

        Raises:
            InputError: an id is not in the collection, or its image has no features.
        """
        wanted = numbers_of(np.array(image_ids, "U16"))
        order = np.argsort(self.ids)
        places = np.searchsorted(self.ids, wanted, sorter=order)
        rows = order[np.minimum(places, len(order) - 1)]
        if (wrong := self.ids[rows] != wanted).any():
            raise InputError(f"no image with features '{self.name}' has the id {image_ids[int(wrong.argmax())]}")
        among = None if where is None else self._among(where)
        found = self._find(self._values[rows], k + 1, among)
        return without_own(found, wanted, found.ids.shape[1] - 1)

    def graph(self, k: int) -> Found:
        """The k nearest other images to every image, in the order of `ids`."""
        n, step = len(self), 4096
        parts = []
        with track("neighbors", n) as progress:
            if isinstance(self._indexes[0], ExactIndex):  # then it is the only one, just built in this order
                return self._indexes[0].graph(k, progress.advance)
            for start in range(0, n, step):
                rows = slice(start, start + step)
                found = self._find(self._values[rows], k + 1, None)
                parts.append(without_own(found, self.ids[rows], k))
                progress.advance(min(step, n - start))
        ids, distances = (np.concatenate([getattr(part, side) for part in parts]) for side in ("ids", "distances"))
        return Found(ids, distances)

    def encode(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Vectors (m, d) of pictures, as those of the collection were made."""
        return self._encode([self.encoder.prepare(image) for image in images])

    def encode_files(self, paths: Sequence[Path]) -> tuple[np.ndarray, dict[Path, str]]:
        """Vectors (m, d) of the files that hold an image, in order; and of those that do not, why.

        Decoded on all cores, encoded a batch at a time.
        """

        def prepare(path: Path) -> np.ndarray | str:
            content = read_file(path)
            result = content if isinstance(content, Decoded) else decode(content, at_least_px=self.encoder.at_least_px)
            return result.reason if result.image is None else self.encoder.prepare(result.image)

        bad: dict[Path, str] = {}
        parts: list[np.ndarray] = []
        batch: list[np.ndarray] = []
        with ThreadPoolExecutor(worker_count() + 1) as pool, track("encode queries", len(paths)) as progress:
            prepared = ordered_map(pool, prepare, paths, in_flight=4 * worker_count() + 4)
            for path, result in zip(paths, prepared, strict=True):
                if isinstance(result, str):
                    bad[path] = result
                else:
                    batch.append(result)
                if len(batch) == self.encoder.batch_size:
                    parts.append(self._encode(batch))
                    batch = []
                progress.advance()
        parts.append(self._encode(batch))
        return np.concatenate(parts), bad

    def _encode(self, prepared: list[np.ndarray]) -> np.ndarray:
        if not prepared:
            return np.empty((0, self.encoder.out_features), self.encoder.dtype)
        return self.encoder.encode(np.stack(prepared)).cpu().numpy()

    def hits(self, found: Found) -> list[list[Hit]]:
        """What was found, as rows to read; one list a query, nearest first."""
        rows = self.places.take(np.unique(found.ids[found.ids != -1]), ["uri"])
        numbers = numbers_of(rows["image_id"].to_numpy()).tolist()
        texts = zip(rows["image_id"].to_pylist(), rows["uri"].to_pylist(), strict=True)
        named: dict[int, tuple[str, str]] = dict(zip(numbers, texts, strict=True))
        return [
            [Hit(*named[number], near) for number, near in zip(ids, distances, strict=True) if number in named]
            for ids, distances in zip(found.ids.tolist(), found.distances.tolist(), strict=True)
        ]

    @cached_property
    def places(self) -> Places:
        """Where the images are in the table."""
        return Places(self.scape)

    @cached_property
    def _values(self) -> np.ndarray:
        values = self._moved(self._vectors.values())
        is_half = values.dtype == np.float16 and 2 * values.nbytes <= _FLOAT32_BYTES
        return values.astype(np.float32) if is_half else values

    def _moved(self, values: np.ndarray) -> np.ndarray:
        return values if self._center is None else values.astype(np.float32) - self._center

    def _find(self, queries: np.ndarray, k: int, among: np.ndarray | None) -> Found:
        return _search_all(self._indexes, queries, k, self._visible if among is None else among)

    def _open(self, engine: str, center: bool) -> list[Index]:
        """The index over the images; and where it is older than the table, an exact one over the rest."""

        def build(rows: np.ndarray | slice, engine: str) -> Index:
            return build_index(
                self._values[rows], self.ids[rows], engine=engine, metric=self.metric, device=self.device
            )

        if engine == "exact":
            self._center = self._vectors.mean() if center else None
            return [build(slice(None), engine)]
        called = f"{re.sub('[^A-Za-z0-9]+', '-', engine)}-{self.metric}{'-centered' if center else ''}"
        folder = self.scape.path / "indexes" / self.name / called
        token, mark = features_identity(self.scape, self.name).get("written", ""), folder / "built.json"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(folder.parent / "lock", f"building the index '{engine}'"):
            built = json.loads(mark.read_text(encoding="utf-8")) if mark.exists() else {}
            if built.get("written") != token:
                if built:
                    _log.warning(
                        "features '%s' were made anew since their index was built: building it again", self.name
                    )
                self._center = self._vectors.mean() if center else None
                with track(f"build {engine}", len(self)) as progress:
                    index = build(slice(None), engine)
                    progress.advance(len(self))
                mark.unlink(missing_ok=True)
                index.save(folder)
                where = None if self._center is None else self._center.tolist()
                mark.write_text(json.dumps({"written": token, "engine": engine, "center": where}), encoding="utf-8")
                return [index]
        self._center = None if built["center"] is None else np.array(built["center"], np.float32)
        index = load_index(folder)
        known = index.ids()
        # What is gone from the table is not searched among; the index on disk stays as it is, for others use it too.
        self._visible = self.ids if len(np.setdiff1d(known, self.ids)) else None
        if not len(new := np.flatnonzero(~np.isin(self.ids, known))):
            return [index]
        _log.warning(
            "the index '%s' is older than the table: the %d images it lacks are searched exactly; "
            "delete %s to have it built again",
            *(engine, len(new), folder),
        )
        return [index, build(new, "exact")]

    def _among(self, where: str) -> np.ndarray:
        among = np.intersect1d(self._vectors.ids_where(where), self.ids)  # not what was added since this was opened
        if not len(among):
            raise InputError(f"no image with features '{self.name}' meets the condition \"{where}\"")
        return among


def neighbors(
    scape: Collection,
    name: str | None = None,
    *,
    k: int = 15,
    engine: str = "exact",
    metric: Metric | None = None,
    search_width: int | None = None,
    center: bool = False,
    overwrite: bool = False,
    device: str = "auto",
) -> tuple[str, int, int]:
    """Write the k-NN graph of the features `name`: columns `neighbors_<name>` (image ids) and `distances_<name>`.

    No image is its own neighbour; identical twins are. Arguments as for `Searcher`.

    Returns:
        The features' name, the number of images, and the neighbours each has.

    Raises:
        InputError: the graph is there and `overwrite` is not set; fewer than two images; as `Searcher`.
    """
    name = name or last_features(scape)
    if not overwrite and f"neighbors_{name}" in scape.columns:
        raise InputError(f"'{scape.path.name}' has neighbors_{name} already; --overwrite them")
    searcher = Searcher(
        scape, name, engine=engine, metric=metric, search_width=search_width, center=center, device=device
    )
    if len(searcher) < 2:
        raise InputError(f"neighbours need two images or more, '{scape.path}' has {len(searcher)} with '{name}'")
    if k < 1:
        raise InputError(f"k must be 1 or more, got {k}")
    k = min(k, len(searcher) - 1)
    found = searcher.graph(k)
    ids = ids_of_numbers(searcher.ids)
    graph = pa.array(ids_of_numbers(found.ids.reshape(-1)))
    offsets = pa.array(np.arange(0, len(ids) * k + 1, k, dtype=np.int32))
    columns = {f"neighbors_{name}": pa.ListArray.from_arrays(offsets, graph), f"distances_{name}": found.distances}
    scape.add_columns(ids, columns, overwrite=True)
    return name, len(ids), k


@dataclass(frozen=True, slots=True)
class Answers:
    """What was found for a query or a folder of them.

    Attributes:
        hits: By query: the file as it was named, or below the folder, or the image_id.
        files: By query: where its picture is; None for an image of the collection.
        bad: Files that hold no image, and why.
        is_folder: Whether a folder was asked for.
    """

    hits: dict[str, list[Hit]]
    files: dict[str, Path | None]
    bad: dict[str, str]
    is_folder: bool


def search_queries(searcher: Searcher, query: str, k: int, *, where: str | None = None) -> Answers:
    """What is most like an image file, each file of a folder, or an image of the collection.

    Args:
        searcher: Of the collection.
        query: A path, or an image_id; that image itself is not among its answers.
        k, where: As for `Searcher.search`.

    Raises:
        InputError: there is no such file or id, or none of the files is an image.
    """
    path = Path(query)
    if not path.exists() and re.fullmatch("[0-9a-f]{16}", query):
        found = searcher.hits(searcher.neighbors_of([query], k, where=where))
        return Answers({query: found[0]}, {query: None}, {}, is_folder=False)
    if not path.exists():
        raise InputError(f"no such query: '{query}' is no file, no folder, and no image_id")
    is_folder = path.is_dir()
    files = [item.path for item in open_source(path, layout="flat") if item.path is not None] if is_folder else [path]
    vectors, bad = searcher.encode_files(files)
    names = {file: os.path.relpath(file, os.path.abspath(path)) if is_folder else query for file in files}
    good = [file for file in files if file not in bad]
    if not good:
        raise InputError(f"'{query}' cannot be searched for: {bad[files[0]]}")
    hits = searcher.hits(searcher.search(vectors, k, where=where))
    return Answers(
        {names[file]: answer for file, answer in zip(good, hits, strict=True)},
        {names[file]: file for file in good},
        {names[file]: reason for file, reason in bad.items()},
        is_folder,
    )


def as_metric(name: str | None) -> Metric | None:
    """The metric called so; InputError when there is none."""
    if name is not None and name not in get_args(Metric):
        raise InputError(f"metric must be one of {', '.join(get_args(Metric))}, got '{name}'")
    return cast(Metric | None, name)


def _search_all(indexes: Sequence[Index], queries: np.ndarray, k: int, among: np.ndarray | None) -> Found:
    parts = []
    for index in indexes:
        if among is not None and len(indexes) > 1:
            here = np.intersect1d(among, index.ids())
            if len(here):
                parts.append(index.search(queries, k, among=here))
        elif len(index):
            parts.append(index.search(queries, k, among=among))
    if len(parts) == 1:
        return parts[0]
    ids, distances = (np.concatenate([getattr(part, side) for part in parts], axis=1) for side in ("ids", "distances"))
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return Found(np.take_along_axis(ids, order, 1), np.take_along_axis(distances, order, 1))


def without_own(found: Found, own: np.ndarray, k: int) -> Found:
    """k of the k + 1 that were found for each image: not itself, or not the farthest where its twins came first."""
    is_own = found.ids == own[:, None]
    is_own[~is_own.any(axis=1), -1] = True
    keep = ~is_own
    return Found(found.ids[keep].reshape(-1, k), found.distances[keep].reshape(-1, k))
