"""The files inside a .tar[.gz], or in the folder it was unpacked to: one after another, nothing written to disk."""

import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from imagescape.errors import InputError

_DAMAGE = (tarfile.TarError, EOFError, zlib.error, OSError)


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive. It can be read, front to back, until the next one is asked for."""

    name: str  # without folders
    size_bytes: int
    container: Path  # where the bytes lie: the archive, or the unpacked file itself
    stream: IO[bytes]

    def read(self, size_bytes: int | None = None) -> bytes:
        """The next `size_bytes` bytes; None reads the rest.

        Raises:
            InputError: the archive is damaged or ends early.
        """
        try:
            data = self.stream.read(-1 if size_bytes is None else size_bytes)
        except _DAMAGE as error:
            raise _damaged(self.container, error) from error
        if size_bytes is not None and len(data) < size_bytes:
            raise InputError(
                f"{self.name} in {self.container} ends {size_bytes - len(data)} bytes too early; get it again"
            )
        return data


def is_tar(path: Path, word: str) -> bool:
    """Whether `path` is a tar archive with `word` in its name: looking inside would unpack gigabytes."""
    name = path.name.lower()
    return word in name and name.endswith((".tar.gz", ".tgz", ".tar")) and path.is_file()


def members(path: Path) -> Iterator[Member]:
    """The regular files of the archive or folder at `path`: in the archive's order, or by name.

    Raises:
        InputError: the archive is damaged or ends early.
    """
    if path.is_dir():
        for file in sorted(entry for entry in path.iterdir() if entry.is_file()):
            with file.open("rb") as stream:
                yield Member(file.name, file.stat().st_size, file, stream)
        return
    with _open_tar(path) as archive:
        while True:
            try:
                info = archive.next()
            except _DAMAGE as error:
                raise _damaged(path, error) from error
            if info is None:
                return
            contents = archive.extractfile(info) if info.isfile() else None
            if contents is not None:
                yield Member(Path(info.name).name, info.size, path, contents)


def _open_tar(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path, "r|*")  # "|": front to back, a gzip stream cannot jump
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> InputError:
    return InputError(f"{path} is not a readable tar archive ({error}); get it again")
