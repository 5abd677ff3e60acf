"""Vocabularies: lists, WordNet's files written by hand, and the real ones where they are installed."""

from pathlib import Path

import pytest

from imagescape.cluster.vocabulary import Vocabulary, read_wordnet, read_words
from imagescape.errors import InputError

WORDNET = Path("/usr/share/wordnet")
LICENCE = "  1 This software and database is being provided to you ...\n  2 and more of it\n"

# offset: (lexicographer file, words, pointers)
SYNSETS = {
    1: (3, ["entity"], []),
    2: (3, ["animal", "beast"], [("@", 1)]),
    3: (5, ["feline", "felid"], [("@", 2), ("~", 4)]),
    4: (5, ["cat", "true_cat"], [("@", 3)]),
    5: (5, ["tabby"], [("@", 4)]),
    6: (5, ["crane"], [("@", 2)]),
    7: (6, ["crane"], [("@", 10)]),
    8: (18, ["Crane", "Stephen_Crane"], [("@i", 9)]),
    9: (3, ["person", "individual"], [("@", 1)]),
    10: (6, ["device"], [("@", 11), ("%p", 7)]),
    11: (3, ["artifact"], [("@", 1)]),
    12: (18, ["loser"], [("@", 9)]),
    13: (9, ["idea"], [("@", 1)]),
    14: (6, ["car", "auto", "motorcar"], [("@", 10), ("@", 11)]),
    15: (15, ["Paris"], [("@i", 16)]),
    16: (15, ["city"], [("@", 1)]),
    17: (6, ["gadget"], [("@", 13), ("@", 10)]),
    18: (5, ["Felis", "genus_Felis"], [("@", 19)]),
    19: (5, ["mammal_genus"], [("@", 20)]),
    20: (14, ["genus"], [("@", 1)]),
}
# The most usual meaning first; the writer, the bird, the machine.
SENSES = {"crane": [8, 6, 7]}


def write_wordnet(folder, synsets=SYNSETS, senses=SENSES):
    """In the format of wndb(5WN)."""
    data, index = [], {}
    for offset, (file, words, pointers) in synsets.items():
        listed = " ".join(f"{word} 0" for word in words)
        to = "".join(f" {symbol} {target:08} n 0000" for symbol, target in pointers)
        data.append(f"{offset:08} {file:02} n {len(words):02x} {listed} {len(pointers):03}{to} | a gloss @ of it \n")
        for word in words:
            index.setdefault(word.lower(), []).append(offset)
    lines = []
    for word, found in sorted((index | senses).items()):
        offsets = " ".join(f"{offset:08}" for offset in found)
        lines.append(f"{word} n {len(found)} 2 @ ~ {len(found)} 1 {offsets}  \n")
    folder.mkdir(exist_ok=True)
    (folder / "data.noun").write_text(LICENCE + "".join(data), encoding="ascii")
    (folder / "index.noun").write_text(LICENCE + "".join(lines), encoding="ascii")
    return folder


def above(vocabulary, word):
    return {vocabulary.words[row] for row in vocabulary.above(vocabulary.row(word))} - {word}


class TestVocabulary:
    def test_above_and_below_by_hand(self):
        #        0 animal; 1 cat and 2 pet above 3 tabby; 4 car
        kinds = Vocabulary(("animal", "cat", "pet", "tabby", "car"), ((), (0,), (0,), (1, 2), ()))
        assert kinds.below(0).tolist() == [0, 1, 2, 3]
        assert kinds.above(3).tolist() == [0, 1, 2, 3]
        assert kinds.below(4).tolist() == kinds.above(4).tolist() == [4]
        assert kinds.covered.tolist() == [4, 2, 2, 1, 1]
        assert [len(kinds.below(row)) for row in range(5)] == kinds.covered.tolist()
        assert (kinds.row("TABBY"), kinds.row("lion"), len(kinds)) == (3, None, 5)

    def test_more_words_stand_alone(self):
        kinds = Vocabulary(("animal", "cat"), ((), (0,))).joined(["boat", "Cat", "car", "BOAT"])
        assert kinds.words == ("animal", "cat", "BOAT", "car")
        assert kinds.hypernyms == ((), (0,), (), ())

    @pytest.mark.parametrize(
        ("words", "hypernyms", "message"),
        [
            ((), (), "the vocabulary is empty"),
            (("a", "b", "A"), (), "'a' comes twice"),
            (("a", "b"), ((),), "2 words need as many lists of hypernyms, got 1"),
        ],
    )
    def test_refused(self, words, hypernyms, message):
        with pytest.raises(InputError, match=message):
            Vocabulary(words, hypernyms)


class TestList:
    def test_lines(self, tmp_path):
        file = tmp_path / "words.txt"
        file.write_bytes("\ufeffsea lion\r\n\n# no word\n  köttur  \nSea Lion\n日本\n".encode())
        assert read_words(file).words == ("Sea Lion", "köttur", "日本")

    @pytest.mark.parametrize("content", [b"", b"\n \n# only this\n"])
    def test_empty(self, tmp_path, content):
        (tmp_path / "w.txt").write_bytes(content)
        with pytest.raises(InputError, match=r"the vocabulary is empty: '.*w.txt' has no word; write one a line"):
            read_words(tmp_path / "w.txt")

    def test_not_there_and_not_text(self, tmp_path):
        with pytest.raises(InputError, match="cannot be read as a list of words, one a line: No such file"):
            read_words(tmp_path / "none.txt")
        (tmp_path / "w.txt").write_bytes(b"caf\xe9\n")
        with pytest.raises(InputError, match="it is no utf-8 text"):
            read_words(tmp_path / "w.txt")


class TestWordNet:
    @pytest.fixture
    def nouns(self, tmp_path):
        return read_wordnet(write_wordnet(tmp_path / "wn"))

    def test_what_a_picture_can_show(self, nouns):
        assert set(nouns.words) == {
            "animal", "feline", "cat", "tabby", "crane", "person", "device", "artifact", "car", "city", "gadget",
        }  # fmt: skip

    def test_what_is_above(self, nouns):
        assert above(nouns, "tabby") == {"cat", "feline", "animal"}
        assert above(nouns, "car") == {"device", "artifact"}  # by two ways
        assert above(nouns, "city") == set()

    def test_a_word_means_its_most_usual_meaning_that_can_be_seen(self, nouns):
        """The bird: the writer is no kind of thing, and the machine, whose only word this is, is left out."""
        assert above(nouns, "crane") == {"animal"}

    def test_past_what_has_no_word(self, nouns):
        """A gadget is an idea, which cannot be seen, and a device."""
        assert above(nouns, "gadget") == {"device", "artifact"}

    def test_own_words_join(self, tmp_path):
        nouns = read_wordnet(write_wordnet(tmp_path / "wn"), also=["Auto", "zeppelin", "cat"])
        assert "car" not in nouns.words
        assert above(nouns, "Auto") == {"device", "artifact"}
        assert above(nouns, "zeppelin") == set()
        assert nouns.words.count("cat") == 1
        assert nouns.words[-1] == "zeppelin"

    @pytest.mark.parametrize("file", ["data.noun", "index.noun"])
    def test_files_that_are_not_there_or_of_another_kind(self, tmp_path, file):
        folder = write_wordnet(tmp_path / "wn")
        good = (folder / file).read_text()
        for bad in ("nonsense\n", good.splitlines()[2][:9] + "\n"):
            (folder / file).write_text(LICENCE + bad)
            with pytest.raises(InputError, match=rf"line 3 of '.*{file}' is not of WordNet's format"):
                read_wordnet(folder)
        (folder / file).write_bytes(b"\xff\xfe")
        with pytest.raises(InputError, match="is not a file of WordNet 3"):
            read_wordnet(folder)
        (folder / file).unlink()
        with pytest.raises(InputError, match=rf"{file}' cannot be read as a file of WordNet 3: No such file"):
            read_wordnet(folder)

    def test_nothing_to_see(self, tmp_path):
        folder = write_wordnet(tmp_path / "wn", {13: SYNSETS[13]}, {})
        with pytest.raises(InputError, match="the vocabulary is empty"):
            read_wordnet(folder)

    def test_the_real_one(self):
        if not (WORDNET / "data.noun").exists():
            pytest.skip("the Debian package wordnet-base is not installed")
        nouns = read_wordnet(WORDNET)
        assert 20_000 < len(nouns) < 60_000
        assert above(nouns, "tabby") >= {"domestic cat", "cat", "feline", "carnivore", "mammal", "animal"}
        assert {"truck", "airplane", "frog", "person", "mushroom"} <= set(nouns.words)
        assert not {"loser", "idea", "Paris", "entity", "Felis", "mammal genus"} & set(nouns.words)
        assert above(nouns, "crane") & {"bird", "artifact"}
        covered = dict(zip(nouns.words, nouns.covered / len(nouns), strict=True))
        assert covered["animal"] < 0.15 < covered["artifact"]
