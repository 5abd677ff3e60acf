"""Words that groups of images may be called by, and which of them are more general than which.

A vocabulary comes from a list of words, or from the nouns of WordNet (G. Miller, WordNet: a lexical database for
English, 1995; the files `data.noun` and `index.noun`, as Debian's package `wordnet-base` puts them into
`/usr/share/wordnet`). Of WordNet we take what a picture can show, one word a meaning, and no families and genera of
animals and plants. Words for kinds of persons are left out, all but "person": many of them judge, and hardly one can be
told from a picture; who needs some gives a list.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from imagescape.errors import InputError

# The lexicographer files of WordNet (lexnames(5WN)) whose nouns a picture can show, by their numbers.
CATEGORIES = {
    5: "animal",
    6: "artifact",
    8: "body",
    11: "event",
    13: "food",
    15: "location",
    17: "object",
    19: "phenomenon",
    20: "plant",
    25: "shape",
    27: "substance",
}
_TOPS = 3  # the file of the most general nouns of all, of which those named like a category are taken
_GROUP = 14  # the file of groups, above families and genera
_PERSON = "person"
_HYPERNYM = "@"  # "@i", of single persons and places, is another pointer


@dataclass(frozen=True)
class Vocabulary:
    """Words, each once, and what lies above them.

    Attributes:
        words: (V,) texts.
        hypernyms: Of each word the rows of the next more general words, none where there is nothing above it. Rows
            never lead back to themselves.

    Raises:
        InputError: there is no word, one comes twice, or the hypernyms do not fit.
    """

    words: tuple[str, ...]
    hypernyms: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.words:
            raise InputError("the vocabulary is empty: give a list with at least one word, or the folder of WordNet")
        if not self.hypernyms:
            object.__setattr__(self, "hypernyms", ((),) * len(self.words))
        if len(self.hypernyms) != len(self.words):
            raise InputError(f"{len(self.words)} words need as many lists of hypernyms, got {len(self.hypernyms)}")
        if len(self._rows) < len(self.words):
            (twice, _), *_ = Counter(word.casefold() for word in self.words).most_common(1)
            raise InputError(f"every word of a vocabulary must be there once, '{twice}' comes twice")

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {word.casefold(): row for row, word in enumerate(self.words)}

    @cached_property
    def _hyponyms(self) -> tuple[tuple[int, ...], ...]:
        below: list[list[int]] = [[] for _ in self.words]
        for row, above in enumerate(self.hypernyms):
            for one in above:
                below[one].append(row)
        return tuple(map(tuple, below))

    def row(self, word: str) -> int | None:
        """Where a word is, in whatever case; None where it is not."""
        return self._rows.get(word.casefold())

    def below(self, row: int) -> np.ndarray:
        """Rows of the word itself and of all that are kinds of it, ascending."""
        return _reached(row, self._hyponyms)

    def above(self, row: int) -> np.ndarray:
        """Rows of the word itself and of all that it is a kind of, ascending."""
        return _reached(row, self.hypernyms)

    @cached_property
    def covered(self) -> np.ndarray:
        """(V,) how many words each one covers: itself and all that are kinds of it."""
        covered = np.zeros(len(self.words), np.int64)
        for row in range(len(self.words)):
            covered[self.above(row)] += 1
        return covered

    def joined(self, words: Iterable[str]) -> "Vocabulary":
        """This vocabulary and more words, which have nothing above or below them; those it has stay as they are."""
        new = {word.casefold(): word for word in words if self.row(word) is None}
        return Vocabulary((*self.words, *new.values()), (*self.hypernyms, *((),) * len(new)))


def _reached(row: int, steps: tuple[tuple[int, ...], ...]) -> np.ndarray:
    found, ahead = {row}, [row]
    while ahead:
        for one in steps[ahead.pop()]:
            if one not in found:
                found.add(one)
                ahead.append(one)
    return np.array(sorted(found))


def read_words(path: Path) -> Vocabulary:
    """The words of a text file, one a line; empty lines and those that begin with # say nothing, repeated ones once.

    Raises:
        InputError: the file cannot be read, is not UTF-8, or has no word.
    """
    lines = _lines(path, "utf-8-sig", "a list of words, one a line")
    words = [line.strip() for line in lines if not line.lstrip().startswith("#")]
    if not (found := list({word.casefold(): word for word in words if word}.values())):
        raise InputError(f"the vocabulary is empty: '{path}' has no word; write one a line")
    return Vocabulary(tuple(found))


def read_wordnet(folder: Path, also: Iterable[str] = ()) -> Vocabulary:
    """The nouns of WordNet that a picture can show, each meaning by the first word that usually means it.

    Args:
        folder: With `data.noun` and `index.noun`, of WordNet 3.
        also: More words. One that WordNet has as a synonym takes the place of the word it would have used; one that
            it has not stands alone.

    Raises:
        InputError: a file is missing or not of that format.
    """
    meanings = dict(_meanings(folder / "data.noun"))
    usual = dict(_usual_meanings(folder / "index.noun", _shown(meanings)))
    wanted = {word.casefold(): word for word in also}
    names: dict[int, str] = {}
    for offset, meaning in meanings.items():
        own = [word for word in meaning.words if usual.get(word.casefold()) == offset]
        if own:
            names[offset] = next((wanted[word.casefold()] for word in own if word.casefold() in wanted), own[0])
    rows = {offset: row for row, offset in enumerate(names)}
    above = tuple(tuple(rows[one] for one in _nearest_named(offset, meanings, rows)) for offset in names)
    return Vocabulary(tuple(names.values()), above).joined(wanted.values())


@dataclass(frozen=True, slots=True)
class _Meaning:
    """A synset."""

    file: int
    words: tuple[str, ...]
    hypernyms: tuple[int, ...]
    is_single: bool  # this person, this place


def _meanings(path: Path) -> Iterator[tuple[int, _Meaning]]:
    """All synsets by their offset, see wndb(5WN)."""
    for number, line in enumerate(_lines(path, "ascii", "a file of WordNet 3"), start=1):
        if not line or line.startswith("  "):  # the licence
            continue
        try:
            fields = line.partition(" | ")[0].split()
            count = int(fields[3], 16)
            words = tuple(word.replace("_", " ") for word in fields[4 : 4 + 2 * count : 2])
            pointers = fields[5 + 2 * count :]
            symbols, targets = pointers[0::4], pointers[1::4]
            if len(words) != count or len(targets) != int(fields[4 + 2 * count]):
                raise ValueError("fields are missing")
            above = tuple(int(to) for symbol, to in zip(symbols, targets, strict=True) if symbol == _HYPERNYM)
            yield int(fields[0]), _Meaning(int(fields[1]), words, above, "@i" in symbols)
        except (IndexError, ValueError) as error:
            raise InputError(f"line {number} of '{path}' is not of WordNet's format: {error}") from error


def _shown(meanings: Mapping[int, _Meaning]) -> set[int]:
    """Those that a picture can show, and that are kinds of things: no single ones, and no kinds of groups."""
    groups: dict[int, bool] = {}

    def is_group(offset: int) -> bool:
        if offset not in groups:
            meaning = meanings.get(offset)
            groups[offset] = meaning is not None and (meaning.file == _GROUP or any(map(is_group, meaning.hypernyms)))
        return groups[offset]

    tops = {_PERSON, *CATEGORIES.values()}
    return {
        offset
        for offset, meaning in meanings.items()
        if (meaning.words[0] in tops if meaning.file == _TOPS else meaning.file in CATEGORIES)
        and not (meaning.is_single or is_group(offset))
    }


def _usual_meanings(path: Path, shown: set[int]) -> Iterator[tuple[str, int]]:
    """Each word with the most usual of its meanings that a picture can show."""
    for number, line in enumerate(_lines(path, "ascii", "a file of WordNet 3"), start=1):
        if not line or line.startswith("  "):
            continue
        try:
            fields = line.split()
            senses = [int(offset) for offset in fields[-int(fields[2]) :]]  # the most usual first
        except (IndexError, ValueError) as error:
            raise InputError(f"line {number} of '{path}' is not of WordNet's format: {error}") from error
        if seen := [offset for offset in senses if offset in shown]:
            yield fields[0].replace("_", " ").casefold(), seen[0]


def _nearest_named(offset: int, meanings: Mapping[int, _Meaning], rows: Mapping[int, int]) -> list[int]:
    """The next meanings above one that have a word here, past those that have none."""
    found: dict[int, None] = {}
    ahead = [*meanings[offset].hypernyms]
    while ahead:
        one = ahead.pop(0)
        if one in rows:
            found[one] = None
        elif one in meanings:
            ahead += meanings[one].hypernyms
    return list(found)


def _lines(path: Path, encoding: str, what: str) -> list[str]:
    try:
        return path.read_text(encoding=encoding).split("\n")
    except OSError as error:
        raise InputError(f"'{path}' cannot be read as {what}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' is not {what}: it is no {encoding.removesuffix('-sig')} text ({error})") from error
