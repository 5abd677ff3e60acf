"""What makes two images the same, and what makes a row that image's row."""

import hashlib

import numpy as np

REPLACED = "the file now holds another picture"
NOT_FOUND = "not found at the last ingest"
"""Reasons of status "vanished"."""


def content_sha256(content: bytes | np.ndarray) -> str:
    """SHA-256 in hex: of a file's bytes, or of an array's dtype, shape and pixels.

    >>> content_sha256(b"")[:8]
    'e3b0c442'
    >>> content_sha256(np.zeros((2, 3), np.uint8)) == content_sha256(np.zeros((3, 2), np.uint8))
    False
    """
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256(f"{content.dtype.str}{content.shape}".encode())
    digest.update(np.ascontiguousarray(content).data)
    return digest.hexdigest()


def mint_id(uri: str, sha256: str, again: int = 0) -> str:
    """The id of a new row: 16 hex digits of the hash of where the image was first seen and what it holds.

    `again` counts the ids that were taken already: a picture that moves keeps its id, so an equal picture put at its
    first place needs another one.
    """
    salt = f"\0{again}" if again else ""
    return hashlib.sha256(f"{uri}\0{sha256}{salt}".encode()).hexdigest()[:16]
