"""What scikit-learn wants to know of an estimator's arguments."""

from typing import Any, Self


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
