"""`export-names` and `import-names`: the names of a clustering as a table that a person can correct."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imagescape.collection.store import Collection
from imagescape.collection.vectors import Places, numbers_of
from imagescape.errors import InputError
from imagescape.pipeline.names_record import Group, Naming, checked_name
from imagescape.pipeline.naming import name_clusters, naming_of

COLUMNS = ("id", "size", "name", "score", "margin", "top words", "prototypes")
_BETWEEN = " | "
_DELIMITERS = ",;\t"  # what spreadsheets write, by the country


@dataclass(frozen=True, slots=True)
class Imported:
    """What `import_names` did.

    Attributes:
        changed: Clusters that are called otherwise now.
        unchanged: Rows that say what was so already.
        naming: The names.
    """

    changed: tuple[int, ...]
    unchanged: int
    naming: Naming

    def __str__(self) -> str:
        return f"{len(self.changed)} names changed, {self.unchanged} as they were\n{self.naming}"


def export_names(scape: Collection, clusters: str, path: Path) -> int:
    """Write the clusters as a CSV: id, size, name, score, margin, top words, prototypes (where they are).

    Returns:
        How many clusters there are.

    Raises:
        InputError: no such clustering, or a path that does not end in .csv.
    """
    if path.suffix.lower() != ".csv":
        raise InputError(f"names are exported to a file that ends in .csv, got '{path}'")
    groups = naming_of(scape, clusters).groups
    uris = _uris(scape, [one for group in groups for one in group.prototypes])
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(_row(group, uris) for group in groups)
    part.replace(path)
    return len(groups)


def import_names(scape: Collection, clusters: str, path: Path) -> Imported:
    """Take over what a person changed in the names of an exported CSV, as that person's word.

    Only the columns id and name are read; clusters that the file does not have keep their names. An empty name says
    that the cluster has none. Names may be given twice. Nothing is changed if anything is wrong with the file.

    Raises:
        InputError: no such clustering, or the file is damaged or has clusters that are not there.
    """
    told = read_names(path)
    groups = {str(group.id): group for group in naming_of(scape, clusters).groups}
    if unknown := [key for key in told if key not in groups]:
        some = ", ".join(unknown[:5]) + (", …" if len(unknown) > 5 else "")
        raise InputError(f"'{path}' names clusters that '{clusters}' does not have ({some}); is it of another one?")
    changed = {key: name for key, name in told.items() if name != (groups[key].name or "")}
    naming = name_clusters(scape, clusters, names=changed)
    return Imported(tuple(map(int, changed)), len(told) - len(changed), naming)


def read_names(path: Path) -> dict[str, str]:
    """The names in a CSV by the number of the cluster, as text; "" for none.

    Raises:
        InputError: it cannot be read, is no CSV with the columns id and name, or a line is damaged; the message has it.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' is not UTF-8 ({error}); save it as CSV in UTF-8") from error
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=head.count), strict=True)
    names: dict[str, str] = {}
    try:
        header = next(reader, [])
        columns = [cell.strip().casefold() for cell in header]
        if columns.count("id") != 1 or columns.count("name") != 1:
            raise InputError(
                f"'{path}' needs the columns id and name, each once; it has: {', '.join(header) or 'none'}"
            )
        for cells in reader:
            if not any(cells):
                continue
            where = f"line {reader.line_num} of '{path}'"
            if len(cells) != len(columns):
                raise InputError(f"{where} has {len(cells)} fields instead of {len(columns)}; is a quote missing?")
            key = _number(cells[columns.index("id")], where)
            if key in names:
                raise InputError(f"{where} names cluster {key} again; every cluster may be there once")
            names[key] = checked_name(cells[columns.index("name")], f"cluster {key} in {where}")
    except csv.Error as error:
        raise InputError(f"line {reader.line_num} of '{path}' is damaged: {error}") from error
    if not names:
        raise InputError(f"'{path}' has no names")
    return names


def _number(cell: str, where: str) -> str:
    try:
        return str(int(cell))
    except ValueError as error:
        raise InputError(f"{where} has '{cell}' for the id of a cluster, which is a whole number") from error


def _row(group: Group, uris: dict[str, str]) -> list[object]:
    tried = group.proposal
    figures = ["", ""] if tried is None else [f"{tried.score:.3f}", f"{tried.margin:.3f}"]
    best = _BETWEEN.join(str(one.get("word", one.get("token"))) for one in (tried.best if tried else ()))
    shown = _BETWEEN.join(uris[one] for one in group.prototypes if one in uris)
    return [group.id, group.size, group.name or "", *figures, best, shown]


def _uris(scape: Collection, ids: list[str]) -> dict[str, str]:
    if not ids:
        return {}
    rows = Places(scape).take(numbers_of(np.array(ids, "U16")), ["uri"])
    return dict(zip(rows["image_id"].to_pylist(), rows["uri"].to_pylist(), strict=True))
