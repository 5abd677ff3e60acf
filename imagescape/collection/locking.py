"""Writing safely: one writer at a time, by a lock that dies with its holder; and disks that fail, in plain words."""

import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from imagescape.errors import CollectionError

TELL_AFTER_SECONDS = 2.0
_POLL_SECONDS = 0.02

_log = logging.getLogger(__name__)


@contextmanager
def exclusive(path: Path, doing: str) -> Iterator[None]:
    """Hold the lock file `path`; wait while another holds it, and say so if that takes long.

    The lock belongs to the open file, so the operating system releases it however the holder ends. The file stays:
    removing it would let two writers lock two different files of the same name. It does not nest: one thread that
    asks twice waits for itself.

    Args:
        path: The lock file; made if missing.
        doing: What the holder does, told to those who wait.

    Raises:
        CollectionError: the file cannot be made.
    """
    with storage_errors(path.parent):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _acquire(descriptor, path)
        with suppress(OSError):  # for information only: a full disk must not keep us from freeing space
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} ({doing})".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path) -> None:
    began, told = time.monotonic(), False
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told and time.monotonic() - began > TELL_AFTER_SECONDS:
                holder = path.read_text(encoding="utf-8") or "another process"
                _log.warning("waiting for %s to let go of '%s'", holder, path)
                told = True
            time.sleep(_POLL_SECONDS)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn a full or write-protected disk into a CollectionError that says what became of the data.

    Lance passes the system's errors on as text, so both forms are looked for.
    """
    try:
        yield
    except OSError as error:
        number, text = error.errno, str(error)

        def is_one_of(*codes: int) -> bool:
            return number in codes or any(f"(os error {code})" in text for code in codes)

        if is_one_of(errno.ENOSPC, errno.EDQUOT):
            raise CollectionError(
                f"the disk of '{path}' is full; all that was written before stays: "
                "free some space and run the same again"
            ) from error
        if is_one_of(errno.EACCES, errno.EPERM, errno.EROFS):
            raise CollectionError(
                f"'{path}' cannot be written to; change its permissions, or work on a copy"
            ) from error
        raise
