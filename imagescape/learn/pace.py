"""How long a stage is: as many epochs as planned, or as many as fit into a time while it passes.

A step measured before a run says little of the hour that follows: other work comes, processors
grow hot. So a stage with a time settles its epochs again and again, by what its steps have
really taken.
"""

import math
from typing import Any


class Pace:
    """Where each step of a run lies on the schedule that was planned for it.

    Without a time, step i is step i of the schedule. With one, the run gets whole epochs more or fewer than
    planned, and goes along the schedule so much slower or faster, always to its end.

    Attributes:
        steps: Of the run, as far as is known.
    """

    def __init__(self, planned_steps: int, steps_per_epoch: int, seconds: float | None = None) -> None:
        self.steps = planned_steps
        self._planned, self._steps_per_epoch, self._seconds = planned_steps, steps_per_epoch, seconds
        # A step, and its place on the schedule: from there on all steps are as long as each other.
        self._step, self._place = 0, 0.0
        self._first: tuple[int, float] | None = None

    @property
    def is_timed(self) -> bool:
        return self._seconds is not None

    def place(self, step: int) -> float:
        """Of step 0, 1, …, on a schedule of 0 to `planned_steps` - 1; both ends are met."""
        if step + 1 >= self.steps:
            return float(self._planned - 1)
        return self._place + (step - self._step) * (self._planned - 1 - self._place) / (self.steps - 1 - self._step)

    def settle(self, steps: int, seconds: float) -> None:
        """After `steps` steps in `seconds`, settle how many there will be; does nothing without a time.

        What the first call tells serves only to leave out how long it took to begin: memory, compilers, caches.
        """
        if self._seconds is None or steps >= self.steps:
            return
        if self._first is None:
            self._first = steps, seconds
            return
        a_step = max(seconds - self._first[1], 1e-6) / (steps - self._first[0])  # clocks may be coarse
        last = steps + max(0.0, self._seconds - seconds) / a_step
        epochs = max(round(last / self._steps_per_epoch), math.ceil(steps / self._steps_per_epoch))
        self._place, self._step = self.place(steps), steps
        self.steps = epochs * self._steps_per_epoch

    def state(self) -> dict[str, Any]:
        """For a checkpoint: plain values, which `restore` takes."""
        return {"steps": self.steps, "step": self._step, "place": self._place}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as `state` says; without a time, as the schedule says."""
        if self.is_timed:
            self.steps, self._step, self._place = state["steps"], state["step"], state["place"]
