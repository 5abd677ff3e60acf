"""`audit`: what is wrong with a collection. Rows are those of its usable images, in table order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, get_args

import numpy as np

from imagescape.audit.displaced import DisplacedSubgroups, displaced_subgroups
from imagescape.audit.duplicates import Duplicates
from imagescape.audit.feature_pairs import feature_pairs
from imagescape.audit.groups import Groups, exact_groups
from imagescape.audit.hash_pairs import hash_pairs
from imagescape.audit.keep import KeepRule, Kept, keep
from imagescape.audit.label_doubts import LabelDoubts, label_doubts
from imagescape.audit.leaks import Leaks, leaks
from imagescape.audit.outliers import Outliers, outliers
from imagescape.audit.pairs import Pairs
from imagescape.audit.quality import Quality, Thresholds, judge
from imagescape.collection.clusterings import cluster_labels, clustering_names
from imagescape.collection.results import check_features, classes, feature_names, features_identity, ids_of, map_coords
from imagescape.collection.results import map_names as names_of_maps
from imagescape.collection.store import Collection
from imagescape.collection.vectors import Vectors, numbers_of
from imagescape.errors import InputError
from imagescape.evaluate.neighbors import Neighbors, nearest_others
from imagescape.pipeline.audit_measures import HASH, Seen, see
from imagescape.pipeline.audit_memory import places_among, remembered_nearest, remembered_pairs
from imagescape.runtime import track

BITS = 4
SIMILARITY = 0.9

# Pictures of one brightness pattern, such as dark birds and planes before an empty sky, have near hashes too. Where
# there are features, hashes alone are not believed if these are more than so many times as far apart as is allowed.
_CONTRADICTS = 3

_MEASURED = 8192  # pairs at a time

# What equal hashes are, as a share of the distance that is allowed: they are near, and no proof of equal pictures.
_EQUAL_HASH = 0.2


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """What is looked for, and how.

    Attributes:
        features: Whose neighbours count; None: the last of a network, and without any only what the audit sees itself.
        bits: Of the 64 of a perceptual hash, how many may differ between near-duplicates; None: hashes are left out.
        similarity: Least cosine of the features of near-duplicates; None: features are left out. Of networks trained on
            photographs, .9 shows the same picture nearly always, .85 half of the time.
        keep: Which of a group of duplicates stays, see `audit.keep`.
        reference: Folders whose images stay before others, the most preferred first.
        split: A column that says which part of the data an image is in; None: `split`, if there is one.
        label: A column of classes; None: `label_name` or `label`, if there is one.
        clusters: A clustering; None: none.
        map_name: A map, whose neighbours are held against those of the features; None: the last, if there is one. So
            are those of the pixels where `embed --encoder pixels32` made some.
        neighbors: Of each image that are asked.
        oddity: In deviations, from which an image is an outlier; see `audit.outliers`.
        doubt: Confidence from which a label is doubted.
        thresholds: Of quality.
        seed: Settles random choices.
        device: Where features are compared.
    """

    features: str | None = None
    bits: int | None = BITS
    similarity: float | None = SIMILARITY
    keep: KeepRule = "largest"
    reference: tuple[str, ...] = ()
    split: str | None = None
    label: str | None = None
    clusters: str | None = None
    map_name: str | None = None
    neighbors: int = 15
    oddity: float = 2.5
    doubt: float = 0.7
    thresholds: Thresholds = field(default_factory=Thresholds)
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.bits is None and self.similarity is None:
            raise InputError("near-duplicates are found by hashes or by features: give bits or a similarity")
        if self.keep not in get_args(KeepRule):
            raise InputError(f"keep must be one of {', '.join(get_args(KeepRule))}, got '{self.keep}'")
        if self.neighbors < 1:
            raise InputError(f"neighbors must be at least 1, got {self.neighbors}")


@dataclass(frozen=True, eq=False, kw_only=True)
class Audit:
    """What was found. Rows are positions in `ids`.

    Attributes:
        ids: Of the usable images, (n,) int64.
        settings: What was asked for, with what was chosen.
        exact: Images whose pixels are the same to the last bit.
        duplicates: Near pairs, to be cut again: `duplicates.at(…)`.
        groups: Groups of near-duplicates, exact ones among them.
        kept: Which of them stay.
        leaks: Copies across splits; None where there are no splits.
        quality: Scores and issues.
        outliers: Oddities; None without features.
        doubts: Doubtful labels; None without features or labels.
        displaced: Clumps of one label in another's region; None as `doubts`.
        compared: Images that were new to this audit, and were compared with all.
        flagged: Images of the collection that cannot be used.
        missing: What could not be looked for, and why.
    """

    ids: np.ndarray
    settings: AuditSettings
    exact: Groups
    duplicates: Duplicates
    groups: Groups
    kept: Kept
    leaks: Leaks | None
    quality: Quality
    outliers: Outliers | None
    doubts: LabelDoubts | None
    displaced: DisplacedSubgroups | None
    compared: int
    flagged: int
    missing: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def __str__(self) -> str:
        lines = [f"{len(self):,} images looked at, {self.compared:,} of them new; {self.flagged:,} cannot be used"]
        lines += [f"exact duplicates: {self.exact}", f"near-duplicates ({self.rule}): {self.groups}", f"{self.kept}"]
        for part in (self.leaks, self.quality, self.outliers, self.doubts, self.displaced):
            if part is not None:
                lines += ["", str(part)]
        return "\n".join([*lines, *(f"\nnot looked for: {one}" for one in self.missing)])

    @property
    def rule(self) -> str:
        """What makes two images near-duplicates, in words."""
        rules = []
        if self.settings.bits is not None:
            rules.append(f"at most {self.settings.bits} of 64 bits of a perceptual hash differ")
        if self.settings.similarity is not None:
            rules.append(f"cosine of {self.settings.features} at least {self.settings.similarity:g}")
        return ", or ".join(rules)


def audit(scape: Collection, settings: AuditSettings | None = None) -> Audit:
    """Look for duplicates, leaks, bad images, oddities and doubtful labels. Nothing is changed or deleted.

    What needs every picture or all pairs of them is remembered in `audit/` of the collection: of a collection that
    grew only what is new is looked at, against everything.

    Args:
        scape: The collection.
        settings: None for the defaults.

    Raises:
        InputError: no usable image, or features, columns, a clustering or a map that are not there.
    """
    work = _Work(scape, _chosen(scape, settings or AuditSettings()))
    duplicates, compared = work.duplicates()
    groups = duplicates.at(duplicates.pairs.loosest)
    doubts, displaced = work.labels()
    return Audit(
        ids=work.ids,
        settings=work.settings,
        exact=work.exact,
        duplicates=duplicates,
        groups=groups,
        kept=work.keep(groups),
        leaks=work.leaks(duplicates),
        quality=judge(work.seen.measurements, work.settings.thresholds),
        outliers=work.outliers(),
        doubts=doubts,
        displaced=displaced,
        compared=compared,
        flagged=len(scape) - len(work.ids),
        missing=tuple(work.missing),
    )


def _chosen(scape: Collection, settings: AuditSettings) -> AuditSettings:
    """The settings with everything that was left open."""

    def default(given: str | None, *names: str) -> str | None:
        return given or next((name for name in names if name in scape.columns), None)

    features = settings.features
    if features is None:
        floats = [one for one in feature_names(scape) if not (_are_bits(scape, one) or _is_pixels(scape, one))]
        if not floats and settings.bits is None:
            raise InputError(
                f"'{scape.path}' has no features of a network; make some: imagescape embed {scape.path.name}"
            )
        features = floats[-1] if floats else None
    else:
        check_features(scape, features)
        if _are_bits(scape, features):
            raise InputError(
                f"'{features}' are hashes; an audit hashes the images itself, and takes features of a network"
            )
    similarity = settings.similarity if features else None
    return replace(
        settings,
        features=features,
        similarity=similarity,
        split=default(settings.split, "split"),
        label=default(settings.label, "label_name", "label"),
        map_name=settings.map_name or next(iter(reversed(names_of_maps(scape))), None),
    )


def _are_bits(scape: Collection, name: str) -> bool:
    return str(scape.schema.field(f"features_{name}").type.value_type) == "uint8"


def _is_pixels(scape: Collection, name: str) -> bool:
    """Whether features are the pixels themselves: another view of an image, and none of what is in it."""
    return features_identity(scape, name).get("encoder", "").startswith("pixels")


class _Work:
    """The columns that an audit looks at, each read once."""

    def __init__(self, scape: Collection, settings: AuditSettings) -> None:
        self.scape, self.settings = scape, settings
        self.missing: list[str] = []
        self.seen: Seen = see(scape)
        self.ids = self.seen.ids
        if not len(self.ids):
            raise InputError(f"'{scape.path}' has no usable image; see: imagescape info {scape.path.name} --flagged")
        everywhere = numbers_of(ids_of(scape))
        self._rows = places_among(everywhere, self.ids)  # of the table's rows, those of this audit; -1 for the others
        self._table = np.argsort(np.where(self._rows < 0, len(everywhere), self._rows))[: len(self.ids)]
        if settings.features is None:
            self.missing.append("outliers and doubtful labels: there are no features; make some: imagescape embed")

    def column(self, values: np.ndarray) -> np.ndarray:
        """Of values in table order, those of this audit's rows."""
        return values[self._table]

    @cached_property
    def exact(self) -> Groups:
        return exact_groups(self.seen.pixel_keys)

    @cached_property
    def features(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows that have features (m,), and these, (m, d)."""
        assert self.settings.features is not None
        rows, values = self._vectors(self.settings.features)
        if len(rows) < len(self.ids):
            self.missing.append(
                f"{len(self.ids) - len(rows):,} images have no features '{self.settings.features}': embed again"
            )
        return rows, values

    def _vectors(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        vectors = Vectors(self.scape, name)
        places = places_among(vectors.ids, self.ids)
        return places[places >= 0], vectors.values()[places >= 0]

    def _made_by(self, name: str) -> str:
        return features_identity(self.scape, name).get("written", "")

    def duplicates(self) -> tuple[Duplicates, int]:
        """Near pairs, and how many images were compared now."""
        found, compared = [], 0
        if self.settings.bits is not None:
            pairs, compared = self._by_hash(self.settings.bits)
            found.append(self._uncontradicted(pairs))
        if self.settings.similarity is not None and len(self.features[0]) > 1:
            pairs, also = self._by_features(self.settings.similarity)
            found, compared = [*found, pairs], max(compared, also)
        if len(found) > 1:
            found = [found[0].relative(_EQUAL_HASH), found[1].relative()]
        return Duplicates(len(self.ids), Pairs.concatenate([*found, self._twins(found[0])])), compared

    def _twins(self, like: Pairs) -> Pairs:
        """Images with the same pixels, which are near whatever hashes and features say."""
        groups = self.exact
        near = {"metric": like.metric, "radius": like.radius, "limit": like.limit}
        others = np.ones(len(groups.rows), bool)
        others[groups.starts[:-1]] = False
        centers, rows = groups.centers[groups.positions][others], groups.rows[others]
        return Pairs.of(centers, rows, np.zeros(len(rows)), **near)  # type: ignore[arg-type]

    def _by_hash(self, bits: int) -> tuple[Pairs, int]:
        def search(new: np.ndarray | None, threshold: float) -> Pairs:
            with track("comparing hashes", 100, unit="%") as progress:
                return hash_pairs(self.seen.hashes, int(threshold), new=new, advance=_percent(progress.advance))

        return remembered_pairs(
            self.scape, HASH, self.ids, search, threshold=bits, metric="hamming", of="measured by the audit"
        )

    def _by_features(self, similarity: float) -> tuple[Pairs, int]:
        rows, values = self.features
        name = self.settings.features
        assert name is not None

        def search(new: np.ndarray | None, threshold: float) -> Pairs:
            with track(f"comparing {name}", 100, unit="%") as progress:
                return feature_pairs(values, threshold, new=new, advance=_percent(progress.advance))

        pairs, compared = remembered_pairs(
            self.scape, name, self.ids[rows], search, threshold=similarity, metric="cosine", of=self._made_by(name)
        )
        return pairs.moved(rows), compared

    def _uncontradicted(self, pairs: Pairs) -> Pairs:
        """Near hashes whose features are not far apart; where an image has none, the hash is believed."""
        if self.settings.similarity is None:
            return pairs
        rows, values = self.features
        place = np.full(len(self.ids), -1)
        place[rows] = np.arange(len(rows))
        first, second = place[pairs.first], place[pairs.second]
        known = np.flatnonzero((first >= 0) & (second >= 0))
        far = np.zeros(len(pairs), bool)
        for some in np.array_split(known, -(-len(known) // _MEASURED) or 1):
            a, b = (values[side[some]].astype(np.float32) for side in (first, second))
            lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            cosine = (a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1)
            far[some] = 1 - cosine > _CONTRADICTS * (1 - self.settings.similarity)
        return pairs.where(~far)

    @cached_property
    def graph(self) -> Neighbors | None:
        """The nearest of every row by its features; -1 for rows without."""
        if self.settings.features is None:
            return None
        rows, values = self.features
        k = min(self.settings.neighbors, len(rows) - 1)
        if k < 1:
            self.missing.append(f"outliers and doubtful labels: {len(rows)} image has features, and no neighbour")
            return None
        return self._nearest(self.settings.features, rows, values, k)

    def _nearest(self, name: str, rows: np.ndarray, values: np.ndarray, k: int) -> Neighbors:
        asked: dict[str, Any] = {"seed": self.settings.seed, "device": self.settings.device}
        of = self._made_by(name)
        return self._spread(remembered_nearest(self.scape, name, self.ids[rows], values, k, of=of, **asked), rows)

    def _spread(self, found: Neighbors, rows: np.ndarray) -> Neighbors:
        """Neighbours among some of the rows as neighbours among all."""
        k = found.indices.shape[1]
        indices, distances = np.full((len(self.ids), k), -1, np.int64), np.full((len(self.ids), k), np.inf, np.float32)
        indices[rows] = np.where(found.indices < 0, -1, rows[found.indices])
        distances[rows] = found.distances
        return Neighbors(indices, distances)

    @cached_property
    def clusters(self) -> np.ndarray | None:
        name = self.settings.clusters
        if name is None:
            return None
        if name not in clustering_names(self.scape):
            raise InputError(f"no clustering is called '{name}'; there are: {', '.join(clustering_names(self.scape))}")
        return self.column(cluster_labels(self.scape, name)[0])

    def _elsewhere(self, k: int) -> list[Neighbors]:
        """The k nearest on the map, and by the pixels, where there are such."""
        found, name = [], self.settings.map_name
        if name is not None:
            coords = self.column(map_coords(self.scape, name))
            rows = np.flatnonzero(np.isfinite(coords).all(axis=1))
            if len(rows) > k:
                found.append(self._spread(nearest_others(coords[rows], k, device=self.settings.device), rows))
        pixels = [one for one in feature_names(self.scape) if _is_pixels(self.scape, one)]
        if pixels and pixels[-1] != self.settings.features:
            rows, values = self._vectors(pixels[-1])
            if len(rows) > k:
                found.append(self._nearest(pixels[-1], rows, values, k))
        return found

    def outliers(self) -> Outliers | None:
        if self.graph is None:
            return None
        others = self._elsewhere(self.graph.indices.shape[1])
        measured: dict[str, Any] = {}
        if self.clusters is not None:
            rows, values = self.features
            every = np.full((len(self.ids), values.shape[1]), np.nan, np.float32)
            every[rows] = values
            measured = {"features": every, "clusters": self.clusters}
        return outliers(self.graph, others=others, threshold=self.settings.oddity, **measured)

    def labels(self) -> tuple[LabelDoubts | None, DisplacedSubgroups | None]:
        name = self.settings.label
        if self.graph is None:
            return None, None
        if name is None:
            self.missing.append("doubtful labels: there is no column of classes; name one with --label")
            return None, None
        labels = self.column(classes(self.scape, name))
        if len({one for one in labels.tolist() if one is not None}) < 2:
            self.missing.append(f"doubtful labels: column '{name}' holds fewer than 2 classes")
            return None, None
        doubts = label_doubts(self.graph, labels, clusters=self.clusters, threshold=self.settings.doubt)
        return doubts, displaced_subgroups(self.graph, doubts.labels)

    def leaks(self, duplicates: Duplicates) -> Leaks | None:
        name = self.settings.split
        if name is None:
            return None
        splits = self.column(classes(self.scape, name))
        if len({one for one in splits.tolist() if one is not None}) < 2:
            self.missing.append(f"leaks: column '{name}' holds fewer than 2 splits")
            return None
        return leaks(duplicates.pairs, splits)

    def keep(self, groups: Groups) -> Kept:
        table = self.scape.read(["width", "height", "bytes", "modified_ns", "uri"])
        width, height, size, modified = (
            self.column(table[name].to_numpy().astype(np.float64))
            for name in ("width", "height", "bytes", "modified_ns")
        )
        rank = None
        if self.settings.reference:
            uris = self.column(np.array(table["uri"].to_pylist(), object))
            rank = np.array([_preference(uri, self.settings.reference) for uri in uris.tolist()], np.int64)
            if not (rank < len(self.settings.reference)).any():
                raise InputError(f"no image lies in the reference {', '.join(self.settings.reference)}")
        return keep(
            groups, self.settings.keep, pixels=width * height, file_bytes=size, modified=modified, reference=rank
        )


def _preference(uri: str, folders: tuple[str, ...]) -> int:
    """Position of the first folder that an image is below; their number where it is below none."""
    return next((i for i, folder in enumerate(folders) if uri.startswith(folder.rstrip("/") + "/")), len(folders))


def _percent(advance: Callable[[int], None]) -> Callable[[float], None]:
    """Shares of the work as whole hundredths, told as they are full."""
    done = [0.0, 0]

    def told(share: float) -> None:
        done[0] += share
        whole = round(100 * done[0])
        if whole > done[1]:
            advance(int(whole - done[1]))
            done[1] = whole

    return told


def as_thresholds(given: Mapping[str, float]) -> Thresholds:
    """The thresholds of quality, some of them said otherwise.

    Raises:
        InputError: no such issue, or a number outside of [0, 1].
    """
    known = [one.name for one in fields(Thresholds)]
    if wrong := [name for name in given if name not in known]:
        raise InputError(f"a threshold is of one of {', '.join(known)}, got '{wrong[0]}'")
    return Thresholds(**given)
