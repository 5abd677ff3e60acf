"""A folder of images, with labels and splits taken from the names of its subfolders."""

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import pyarrow as pa

from imagescape.collection.readers.item import Item, as_text, file_uri
from imagescape.errors import InputError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"}
    | {".avif", ".jp2", ".j2k", ".jpx", ".j2c", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".psd", ".ico", ".icns"}
    | {".qoi", ".dds", ".fits", ".fit", ".tga"}
    | {".heic", ".heif", ".jxl"}  # not decoded, so that each becomes a row that says so
)
SPLITS = frozenset({"train", "test", "val", "valid", "validation"})
_LITTER = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})  # names with a leading dot are hidden anyway


def matches(path: Path) -> bool:
    return path.is_dir()


def open(path: Path, *, glob: str | None = None, layout: str = "auto") -> "FolderReader":
    """Read a folder and everything below it; see `FolderReader`."""
    return FolderReader(path, glob=glob, layout=layout)


class FolderReader:
    """Every image below a folder, in the order of sorted names.

    Taken are files with the extension of an image, whatever they hold, so that broken ones show up; hidden files and
    folders, the litter of operating systems and `.scape` collections are passed over. Links to folders are followed,
    each real folder is visited once. A folder that cannot be listed is one item, to show as an unreadable row.

    Columns: `folder`, the directory relative to the source ("" at its top); and by layout
    `label`, the name of the class folder, and `split`. Layout "auto" takes `train/…` and `train/cat/…` (every top
    folder named after a split) for splits, `cat/…` (every image exactly one level down, two folders or more) for
    classes, and anything else for flat. Layout "classes" takes the top folder, or the one below a split.

    Attributes:
        total: Images found when the reader was made.
        skipped: Other files seen then.
    """

    def __init__(self, root: Path, *, glob: str | None = None, layout: str = "auto") -> None:
        if layout not in ("auto", "classes", "flat"):
            raise InputError(f"layout must be 'auto', 'classes' or 'flat', got '{layout}'")
        self._root = os.path.abspath(root)
        self._pattern = tuple(glob.split("/")) if glob else None
        self.total, self.skipped = 0, 0
        depths: set[int] = set()
        tops: set[str] = set()
        unlisted = 0
        for parts, wanted in self._walk():
            if wanted is None:
                unlisted += 1
            elif not wanted:
                self.skipped += 1
                continue
            else:
                depths.add(len(parts))
                tops.update(parts[:-1][:1])
            self.total += 1
        if not depths:
            raise InputError(_nothing_found(self._root, glob, self.skipped, unlisted))
        self._split_at, self._label_at = _columns_by_depth(layout, depths, tops)
        names = ["folder"] + ["label"] * (self._label_at is not None) + ["split"] * (self._split_at is not None)
        self.schema = pa.schema([(name, pa.string()) for name in names])

    def __iter__(self) -> Iterator[Item]:
        for parts, wanted in self._walk():
            if wanted is not False:
                path = Path(self._root, *parts)
                yield Item(file_uri(path), path=path, columns=self._columns(parts[:-1]))

    def _columns(self, folders: Sequence[str]) -> dict[str, object]:
        def at(level: int | None) -> str | None:
            return as_text(folders[level]) if level is not None and level < len(folders) else None

        values = {"folder": as_text("/".join(folders)), "label": at(self._label_at), "split": at(self._split_at)}
        return {name: values[name] for name in self.schema.names}

    def _walk(self) -> Iterator[tuple[tuple[str, ...], bool | None]]:
        """Names below the root, sorted, and whether we want that file; None for a folder that cannot be listed."""
        visited: set[tuple[int, int]] = set()
        waiting: list[tuple[str, ...]] = [()]  # folders and files still to come, the next one last
        while waiting:
            parts = waiting.pop()
            path = os.path.join(self._root, *parts)
            if not os.path.isdir(path):
                yield parts, self._wants(parts)
                continue
            if parts and not self._enters(parts[-1]):
                continue
            try:
                here = os.stat(path)
                if (here.st_dev, here.st_ino) in visited:
                    continue
                visited.add((here.st_dev, here.st_ino))
                names = os.listdir(path)
            except OSError:
                yield parts, None
                continue
            waiting.extend((*parts, name) for name in sorted(names, reverse=True))

    def _enters(self, folder: str) -> bool:
        return self._pattern is not None or not (folder.startswith(".") or folder.endswith(".scape"))

    def _wants(self, parts: tuple[str, ...]) -> bool:
        if self._pattern is not None:
            return _glob_matches(parts, self._pattern)
        name = parts[-1]
        hidden = name.startswith(".") or name.lower() in _LITTER
        return not hidden and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _glob_matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a relative path matches a pattern, both cut at "/"; "**" stands for any number of folders.

    >>> _glob_matches(("a", "b", "c.dat"), ("**", "*.dat")), _glob_matches(("a", "c.dat"), ("*.dat",))
    (True, False)
    """
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _glob_matches(parts, pattern[1:]) or (bool(parts) and _glob_matches(parts[1:], pattern))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _glob_matches(parts[1:], pattern[1:])


def _columns_by_depth(layout: str, depths: set[int], tops: set[str]) -> tuple[int | None, int | None]:
    """Levels of the folders that give split and label.

    Args:
        layout: "auto", "classes" or "flat".
        depths: Numbers of names in the relative paths that occur: 1 at the top.
        tops: Names of the top folders that hold images.
    """
    if layout == "flat" or not tops:
        return None, None
    splits = 1 not in depths and {top.lower() for top in tops} <= SPLITS
    if layout == "classes":
        return (0, 1) if splits and max(depths) > 2 else (0, None) if splits else (None, 0)
    if splits and max(depths) <= 3:
        return 0, (1 if 3 in depths else None)
    if depths == {2} and len(tops) >= 2:
        return None, 0
    return None, None


def _nothing_found(root: str, glob: str | None, skipped: int, unlisted: int) -> str:
    other = f" ({skipped} other files)" if skipped else ""
    locked = f", and {unlisted} folders cannot be opened" if unlisted else ""
    if glob is not None:
        return f"no file in {root} matches the glob '{glob}'{other}{locked}"
    advice = "; if they are images under other names, say which with a glob" if skipped else ""
    return f"no image in {root}{other}{locked}{advice}"
