"""Runs that learn for a while, in `runs/NAME`: the same command takes up what was stopped, another begins anew."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imagescape.errors import Interrupted
from imagescape.model_folder import replace_folder

_OF_PERSONS = ("naming.json",)


@contextmanager
def run_in(folder: Path, asked: Mapping[str, Any]) -> Iterator[None]:
    """Keep a run's checkpoints in `folder` only as long as the same is asked for and it is not finished.

    What persons said of an earlier result stays there: a clustering made anew may hold the same clusters.

    Args:
        folder: Of the run.
        asked: All that its result depends on, in plain values; kept in `config.json`.

    Raises:
        Interrupted: as the run, and says how to go on.
    """
    text, mark, finished = json.dumps(asked, indent=2, sort_keys=True), folder / "config.json", folder / "finished"
    if folder.exists() and (not mark.exists() or mark.read_text() != text or finished.exists()):
        replace_folder(folder, lambda new: _keep(folder, new))  # of another result; this one starts anew
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(text)
    try:
        yield
    except Interrupted as stop:
        raise Interrupted(f"{stop}; run the same command again to go on from there") from stop
    finished.touch()


def _keep(folder: Path, new: Path) -> None:
    for name in _OF_PERSONS:
        if (folder / name).exists():
            shutil.copy2(folder / name, new / name)
