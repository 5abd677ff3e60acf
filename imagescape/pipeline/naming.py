"""`name`: what the clusters of a collection may be called, by words, by what is written about them, and by persons."""

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from imagescape.cluster.members import Members
from imagescape.cluster.propagation import propagate_to_clusters, propagate_to_rows
from imagescape.cluster.prototypes import show_clusters
from imagescape.cluster.tokens import TokenName, name_by_tokens
from imagescape.collection.clusterings import cluster_labels, clustering_config, part_column
from imagescape.collection.results import feature_names, map_coords, map_names, user_columns
from imagescape.collection.store import Collection
from imagescape.collection.vectors import Vectors, ids_of_numbers
from imagescape.errors import CheckpointError, CollectionError, InputError
from imagescape.pipeline.names_record import Group, Naming, Proposal, checked_name, settled
from imagescape.pipeline.word_naming import Words, propose_words

_KNOWN_AGAIN = 9  # images by which a cluster is known again

_log = logging.getLogger(__name__)


def name_clusters(
    scape: Collection,
    clusters: str,
    *,
    words: Words | None = None,
    metadata: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
    propagate: bool | None = None,
    features_name: str | None = None,
    overwrite: bool = False,
    device: str = "auto",
) -> Naming:
    """Name the clusters of a clustering; writes `cluster_<clusters>_name` and `runs/<clusters>/naming.json`.

    What persons said, and what methods found that are not asked again, stays. If the clusters were made anew in the
    meantime, those that still hold the same images are known again; a warning tells whose names are lost.

    Args:
        scape: The collection.
        clusters: The name of the clustering.
        words: Name by words that fit the pictures; see `propose_words`.
        metadata: Name by what these text columns say more in one cluster than in the others.
        names: What a person calls clusters, by their number, and single images, by their id; "" for no name.
        propagate: Give the names of persons also to clusters and images beside them: to clusters that have none, and
            to images whose cluster no person has named. None: as the last time.
        features_name: What was clustered; None: what the clustering's `config.json` says.
        overwrite: Forget all earlier names.
        device: Where networks and products run.

    Raises:
        InputError: no such clustering, cluster, image, column or encoder, or no words; nothing is changed then.
    """
    rows = _Rows.of(scape, clusters)
    # All that can be wrong with what was asked is found out before the work.
    vocabulary = None if words is None else words.vocabulary()
    texts = [_texts(scape, column) for column in metadata]
    said = _said(names or {}, rows)
    space = _Space.of(scape, clusters, features_name, rows)
    if propagate and space is None:
        raise InputError(
            f"names spread to what is near, and nothing tells what '{clusters}' was made from; say it with --features: "
            f"{', '.join(feature_names(scape)) or 'there are none yet'}"
        )
    naming = _with_persons(_known_again(scape, clusters, rows, forget=overwrite), said)
    groups, about = list(naming.groups), dict(naming.about)
    about["propagate"] = about.get("propagate", False) if propagate is None else propagate
    if words is not None and vocabulary is not None:
        by_words, about["words"] = propose_words(scape, words, vocabulary, rows.ids, rows.labels, device)
        groups = [replace(group, words=by_words.get(group.id)) for group in groups]
    if metadata:
        by_tokens = {one.cluster: _of_tokens(one) for one in name_by_tokens(texts, rows.labels)}
        groups = [replace(group, metadata=by_tokens[group.id]) for group in groups]
        about["metadata"] = list(metadata)
    groups = [replace(group, propagated=None) for group in groups]
    naming = replace(naming, groups=settled(groups), propagated={}, about=about)
    if space is not None:
        naming = space.shown(naming)
        naming = space.spread(naming, device) if about["propagate"] else naming
    _write(scape, naming, rows)
    return naming


def naming_of(scape: Collection, clusters: str) -> Naming:
    """The names of a clustering as they are kept, of the clusters there are now; nothing is written.

    Raises:
        InputError: no such clustering.
    """
    rows = _Rows.of(scape, clusters)
    naming = _known_again(scape, clusters, rows, forget=False)
    if not any(group.prototypes for group in naming.groups) and (space := _Space.of(scape, clusters, None, rows)):
        naming = space.shown(naming)
    return replace(naming, groups=settled(naming.groups))


def person_names(scape: Collection, clusters: str) -> dict[int, str | None]:
    """What persons call each cluster of a clustering: "" for no name, None where nobody has said anything.

    Raises:
        InputError: no such clustering.
    """
    naming = _known_again(scape, clusters, _Rows.of(scape, clusters), forget=False)
    return {group.id: group.person for group in naming.groups}


def rename_clusters(scape: Collection, clusters: str, names: Mapping[int, str | None]) -> Naming:
    """What persons call some clusters, set at once: as `name_clusters`, but no cluster is looked at anew.

    Args:
        scape: The collection.
        clusters: The name of the clustering.
        names: By cluster; "" for no name, None to forget what was said.

    Raises:
        InputError: no such clustering or cluster; nothing is changed then.
    """
    rows = _Rows.of(scape, clusters)
    said = {
        cluster: None if name is None else checked_name(name, f"cluster {cluster}") for cluster, name in names.items()
    }
    if unknown := sorted(said.keys() - set(rows.members.clusters.tolist())):
        raise InputError(f"the clustering '{clusters}' has no cluster {unknown[0]} to call '{said[unknown[0]]}'")
    naming = _known_again(scape, clusters, rows, forget=False)
    groups = [replace(group, person=said.get(group.id, group.person)) for group in naming.groups]
    naming = replace(naming, groups=settled(groups))
    if naming.about.get("propagate") and (space := _Space.of(scape, clusters, None, rows)):
        groups = [replace(group, propagated=None) for group in naming.groups]
        naming = space.spread(replace(naming, groups=settled(groups), propagated={}), "auto")
    _write(scape, naming, rows)
    return naming


@dataclass(frozen=True)
class _Rows:
    """The table's rows: ids and clusters (n,), and the rows of each cluster."""

    ids: np.ndarray
    labels: np.ndarray
    members: Members

    @classmethod
    def of(cls, scape: Collection, clusters: str) -> "_Rows":
        labels, _ = cluster_labels(scape, clusters)
        if not (labels >= 0).any():
            raise InputError(
                f"the clustering '{clusters}' of '{scape.path}' has no cluster: all of its images are noise"
            )
        ids = scape.read(["image_id"])["image_id"].to_numpy().astype("U16")
        if len(ids) != len(labels):
            raise CollectionError(f"'{scape.path}' was changed while it was read; run the same again")
        return cls(ids, labels, Members.of(labels))


def _texts(scape: Collection, column: str) -> list[str | None]:
    if column not in scape.columns:
        raise InputError(f"no column is called '{column}'; there are: {', '.join(user_columns(scape))}")
    kind = scape.schema.field(column).type
    values = scape.read([column])[column].to_pylist()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return values
    if pa.types.is_list(kind) and pa.types.is_string(kind.value_type):
        return [None if value is None else "/".join(filter(None, value)) for value in values]
    raise InputError(f"column '{column}' holds {kind}, and names come from columns of text or of lists of text")


def _said(names: Mapping[str, str], rows: _Rows) -> tuple[dict[int, str], dict[str, str]]:
    """What a person said of clusters, and of images."""
    of_clusters: dict[int, str] = {}
    of_images: dict[str, str] = {}
    ids, clusters = set(rows.ids.tolist()), set(rows.members.clusters.tolist())
    for key, name in names.items():
        if re.fullmatch("[0-9a-f]{16}", key):
            if key not in ids:
                raise InputError(f"no image has the id {key}, which is to be called '{name}'")
            of_images[key] = checked_name(name, f"image {key}")
        elif re.fullmatch(r"-?\d+", key) and int(key) in clusters:
            of_clusters[int(key)] = checked_name(name, f"cluster {key}")
        else:
            some = ", ".join(map(str, rows.members.clusters[:20].tolist())) + (", …" if len(clusters) > 20 else "")
            raise InputError(f"there is no cluster '{key}' to call '{name}'; there are: {some}")
    return of_clusters, of_images


def _known_again(scape: Collection, clusters: str, rows: _Rows, *, forget: bool) -> Naming:
    """The clusters of today with what is kept of those that hold the same images, whatever number they have now."""
    kept = None if forget else Naming.load(_path(scape, clusters))
    cluster_of = dict(zip(rows.ids.tolist(), rows.labels.tolist(), strict=True)) if kept else {}
    earlier: dict[int, Group] = {}
    # Where two became one, it is known as the one that a person named, or the larger.
    for group in sorted(kept.groups if kept else (), key=lambda group: (group.person is None, -group.size)):
        today = Counter(cluster_of[one] for one in group.members if one in cluster_of)
        if today and 2 * today.most_common(1)[0][1] > today.total():
            earlier.setdefault(today.most_common(1)[0][0], group)
    groups = []
    for cluster, members in zip(rows.members.clusters.tolist(), rows.members, strict=True):
        before = earlier.get(cluster, Group(id=cluster, size=0))
        few = tuple(np.sort(rows.ids[members])[:_KNOWN_AGAIN].tolist())
        groups.append(replace(before, id=cluster, size=len(members), members=few))
    found = {id(earlier[cluster]) for cluster in earlier.keys() & set(rows.members.clusters.tolist())}
    lost = [f"{one.id} '{one.person}'" for one in (kept.groups if kept else ()) if one.person and id(one) not in found]
    if lost:
        _log.warning(
            "the clusters of '%s' are not those that persons named; these names are given up: %s",
            *(clusters, ", ".join(lost)),
        )
    if kept is None:
        return Naming(clusters=clusters, groups=tuple(groups))
    return replace(kept, groups=tuple(groups))


def _with_persons(naming: Naming, said: tuple[dict[int, str], dict[str, str]]) -> Naming:
    of_clusters, of_images = said
    groups = tuple(replace(group, person=of_clusters.get(group.id, group.person)) for group in naming.groups)
    images = {key: name for key, name in {**naming.images, **of_images}.items() if name}
    return replace(naming, groups=groups, images=images)


def _of_tokens(found: TokenName) -> Proposal:
    best = tuple(
        {"token": one.token, "log_odds": one.log_odds, "z": one.z, "images": one.images} for one in found.tokens
    )
    return Proposal(name=found.name, score=found.score, margin=found.margin, reason=found.reason, best=best)


@dataclass(frozen=True)
class _Space:
    """What was clustered: vectors (m, d) in which near means alike, and the ids and clusters of their images."""

    vectors: np.ndarray
    ids: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, scape: Collection, clusters: str, asked: str | None, rows: _Rows) -> "_Space | None":
        """In the features asked for, or in what the clustering was made from; None where nothing tells what that is."""
        try:
            config = clustering_config(scape, clusters)
        except CheckpointError:  # a column of the user's own has no model
            config = {}
        name, map_name = asked or config.get("features"), config.get("map")
        if name is None and map_name in map_names(scape):
            return cls._on_map(scape, map_name, rows)
        if name is None and map_name is None:
            return None
        if name is None or (asked is None and f"features_{name}" not in scape.columns):
            _log.warning(
                "what '%s' was made from, %s, is gone: no prototypes; say others with --features",
                *(clusters, f"features '{name}'" if name else f"map '{map_name}'"),
            )
            return None
        found = Vectors(scape, name)
        vectors = found.values()
        if vectors.dtype == np.uint8:  # of packed bits, whose squared distance is the number that differ
            vectors = np.unpackbits(vectors, axis=1).astype(np.float32)
        elif config.get("clustering", {}).get("metric") in (None, "", "cosine"):
            vectors = vectors.astype(np.float32)
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        ids = ids_of_numbers(found.ids)
        return cls(vectors.astype(np.float32), ids, rows.labels[np.isin(rows.ids, ids)])

    @classmethod
    def _on_map(cls, scape: Collection, map_name: str, rows: _Rows) -> "_Space":
        places = map_coords(scape, map_name)
        here = np.isfinite(places).all(axis=1)
        return cls(places[here], rows.ids[here], rows.labels[here])

    def shown(self, naming: Naming) -> Naming:
        """With prototypes and boundaries."""
        shown = {one.cluster: one for one in show_clusters(self.vectors, self.labels)}
        groups = [
            replace(
                group,
                prototypes=tuple(self.ids[list(shown[group.id].prototypes)].tolist()),
                boundary=tuple(self.ids[list(shown[group.id].boundary)].tolist()),
            )
            if group.id in shown
            else group
            for group in naming.groups
        ]
        return replace(naming, groups=tuple(groups))

    def spread(self, naming: Naming, device: str) -> Naming:
        """With the names of persons given to clusters and images beside those that they named."""
        here = set(self.labels.tolist())
        by_persons = {group.id: group.person for group in naming.groups if group.person and group.id in here}
        found = propagate_to_clusters(self.vectors, self.labels, by_persons)
        groups = settled(replace(group, propagated=found.get(group.id)) for group in naming.groups)
        rows = {image_id: row for row, image_id in enumerate(self.ids.tolist())}
        named = {rows[image_id]: name for image_id, name in naming.images.items() if image_id in rows}
        images = propagate_to_rows(self.vectors, named, device=device)
        near = {str(self.ids[row]): name for row, name in images.items()}
        return replace(naming, groups=groups, propagated=near)


def _path(scape: Collection, clusters: str) -> Path:
    return scape.path / "runs" / clusters / "naming.json"


def _write(scape: Collection, naming: Naming, rows: _Rows) -> None:
    values = naming.of_images(rows.ids.tolist(), rows.labels.tolist())
    scape.add_columns(rows.ids, {part_column(naming.clusters, "name"): pa.array(values, pa.string())}, overwrite=True)
    naming.save(_path(scape, naming.clusters))
