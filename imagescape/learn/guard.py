"""What stands guard while a network is fine-tuned: whether altered copies still find their originals, and better.

The images are none that it learns from, and some kinds of alteration none that it is shown.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from imagescape.errors import InputError
from imagescape.evaluate.looks import Copies, Look
from imagescape.learn.encoder import Encoder


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Altered copies of images, and what they are searched among.

    Attributes:
        database: Squares as the encoder takes them: originals, and images that are right for none.
        queries: Squares of altered copies.
        copies: What they were made of, and how.

    Raises:
        InputError: there is not one copy for each query.
    """

    database: UInt8[np.ndarray, "m s s 3"]
    queries: UInt8[np.ndarray, "q s s 3"]
    copies: Copies

    def __post_init__(self) -> None:
        if len(self.queries) != len(self.copies.truth):
            raise InputError(f"{len(self.queries)} queries need as many copies, got {len(self.copies.truth)}")

    def encode(self, encoder: Encoder) -> tuple[np.ndarray, np.ndarray]:
        """Features (m, d) and (q, d) float32 of database and queries."""
        database, queries = (encoder.encode_pixels(part, quiet=True)[0] for part in (self.database, self.queries))
        return database, queries

    def look(self, encoder: Encoder, *, name: str, epoch: int = 0) -> Look:
        """What the encoder is worth."""
        return self.copies.look(*self.encode(encoder), name=name, epoch=epoch, device=str(encoder.device))
