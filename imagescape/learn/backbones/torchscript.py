"""A TorchScript file as a backbone, for encoding only."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from imagescape.errors import CheckpointError, InputError

FILE = "backbone.torchscript"  # in the folder of a saved model


class TorchScript(nn.Module):
    """A script that gives (n, h) or (n, h, 1, 1) features of (n, 3, size_px, size_px) images.

    The file stays as it is, beside the weights of a saved model and not among them: what was frozen into the script
    would be lost otherwise. Among the weights stands its hash, so that they are never those of another script.

    Args:
        content: Of the file.
        size_px: Side of its images.

    Raises:
        InputError: this is no TorchScript, or gives something else than features.
    """

    script_sha256: Tensor

    def __init__(self, content: bytes, size_px: int) -> None:
        super().__init__()
        self.content = content
        try:
            script = torch.jit.load(io.BytesIO(content), map_location="cpu").eval()
        except (RuntimeError, ValueError) as error:
            raise InputError(f"this is no TorchScript file: {str(error).splitlines()[0]}") from error
        # In a tuple, so that torch does not take its weights for this module's.
        self._script = (script,)
        self.register_buffer("script_sha256", torch.tensor(list(hashlib.sha256(content).digest()), dtype=torch.uint8))
        with torch.inference_mode():
            self.out_features = self(torch.zeros(2, 3, size_px, size_px)).shape[1]

    @property
    def sha256(self) -> str:
        return bytes(self.script_sha256.tolist()).hex()

    @classmethod
    def load(cls, folder: Path, *, sha256: str, size_px: int) -> Self:
        """What `save` wrote.

        Raises:
            CheckpointError: the file is missing, or another than that of `sha256`.
        """
        path = folder / FILE
        try:
            loaded = cls(path.read_bytes(), size_px)
        except (OSError, InputError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
        if loaded.sha256 != sha256:
            raise CheckpointError(f"{path} is not the script that this model was saved with; embed again")
        return loaded

    def save(self, folder: Path) -> None:
        (folder / FILE).write_bytes(self.content)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n out_features"]:
        features = self._script[0](images)
        if not isinstance(features, Tensor):
            raise InputError(f"a TorchScript must give a tensor of features, this one gives {type(features).__name__}")
        if features.ndim == 4 and features.shape[2:] == (1, 1):
            features = features.flatten(1)
        if features.ndim != 2 or len(features) != len(images):
            raise InputError(f"a TorchScript must give (n, features), this one gives {tuple(features.shape)}")
        return features

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """Also moves the script to another device."""
        self._script[0]._apply(fn)
        return super()._apply(fn)
