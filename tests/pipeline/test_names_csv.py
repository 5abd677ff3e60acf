"""The names as a table: out, corrected by a person, and in again."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagescape.collection.ingest import ingest
from imagescape.collection.results import ids_of
from imagescape.collection.store import Collection
from imagescape.errors import InputError
from imagescape.pipeline import names_csv
from imagescape.pipeline.names_csv import COLUMNS, export_names, import_names, read_names
from imagescape.pipeline.names_record import Group, Naming
from imagescape.pipeline.naming import name_clusters, naming_of


@pytest.fixture
def scape(tmp_path):
    """Twelve images in the clusters 0, 1 and 5, whose features are numbers on a line."""
    ingest([np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)], tmp_path / "c.scape")
    scape = Collection.open(tmp_path / "c.scape")
    labels = np.repeat([0, 1, 5], 4)
    columns = {"cluster_C": labels, "features_f": np.c_[10.0 * labels + np.arange(12) % 4, np.zeros(12)]}
    scape.add_columns(ids_of(scape), columns | {"tag": [["fox", "sea", "oak"][i // 4] for i in range(12)]})
    (scape.path / "models" / "C").mkdir()
    (scape.path / "models" / "C" / "config.json").write_text(json.dumps({"format_version": 2, "features": "f"}))
    return scape


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path, rows, columns=("id", "name"), delimiter=","):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([columns, *rows])
    return path


def names(scape):
    return {group.id: group.name for group in naming_of(scape, "C").groups}


class TestExport:
    def test_columns(self, scape, tmp_path):
        done = name_clusters(scape, "C", metadata=["tag"], names={"1": "deep, blue\nsea"})
        assert export_names(scape, "C", tmp_path / "out" / "names.csv") == 3
        rows = rows_of(tmp_path / "out" / "names.csv")
        assert tuple(rows[0]) == COLUMNS == ("id", "size", "name", "score", "margin", "top words", "prototypes")
        assert [row["id"] for row in rows] == ["0", "1", "5"]
        assert [row["size"] for row in rows] == ["4", "4", "4"]
        assert [row["name"] for row in rows] == [
            done.groups[0].name or "",
            "deep, blue\nsea",
            done.groups[2].name or "",
        ]
        first = done.groups[0].metadata
        assert (rows[0]["score"], rows[0]["margin"]) == (f"{first.score:.3f}", f"{first.margin:.3f}")
        assert rows[0]["top words"] == "fox"
        uris = {row["image_id"]: row["uri"] for row in scape.read(["image_id", "uri"]).to_pylist()}
        assert rows[2]["prototypes"].split(" | ") == [uris[one] for one in done.groups[2].prototypes]

    def test_before_anything_was_named(self, scape, tmp_path):
        export_names(scape, "C", tmp_path / "names.csv")
        rows = rows_of(tmp_path / "names.csv")
        assert [row["name"] for row in rows] == ["", "", ""]
        assert all(len(row["prototypes"].split(" | ")) == 4 for row in rows)
        assert "cluster_C_name" not in scape.columns

    def test_refused(self, scape, tmp_path):
        with pytest.raises(InputError, match=r"ends in .csv, got '.*names.txt'"):
            export_names(scape, "C", tmp_path / "names.txt")
        with pytest.raises(InputError, match="no clustering is called 'D'"):
            export_names(scape, "D", tmp_path / "names.csv")


class TestImport:
    def test_corrections(self, scape, tmp_path):
        name_clusters(scape, "C", names={"0": "fox", "5": "oak"})
        path = tmp_path / "names.csv"
        export_names(scape, "C", path)
        rows = rows_of(path)
        rows[1]["name"], rows[2]["name"] = "fox", ""
        write(path, [[row["id"], row["name"]] for row in rows])
        done = import_names(scape, "C", path)
        assert (done.changed, done.unchanged) == ((1, 5), 1)
        assert names(scape) == {0: "fox", 1: "fox", 5: None}
        table = scape.read(["cluster_C", "cluster_C_name"]).to_pylist()
        assert {(row["cluster_C"], row["cluster_C_name"]) for row in table} == {(0, "fox"), (1, "fox"), (5, None)}

    def test_unchanged_names_stay_whose_they_are(self, scape, tmp_path):
        """A table that nobody touched makes nothing a person's word."""
        name_clusters(scape, "C", metadata=["tag"])
        before = naming_of(scape, "C")
        export_names(scape, "C", tmp_path / "names.csv")
        done = import_names(scape, "C", tmp_path / "names.csv")
        assert (done.changed, done.unchanged) == ((), 3)
        assert naming_of(scape, "C").groups == before.groups

    def test_a_name_taken_away_stays_away(self, scape, tmp_path):
        labels = np.repeat([0, 1], 30)
        ingest([np.random.default_rng(1).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)], tmp_path / "d.scape")
        other = Collection.open(tmp_path / "d.scape")
        other.add_columns(ids_of(other), {"cluster_C": labels, "tag": ["fox"] * 30 + ["sea"] * 30})
        assert names(other) == {0: None, 1: None}
        name_clusters(other, "C", metadata=["tag"])
        assert names(other) == {0: "fox", 1: "sea"}
        import_names(other, "C", write(tmp_path / "names.csv", [["0", ""]]))
        name_clusters(other, "C", metadata=["tag"])
        assert names(other) == {0: None, 1: "sea"}

    def test_some_clusters_only(self, scape, tmp_path):
        name_clusters(scape, "C", names={"0": "fox"})
        import_names(scape, "C", write(tmp_path / "names.csv", [["5", "oak"]]))
        assert names(scape) == {0: "fox", 1: None, 5: "oak"}

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    def test_as_spreadsheets_write_it(self, scape, tmp_path, delimiter):
        path = write(
            tmp_path / "names.csv", [["x", "0", "bær, öl; 日本"], ["", "", ""]], ("note", "ID", " Name "), delimiter
        )
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        import_names(scape, "C", path)
        assert names(scape)[0] == "bær, öl; 日本"

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("id,name\n0,fox\n9,sea\n8,oak\n", r"names clusters that 'C' does not have \(9, 8\); is it of another one"),
            ("id,name\n0,fox\n0,sea\n", "line 3 of .* names cluster 0 again"),
            ("id,name\n0,fox\nx,sea\n", "line 3 of .* has 'x' for the id of a cluster"),
            ("id,name\n0,fox\n1\n", "line 3 of .* has 1 fields instead of 2"),
            ("id,name\n0,fox,sea\n", "line 2 of .* has 3 fields instead of 2"),
            ('id,name\n0,fox\n1,"sea\n', "is damaged: unexpected end of data"),
            ('id,name\n0,"fox"x\n', "line 2 of .* is damaged"),
            ("cluster,called\n0,fox\n", "needs the columns id and name, each once; it has: cluster, called"),
            ("id,name,name\n0,fox,sea\n", "needs the columns id and name, each once"),
            ("", "needs the columns id and name, each once; it has: none"),
            ("id,name\n", "has no names"),
            ("id,name\n0,a\x07b\n", "the name of cluster 0 in line 2 of .* holds a sign that cannot be shown"),
        ],
    )
    def test_damaged(self, scape, tmp_path, content, message):
        name_clusters(scape, "C", names={"0": "before"})
        path = tmp_path / "names.csv"
        path.write_text(content, encoding="utf-8", newline="")
        with pytest.raises(InputError, match=message):
            import_names(scape, "C", path)
        assert names(scape)[0] == "before"

    def test_not_utf8_and_not_there(self, scape, tmp_path):
        (tmp_path / "names.csv").write_bytes("id,name\n0,Bär\n".encode("latin-1"))
        with pytest.raises(InputError, match=r"is not UTF-8 .*; save it as CSV in UTF-8"):
            import_names(scape, "C", tmp_path / "names.csv")
        with pytest.raises(InputError, match="cannot be read: No such file"):
            import_names(scape, "C", tmp_path / "nothing.csv")


TEXTS = st.text(st.characters(blacklist_categories=("Cc", "Cs")) | st.sampled_from(",;\"'\n\t|=é日🦊"), max_size=20)


@settings(max_examples=100)
@given(st.dictionaries(st.integers(0, 10**6), TEXTS.map(str.strip), min_size=1, max_size=6))
def test_any_name_survives_the_way(tmp_path_factory, told):
    """Commas, quotes, lines, any script: what was written is what is read."""
    path = tmp_path_factory.mktemp("csv") / "names.csv"
    groups = tuple(Group(id=key, size=3, person=name, name=name or None, source="person") for key, name in told.items())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names_csv, "naming_of", lambda *_: Naming(clusters="C", groups=groups))
        export_names(SimpleNamespace(), "C", path)
    assert read_names(path) == {str(key): name for key, name in told.items()}
