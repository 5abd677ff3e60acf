"""Pages and plots of searches: what was found, and of experiments, what was not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from imagescape.collection.store import Collection
from imagescape.collection.vectors import Places, numbers_of
from imagescape.evaluate.retrieval import NOTHING
from imagescape.evaluate.trials import Experiment
from imagescape.images.decode import Decoded, decode, read_file, thumbnail
from imagescape.pipeline.experiments import Measured
from imagescape.pipeline.similarity import Answers, Searcher
from imagescape.report.experiment_plots import draw_experiment
from imagescape.report.neighbor_page import (
    Answer,
    Case,
    Neighbor,
    choose_cases,
    write_contact_sheet,
    write_neighbor_page,
)

_SHOWN = 10  # results a query on the page of an experiment


def write_search_page(searcher: Searcher, answers: Answers, path: Path) -> None:
    """Write what a search found, with the pictures, as one self-contained page.

    Raises:
        InputError: nothing was found, or the folder of `path` is missing.
    """
    queries = list(answers.hits)
    shown = []
    for number, query in enumerate(queries):
        hits = answers.hits[query]
        ids = numbers_of(np.array([hit.image_id for hit in hits], "U16")).tolist()
        near = [Neighbor(one, hit.distance, _short(hit.uri)) for one, hit in zip(ids, hits, strict=True)]
        shown.append(Answer(number, query, near))

    def query_picture(number: int) -> bytes | None:
        file = answers.files[queries[number]]
        if file is None:
            own = numbers_of(np.array([queries[number]]))
            return _thumbnails(searcher.scape, searcher.places)(int(own[0]))
        content = read_file(file)
        result = content if isinstance(content, Decoded) else decode(content)
        return None if result.image is None else thumbnail(result.image)

    write_contact_sheet(
        path,
        shown,
        query_picture=query_picture,
        picture=_thumbnails(searcher.scape, searcher.places),
        title=f"Most alike in {searcher.scape.path.stem}",
        about=f"{len(searcher):,} images searched by {searcher.name}; {searcher.metric.replace('_', ' ')} distance, "
        "smaller is closer",
    )


def write_experiment(scape: Collection, queries: Collection, measured: Measured, folder: Path) -> list[Path]:
    """Write `results.json`, the plots, and a page of correct and incorrect neighbours of the main setting.

    Returns:
        The files.
    """
    experiment = measured.outcome.experiment
    written = [experiment.save(folder), *draw_experiment(experiment, folder)]
    return [*written, _write_cases(scape, queries, measured, folder / "neighbors.html")]


def plot_experiment(folder: Path) -> list[Path]:
    """Draw the plots of an experiment again, from its `results.json` alone; returns the files."""
    return draw_experiment(Experiment.load(folder), folder)


def _write_cases(scape: Collection, queries: Collection, measured: Measured, path: Path) -> Path:
    searched, trial = measured.queries, measured.outcome.experiment.trials[0]
    found = measured.outcome.found[0]
    ids, distances = found.ids[:, :_SHOWN], found.distances[:, :_SHOWN]
    rows = choose_cases(ids, searched.truth, searched.families)
    collections = [scape, *measured.distractors]
    places = [Places(one) for one in collections]
    uris: dict[int, str] = {}
    for one in places:
        wanted = np.unique(np.concatenate([ids[rows].ravel(), searched.truth[rows]]))
        table = one.take(wanted[wanted != NOTHING], ["uri"])
        numbers = numbers_of(table["image_id"].to_numpy()).tolist()
        uris |= dict(zip(numbers, table["uri"].to_pylist(), strict=True))

    def neighbor(number: int, distance: float) -> Neighbor:
        return Neighbor(number, distance, _short(uris.get(number, "")))

    cases = []
    for row in rows.tolist():
        near = [
            neighbor(number, distance)
            for number, distance in zip(ids[row].tolist(), distances[row].tolist(), strict=True)
            if number != NOTHING
        ]
        truth = int(searched.truth[row])
        known = {one.id: one.distance for one in near}
        answer = Answer(int(searched.ids[row]), str(searched.kinds[row]), near)
        original = None if truth == NOTHING else neighbor(truth, known.get(truth, float("nan")))
        cases.append(Case(answer, str(searched.families[row]), str(searched.kinds[row]), original))
    return write_neighbor_page(
        path,
        cases,
        query_picture=_thumbnails(queries, Places(queries)),
        picture=_first(*(_thumbnails(one, where) for one, where in zip(collections, places, strict=True))),
        about=f"{trial}; {len(rows)} of {len(searched):,} queries, some of every family",
    )


def _thumbnails(scape: Collection, places: Places) -> Callable[[int], bytes | None]:
    def picture(number: int) -> bytes | None:
        rows = places.take(np.array([number]), ["thumbnail"])
        return rows["thumbnail"].to_pylist()[0] if len(rows) else None

    return picture


def _first(*sources: Callable[[int], bytes | None]) -> Callable[[int], bytes | None]:
    return lambda number: next((data for source in sources if (data := source(number)) is not None), None)


def _short(uri: str) -> str:
    return uri.rpartition("/")[2]
