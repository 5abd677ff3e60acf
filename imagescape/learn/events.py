"""Metrics for TensorBoard, beside the lines of JSON that are always written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagescape.errors import require


class Events:
    """Writes numbers as events that `tensorboard --logdir FOLDER` shows.

    Args:
        folder: Where to.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        require("tensorboard", extra="tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))

    def log(self, step: int, values: Mapping[str, Any], prefix: str = "training") -> None:
        """Write what of `values` is a number."""
        for name, value in values.items():
            if isinstance(value, (int, float)) and name != "step":
                self._writer.add_scalar(f"{prefix}/{name}", value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
