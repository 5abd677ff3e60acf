"""`attack`: altered copies of a collection's images, as queries that know what they were made of."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
from PIL import Image

from imagescape.collection.decoding import Flaw, decoded, flag, wanted_rows
from imagescape.collection.ingest import IngestSummary, ingest
from imagescape.collection.ordered import ordered_map
from imagescape.collection.readers.item import Item
from imagescape.collection.store import Collection
from imagescape.errors import InputError
from imagescape.images.decode import encode_png
from imagescape.runtime import worker_count
from imagescape.search.attacks import Attack, choose

_SCHEMA = pa.schema(
    {
        "original_id": pa.string(),
        "original_uri": pa.string(),
        "family": pa.string(),
        "attack": pa.string(),
        "strength": pa.float64(),
        "seed": pa.int64(),
    }
)


def attack(
    scape: Collection,
    output: Path,
    kinds: Sequence[str] | None = None,
    *,
    seed: int = 0,
    where: str | None = None,
    folder: Path | None = None,
) -> IngestSummary:
    """Write a collection of altered copies of the images of another.

    Every copy is a row with its picture stored (PNG, so nothing is lost once more), `original_id`, `original_uri`,
    `family`, `attack`, `strength` and `seed`. It depends on the seed, the image's id and the attack alone. Copies
    that are in `output` already are not made again, so a stopped run goes on where it was.

    Args:
        scape: The collection of originals, which is only read.
        output: The collection of copies; made, or added to.
        kinds: Attacks or families of `search.attacks`; all when None.
        seed: Settles every random choice.
        where: Of these images only, an SQL condition.
        folder: Where to write the copies as PNG files too, a folder for each original.

    Raises:
        InputError: an unknown attack, or no image to attack.
    """
    if output.resolve() == scape.path.resolve():
        raise InputError("the copies need a collection of their own: name another --output than that of the originals")
    wanted = wanted_rows(scape, where)
    if not len(wanted):
        raise InputError(f"no readable image to attack in '{scape.path}'" + (f' where "{where}"' if where else ""))
    chosen = choose(kinds)
    if folder is not None:  # files are wanted of every copy; rows that are there are known by their content
        return ingest(_Altered(scape, wanted, chosen, seed, folder, set()), output)
    there = set(Collection.open(output).read(["uri"])["uri"].to_pylist()) if (output / "scape.json").exists() else set()
    return ingest(_Altered(scape, wanted, chosen, seed, folder, there), output)


class _Altered:
    """The copies as a source to ingest; see `collection.readers.Reader`."""

    schema = _SCHEMA

    def __init__(
        self,
        scape: Collection,
        wanted: pa.Table,
        attacks: Sequence[Attack],
        seed: int,
        folder: Path | None,
        there: set[str],
    ) -> None:
        self._scape, self._wanted, self._attacks, self._seed, self._folder = scape, wanted, attacks, seed, folder
        self._there = there
        self.total: int | None = sum(
            self._uri(image_id, one) not in there for image_id in wanted["image_id"].to_pylist() for one in attacks
        )

    def __iter__(self) -> Iterator[Item]:
        uris = dict(zip(self._wanted["image_id"].to_pylist(), self._wanted["uri"].to_pylist(), strict=True))
        flaws: list[tuple[str, Flaw]] = []

        def tasks() -> Iterator[tuple[str, Image.Image, Attack]]:
            for image_id, image in decoded(self._scape, self._wanted, lambda image: image):
                if isinstance(image, Flaw):
                    flaws.append((image_id, image))
                    continue
                for one in self._attacks:
                    if self._uri(image_id, one) not in self._there:
                        yield image_id, image, one

        # Collages are made with drawn pictures: one with another image of the collection would have two right answers.
        def altered(task: tuple[str, Image.Image, Attack]) -> tuple[str, Attack, bytes]:
            image_id, image, one = task
            return image_id, one, encode_png(one(image, seed=self._seed, image_id=image_id), compress_level=1)

        try:
            with ThreadPoolExecutor(worker_count() + 1) as pool:
                for image_id, one, data in ordered_map(pool, altered, tasks(), in_flight=4 * worker_count()):
                    if self._folder is not None:
                        self._write(uris[image_id], image_id, one, data)
                    columns = {
                        "original_id": image_id,
                        "original_uri": uris[image_id],
                        "family": one.family,
                        "attack": one.name,
                        "strength": one.strength,
                        "seed": self._seed,
                    }
                    yield Item(self._uri(image_id, one), data=data, columns=columns, refetchable=False)
        finally:
            flag(self._scape, flaws)

    def _uri(self, image_id: str, one: Attack) -> str:
        return f"attack:{image_id}/{one.name}?seed={self._seed}"

    def _write(self, uri: str, image_id: str, one: Attack, data: bytes) -> None:
        assert self._folder is not None
        path = self._folder / f"{Path(uri).stem[:80]}-{image_id}" / f"{one.name}-seed{self._seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
