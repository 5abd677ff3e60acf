"""The pictures that stand guard over fine-tuning: images that are held out, altered copies of them, and others."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from imagescape.collection.decoding import Flaw, decoded, flag, wanted_rows
from imagescape.collection.ordered import ordered_map
from imagescape.collection.store import Collection
from imagescape.errors import InputError
from imagescape.evaluate.looks import Copies
from imagescape.evaluate.retrieval import NOTHING
from imagescape.images.decode import square
from imagescape.learn.guard import Guard
from imagescape.learn.preprocessing import Preprocessing
from imagescape.runtime import seed_for, track, worker_count
from imagescape.search.attacks import FAMILIES, Attack

LEFT_OUT = 0.2  # of the originals, whose copies match nothing: without such queries precision says little


def held_out_ids(ids: np.ndarray, fraction: float, most: int, seed: int) -> np.ndarray:
    """A random part of the images, (m,), in their order: a `fraction` of them, `most` at most.

    Raises:
        InputError: it would be fewer than 5, or all of them.
    """
    count = min(round(fraction * len(ids)), most)
    if count < 5 or count >= len(ids):
        raise InputError(
            f"a guard needs at least 5 images that are not trained on; {fraction:g} of {len(ids)} is {count}: give "
            "more images, or others to hold out as --val"
        )
    rng = np.random.default_rng(seed_for(seed, "guard"))
    return ids[np.sort(rng.permutation(len(ids))[:count])]


def make_guard(
    scape: Collection,
    ids: np.ndarray,
    way: Preprocessing,
    *,
    unseen: Sequence[str],
    families: Sequence[str] | None = None,
    each: int | None = 8,
    others: tuple[Collection, np.ndarray] | None = None,
    seed: int = 0,
) -> Guard:
    """Alter copies of images, and put the images among others.

    Args:
        scape: The collection of the images.
        ids: Of the images, (n,), at least 5.
        way: How the encoder takes images.
        unseen: Families of attacks that training does not show.
        families: All families that there are copies of; None: every one.
        each: Copies of an image, half of them of unseen kinds; None: one by every attack of the families.
        others: A collection, and the ids of images in it that are right for no query.
        seed: Settles every random choice.

    Raises:
        InputError: a family that is none, or too few readable images.
    """
    known = list(FAMILIES) if families is None else list(families)
    if wrong := [one for one in (*known, *unseen) if one not in FAMILIES]:
        raise InputError(f"families of attacks are {', '.join(FAMILIES)}; got {', '.join(wrong)}")

    def chosen(image_id: str) -> list[Attack]:
        if each is None:
            return [one for family in known for one in FAMILIES[family]]
        rng = np.random.default_rng(seed_for(seed, "guard", image_id))
        hidden = [family for family in known if family in unseen]
        shown = [family for family in known if family not in unseen]
        halves = ((hidden, each // 2), (shown, each - each // 2))
        drawn = [str(one) for part, count in halves for one in rng.permutation(part)[:count]]
        return [FAMILIES[one][rng.integers(len(FAMILIES[one]))] for one in drawn]

    def squared(image: Image.Image) -> np.ndarray:
        return square(image, way.cache_px, way.fit, resample=way.resample)

    def altered(image_id: str, image: Image.Image) -> tuple[np.ndarray, list[tuple[str, np.ndarray]]]:
        copies = [(one.family, squared(one(image, seed=seed, image_id=image_id))) for one in chosen(image_id)]
        return squared(image), copies

    left_out = set(np.random.default_rng(seed_for(seed, "left out")).permutation(ids)[: round(LEFT_OUT * len(ids))])
    database, queries, truth, originals, named = [], [], [], [], []
    with ThreadPoolExecutor(worker_count() + 1) as pool, track("altered copies for the guard", len(ids)) as progress:
        tasks = _pictures(scape, ids)
        made = ordered_map(pool, lambda task: (task[0], *altered(*task)), tasks, in_flight=2 * worker_count())
        for number, (image_id, whole, copies) in enumerate(made):
            if is_there := image_id not in left_out:
                database.append(whole)
            for family, altered_copy in copies:
                queries.append(altered_copy)
                named.append(family)
                originals.append(number)
                truth.append(len(database) - 1 if is_there else NOTHING)
            progress.advance()
    if len(database) < 2:
        raise InputError(f"a guard needs at least 5 images that can be read, got {len(database)} of {len(ids)}")
    if others is not None:
        database += [squared(image) for _, image in _pictures(*others)]
    return Guard(
        database=np.stack(database),
        queries=np.stack(queries),
        copies=Copies(
            truth=np.array(truth, np.int64),
            originals=np.array(originals, np.int64),
            families=np.array(named, "U"),
            unseen=tuple(unseen),
        ),
    )


def _pictures(scape: Collection, ids: np.ndarray) -> Iterator[tuple[str, Image.Image]]:
    """These images as they are; those that cannot be read any more are flagged, and left out."""
    rows = wanted_rows(scape)
    rows = rows.filter(pc.is_in(rows["image_id"], value_set=pa.array(ids, pa.string())))
    flaws: list[tuple[str, Flaw]] = []
    for image_id, image in decoded(scape, rows, lambda image: image):
        if isinstance(image, Flaw):
            flaws.append((image_id, image))
        else:
            yield image_id, image
    flag(scape, flaws)
