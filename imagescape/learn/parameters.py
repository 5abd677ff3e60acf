"""Settings by name: of recipes, and of estimators as scikit-learn wants to know of them."""

from dataclasses import fields
from typing import Any, ClassVar, Self

from imagescape.errors import InputError


class Settings:
    """What recipes share, which are dataclasses: settings that come by name.

    Attributes:
        method: The name that messages have for what they are settings of; "" for none.
    """

    method: ClassVar[str] = ""

    @classmethod
    def of(cls, **settings: Any) -> Self:
        """The recipe of these settings; InputError when one is unknown."""
        known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        if unknown := [name for name in settings if name not in known]:
            whose = f" of {cls.method}" if cls.method else ""
            raise InputError(f"there is no setting '{unknown[0]}'{whose}; there are {', '.join(known)}")
        return cls(**settings)


class Parameters:
    """`get_params` and `set_params` of an estimator that keeps its `recipe` and the `_arguments` it was made with."""

    recipe: Any
    _arguments: dict[str, Any]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments it was made with, by name (scikit-learn)."""
        return dict(self._arguments)

    def set_params(self, **values: Any) -> Self:
        """Change arguments for the next `fit` (scikit-learn)."""
        changed = type(self)(**(self._arguments | values))
        self.recipe, self._arguments = changed.recipe, changed._arguments
        return self
