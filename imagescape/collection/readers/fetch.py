"""Going back to the source: from the uris in the table to the images they came from."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imagescape.collection.readers import reader_for
from imagescape.collection.readers.item import parse_uri
from imagescape.errors import ImagescapeError
from imagescape.images.decode import Decoded, read_file

Fetched = bytes | np.ndarray | Decoded


def fetch(uris: Sequence[str]) -> list[Fetched]:
    """The images behind some uris, in the order given: encoded bytes, or pixels where the source is an array.

    Rows of one container are fetched together, so that each Parquet row group is read once a call. What cannot be had
    is a `Decoded` with status "vanished" or "unreadable" and the reason; nothing is raised.
    """
    found: list[Fetched] = [Decoded(None, "vanished", "the pixels came from memory and were not stored")] * len(uris)
    rows: dict[Path, list[tuple[int, int]]] = defaultdict(list)
    for position, uri in enumerate(uris):
        path, row = parse_uri(uri)
        if path is not None and row is not None:
            rows[path].append((position, row))
        elif path is not None:
            found[position] = read_file(path)
    for container, wanted in rows.items():
        images = _fetch_rows(container, [row for _, row in wanted])
        for (position, _), image in zip(wanted, images, strict=True):
            found[position] = image
    return found


def _fetch_rows(container: Path, rows: Sequence[int]) -> Sequence[Fetched]:
    try:
        container.stat()
        module = reader_for(container)
        if module is None or not hasattr(module, "fetch_rows"):
            reason = f"single images cannot be read out of {container.name}; ingest it with embed"
            return [Decoded(None, "unreadable", reason)] * len(rows)
        return module.fetch_rows(container, rows)
    except (FileNotFoundError, NotADirectoryError):
        return [Decoded(None, "vanished", f"{container.name} is gone")] * len(rows)
    except (ImagescapeError, OSError) as error:
        return [Decoded(None, "unreadable", f"{container.name} cannot be read: {error}")] * len(rows)
