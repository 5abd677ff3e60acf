"""What a network comes with when others have trained it."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from imagescape.learn.preprocessing import Preprocessing


@dataclass(frozen=True, kw_only=True)
class Published:
    """A network with its published weights, and how images are to be prepared for it.

    Attributes:
        network: Gives (n, out_features) features of (n, 3, size_px, size_px) views.
        preprocessing: The one that it was evaluated with.
        version: Of the package, and of the weights where they say.
        options: What building it again, untrained and offline, needs beside its name; plain values.
    """

    network: nn.Module
    preprocessing: Preprocessing
    version: str
    options: dict[str, Any] = field(default_factory=dict)
