"""An audit of a collection with planted faults: each is found, named in its row, and found alike when it came later."""

import shutil

import numpy as np
import pytest
from PIL import Image

from imagescape.audit.quality import ISSUES
from imagescape.collection.ingest import ingest
from imagescape.collection.results import ids_of, sign_features
from imagescape.collection.store import Collection
from imagescape.errors import InputError
from imagescape.pipeline import audit_measures, auditing
from imagescape.pipeline.audit_results import as_dict, audit_columns, write_columns
from imagescape.pipeline.auditing import AuditSettings, audit
from imagescape.pipeline.embedding import embed

PLAIN = 40


def picture(seed, size=(64, 48)):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def plant(folder):
    """Pictures with two labels; copies, a small one, a JPEG; a dark one, a broken file."""
    folder.mkdir(parents=True)
    for seed in range(PLAIN):
        picture(seed).save(folder / f"{seed:02}.png")
    shutil.copy(folder / "00.png", folder / "copy-of-00.png")
    picture(1).save(folder / "01-other-file.png", compress_level=0)
    picture(2).resize((32, 24)).save(folder / "02-small.png")
    picture(3).save(folder / "03-pressed.jpg", quality=60)
    Image.new("RGB", (64, 48), (9, 9, 12)).save(folder / "dark.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def stem(uri):
    return uri.rsplit("/", 1)[-1].rpartition(".")[0]


def give_features(scape, seed=0):
    """Two clear classes; copies near their originals; `39` has the wrong label."""
    rows = scape.read(["image_id", "uri"], where="status = 'ok'")
    stems = [stem(uri) for uri in rows["uri"].to_pylist()]
    kinds = np.array([int(name[-2:] if "of" in name else name[:2]) % 2 if name != "dark" else 0 for name in stems])
    values = []
    for name, kind in zip(stems, kinds, strict=True):
        number = 99 if name == "dark" else int(name[-2:] if "of" in name else name[:2])
        own = np.random.default_rng([seed, number]).normal(0, 0.25, 16)
        values.append(own + 3 * np.eye(16)[kind] + np.random.default_rng(hash(name) % 2**32).normal(0, 0.002, 16))
    labels = ["odd" if (kind == 1) != (name == "39") else "even" for name, kind in zip(stems, kinds, strict=True)]
    splits = ["test" if name in ("copy-of-00", "02-small", "07") else "train" for name in stems]
    ids = rows["image_id"].to_pylist()
    columns = {"features_F": np.array(values, np.float32), "label": labels, "split": splits}
    scape.add_columns(ids, columns, overwrite=True)
    sign_features(scape, "F", {"encoder": "planted"})
    return scape


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    ingest([plant(folder / "images")], folder / "c.scape")
    return give_features(Collection.open(folder / "c.scape"))


@pytest.fixture
def scape(planted, tmp_path):
    shutil.copytree(planted.path, tmp_path / "c.scape")
    return Collection.open(tmp_path / "c.scape")


@pytest.fixture(scope="module")
def found(planted):
    return audit(planted, AuditSettings(similarity=0.995))


def names(scape, audit):
    """The file of each row of an audit, without its ending."""
    uris = scape.read(["uri"], where="status = 'ok'")["uri"].to_pylist()
    return np.array([stem(uri) for uri in uris])


def sets(scape, audit, groups):
    return {frozenset(names(scape, audit)[rows].tolist()) for rows in groups}


class TestFaults:
    def test_equal_pixels(self, planted, found):
        assert sets(planted, found, found.exact) == {
            frozenset({"00", "copy-of-00"}),
            frozenset({"01", "01-other-file"}),
        }

    def test_near_duplicates(self, planted, found):
        assert sets(planted, found, found.groups) >= {
            frozenset({"00", "copy-of-00"}),
            frozenset({"01", "01-other-file"}),
            frozenset({"02", "02-small"}),
            frozenset({"03", "03-pressed"}),
        }
        assert not any({"04", "05"} & one for one in sets(planted, found, found.groups))

    def test_the_largest_stays(self, planted, found):
        removed = names(planted, found)[found.kept.removed].tolist()
        assert "02-small" in removed
        assert "02" not in removed

    def test_copies_across_splits(self, planted, found):
        rows = names(planted, found)[found.leaks.rows_of("test", "train")].tolist()
        assert sorted(rows) == ["02-small", "copy-of-00"]

    def test_quality(self, planted, found):
        assert names(planted, found)[found.quality.rows("dark")].tolist() == ["dark"]

    def test_a_label_that_no_neighbour_has(self, planted, found):
        assert names(planted, found)[found.doubts.rows[0]] == "39"

    def test_what_cannot_be_used(self, found):
        assert found.flagged == 1
        assert len(found) == PLAIN + 5

    def test_it_reads_as_a_report(self, found):
        text = str(found)
        for words in (
            "45 images looked at, 45 of them new; 1 cannot",
            "exact duplicates: 2 groups",
            "of 'test'",
            "dark",
        ):
            assert words in text


class TestColumns:
    def test_every_find_is_in_its_row(self, scape):
        result = audit(scape, AuditSettings(similarity=0.995))
        columns = write_columns(scape, result)
        table = scape.read(["image_id", "uri", "status", *columns]).to_pylist()
        rows = {stem(row["uri"]): row for row in table}
        assert rows["00"]["duplicate_group"] == rows["copy-of-00"]["duplicate_group"]
        assert rows["00"]["exact_group"] is not None
        assert rows["04"]["duplicate_group"] is rows["04"]["duplicate_of"] is None
        assert rows["02-small"]["duplicate_of"] == rows["02"]["image_id"]
        assert (rows["02-small"]["audit_keep"], rows["02"]["audit_keep"]) == (False, True)
        assert rows["02-small"]["leak"] == rows["02"]["image_id"]
        assert rows["39"]["is_label_doubt_issue"]
        assert rows["39"]["label_suggested"] == "odd"
        assert rows["39"]["label_doubt_score"] < 0.3 < rows["04"]["label_doubt_score"]
        assert rows["dark"]["is_dark_issue"]
        assert {f"{issue}_score" for issue in ISSUES} <= set(columns)
        assert all(rows["broken"][column] is None for column in columns)
        scores = [row[name] for row in table for name in columns if name.endswith("_score") and row[name] is not None]
        assert 0 <= min(scores) <= max(scores) <= 1

    def test_another_audit_replaces_them(self, scape):
        write_columns(scape, audit(scape, AuditSettings(similarity=0.995)))
        scape.drop_columns(["split"])
        columns = write_columns(scape, audit(scape, AuditSettings(similarity=0.995)))
        assert "leak" not in scape.columns
        assert set(audit_columns(scape)) == set(columns)

    def test_they_are_known_without_what_an_audit_remembers(self, scape):
        columns = write_columns(scape, audit(scape))
        shutil.rmtree(scape.path / "audit")
        assert set(audit_columns(scape)) == set(columns)
        write_columns(scape, audit(scape))

    def test_a_killed_run_leaves_columns_of_its_own(self, scape, monkeypatch):
        def killed(*rest):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Collection, "annotate", killed)
            with pytest.raises(KeyboardInterrupt):
                write_columns(scape, audit(scape))
        assert "audit_keep" in scape.columns
        assert set(write_columns(scape, audit(scape))) == set(audit_columns(scape))
        assert not (scape.path / "audit" / "columns.json").exists()

    def test_columns_of_the_user_stay(self, scape):
        scape.add_columns(ids_of(scape), {"dark_score": np.arange(len(scape))})
        with pytest.raises(InputError, match="'dark_score' that no audit wrote"):
            write_columns(scape, audit(scape))
        assert scape.read(["dark_score"])["dark_score"].to_pylist() == list(range(len(scape)))
        assert "audit_keep" not in scape.columns

    def test_as_plain_values(self, planted, found):
        plain = as_dict(found)
        rows = planted.read(["image_id", "uri"]).to_pylist()
        ids = {stem(row["uri"]): row["image_id"] for row in rows}
        assert [sorted(one) for one in plain["exact_groups"]].count(sorted([ids["00"], ids["copy-of-00"]])) == 1
        assert plain["quality"]["dark"] == [ids["dark"]]
        assert plain["label_doubts"][0]["image_id"] == ids["39"]
        assert plain["label_doubts"][0]["suggested"] == "odd"
        assert {"image_id": ids["02-small"], "split": "test", "copy": ids["02"], "copy_split": "train"} in plain[
            "leaks"
        ]
        assert ids["02-small"] in plain["remove"]


class TestGrowth:
    def test_only_the_new_is_looked_at(self, scape, tmp_path, monkeypatch):
        settings = AuditSettings(similarity=0.995)
        audit(scape, settings)
        more = tmp_path / "more"
        more.mkdir()
        picture(4).save(more / "04-again.bmp")
        picture(77).save(more / "77.png")
        ingest([more], scape.path)
        give_features(scape)
        seen, real = [], audit_measures._seen
        monkeypatch.setattr(audit_measures, "_seen", lambda image: seen.append(1) or real(image))
        again = audit(scape, settings)
        assert len(seen) == 2
        assert again.compared == len(again)  # the features were made anew
        assert frozenset({"04", "04-again"}) in sets(scape, again, again.exact)
        assert audit(scape, settings).compared == 0

    def test_the_same_is_found_as_at_once(self, tmp_path):
        images = plant(tmp_path / "images")
        late = ("copy-of-00.png", "03-pressed.jpg", "07.png")
        aside = tmp_path / "aside"
        aside.mkdir()
        for name in late:
            shutil.move(images / name, aside / name)
        ingest([images], tmp_path / "grown.scape")
        grown = Collection.open(tmp_path / "grown.scape")
        settings = AuditSettings(bits=4)
        first = audit(grown, settings)
        for name in late:
            shutil.move(aside / name, images / name)
        ingest([images], tmp_path / "grown.scape")
        second = audit(grown, settings)
        assert (first.compared, second.compared) == (PLAIN + 2, 3)
        ingest([images], tmp_path / "fresh.scape")
        fresh = Collection.open(tmp_path / "fresh.scape")
        at_once = audit(fresh, settings)
        for part in ("exact", "groups"):
            assert sets(grown, second, getattr(second, part)) == sets(fresh, at_once, getattr(at_once, part))

    def test_what_is_deleted_is_forgotten(self, scape):
        audit(scape, AuditSettings(similarity=0.995))
        rows = scape.read(["image_id", "uri"]).to_pylist()
        scape.delete([row["image_id"] for row in rows if stem(row["uri"]) == "copy-of-00"])
        after = audit(scape, AuditSettings(similarity=0.995))
        assert after.compared == 0
        assert not any("00" in one for one in sets(scape, after, after.groups))


class TestWithoutFeatures:
    def test_pixels_alone(self, scape):
        scape.drop_columns(["features_F"])
        result = audit(scape)
        assert frozenset({"00", "copy-of-00"}) in sets(scape, result, result.groups)
        assert result.outliers is result.doubts is None
        assert "no features" in " ".join(result.missing)
        assert "is_outlier_issue" not in write_columns(scape, result)

    def test_images_without_are_told(self, scape):
        ids = ids_of(scape)
        values = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
        scape.add_columns(ids[:20], {"features_G": values})
        result = audit(scape, AuditSettings(features="G"))
        assert "25 images have no features 'G'" in " ".join(result.missing)
        assert len(result.outliers.score) == len(result)
        assert np.isnan(result.outliers.score).sum() == 25


def test_neighbours_by_pixels_are_held_against_those_of_the_features(scape):
    alone = audit(scape)
    embed(scape, "pixels32")
    both = audit(scape)
    assert both.settings.features == "F"
    assert "disagreement" not in alone.outliers.measures
    disagreement = both.outliers.measures["disagreement"]
    assert 0.5 < np.nanmean(disagreement) <= 1  # nothing in the pixels speaks of even and odd
    copies = np.isin(names(scape, both), ["00", "copy-of-00"])
    assert disagreement[copies].max() < np.nanmax(disagreement)


def test_near_hashes_with_unlike_features_are_not_believed(scape):
    alike = audit(scape, AuditSettings(similarity=0.995))
    rows = scape.read(["image_id", "uri"], where="status = 'ok'").to_pylist()
    values = scape.read(["features_F"], where="status = 'ok'")["features_F"].to_pylist()
    values = [-np.array(one) if stem(row["uri"]) == "03-pressed" else np.array(one) for one, row in
              zip(values, rows, strict=True)]  # fmt: skip
    scape.add_columns([row["image_id"] for row in rows], {"features_F": np.array(values, np.float32)}, overwrite=True)
    sign_features(scape, "F", {"encoder": "planted"})
    contradicted = audit(scape, AuditSettings(similarity=0.995))
    pressed = frozenset({"03", "03-pressed"})
    assert pressed in sets(scape, alike, alike.groups)
    assert pressed not in sets(scape, contradicted, contradicted.groups)


def test_equal_pixels_are_near_whatever_the_features_say(scape):
    rows = scape.read(["image_id", "uri"], where="status = 'ok'").to_pylist()
    values = np.random.default_rng(0).normal(size=(len(rows), 64)).astype(np.float32)
    scape.add_columns([row["image_id"] for row in rows], {"features_G": values})
    result = audit(scape, AuditSettings(features="G", bits=None, similarity=0.9))
    assert sets(scape, result, result.groups) == sets(scape, result, result.exact)


class TestReference:
    def test_its_images_stay(self, scape, planted, tmp_path):
        more = tmp_path / "reference"
        more.mkdir()
        picture(2).resize((16, 12)).save(more / "tiny.png")
        ingest([more], scape.path)
        give = AuditSettings(bits=6, similarity=None, reference=(str(more),))
        result = audit(scape, give)
        removed = names(scape, result)[result.kept.removed].tolist()
        assert "tiny" not in removed
        assert {"02", "02-small"} <= set(removed)

    def test_no_image_below_it(self, scape):
        with pytest.raises(InputError, match="no image lies in the reference /nowhere"):
            audit(scape, AuditSettings(reference=("/nowhere",)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"features": "none"}, "no features are called 'none'"),
        ({"clusters": "C"}, "no clustering is called 'C'"),
        ({"label": "species"}, "no column is called 'species'"),
        ({"split": "fold"}, "no column is called 'fold'"),
        ({"map_name": "M"}, "no map is called 'M'"),
    ],
)
def test_what_is_not_there(scape, settings, words):
    with pytest.raises(InputError, match=words):
        audit(scape, AuditSettings(**settings))


def test_settings_that_make_no_sense():
    with pytest.raises(InputError, match="by hashes or by features"):
        AuditSettings(bits=None, similarity=None)
    with pytest.raises(InputError, match="neighbors must be at least 1"):
        AuditSettings(neighbors=0)
    with pytest.raises(InputError, match="a threshold is of one of dark"):
        auditing.as_thresholds({"sharp": 0.5})


def test_no_usable_image(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "broken.png").write_bytes(b"no picture")
    ingest([tmp_path / "a"], tmp_path / "c.scape")
    with pytest.raises(InputError, match="no usable image"):
        audit(Collection.open(tmp_path / "c.scape"))


def test_one_image(tmp_path):
    (tmp_path / "a").mkdir()
    picture(0).save(tmp_path / "a" / "0.png")
    ingest([tmp_path / "a"], tmp_path / "c.scape")
    scape = Collection.open(tmp_path / "c.scape")
    scape.add_columns(ids_of(scape), {"features_F": np.ones((1, 3), np.float32)})
    result = audit(scape)
    assert len(result.groups) == 0
    assert "no neighbour" in " ".join(result.missing)
    write_columns(scape, result)
