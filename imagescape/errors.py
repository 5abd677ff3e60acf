"""What can go wrong, as exceptions a person can act on.

Every message says what was needed, what was got and what to do. The command line prints an
`ImagescapeError` as one line and exits with 2; anything else is a bug and keeps its traceback.
"""

import importlib
from types import ModuleType


class ImagescapeError(Exception):
    """Base of every error that imagescape raises on purpose."""


class InputError(ImagescapeError, ValueError):
    """An argument, option or file given by the user cannot be used."""


class CollectionError(ImagescapeError):
    """A `NAME.scape` folder is missing, damaged, or written by a newer imagescape."""


class CheckpointError(ImagescapeError):
    """Saved weights or a saved run do not fit what they are loaded into."""


class MissingExtraError(ImagescapeError, ImportError):
    """An optional dependency is needed and not installed."""


class NotFitted(ImagescapeError):
    """`transform`, `predict` or `save` before `fit`."""


class Interrupted(ImagescapeError):
    """The user stopped long work; the message says how to go on from where it stopped."""


def require(name: str, *, extra: str) -> ModuleType:
    """Import the optional module `name`, or say which extra brings it.

    Raises:
        MissingExtraError: `name` is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise  # the module is here, one of its own imports is not: another problem
        raise MissingExtraError(
            f"this needs the package '{name}', which is not installed; run: pip install 'imagescape[{extra}]'"
        ) from error
