"""What is known of the names of a clustering: who proposed which, which one stands, and images to judge them by.

It is kept in `runs/NAME/naming.json`. A person's word stands above all, then words that fit the pictures, then what is
written about them, then a name from a cluster beside. Names that the program gave are unique among all; a person may
give one to several clusters.
"""

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from imagescape.collection.locking import storage_errors
from imagescape.errors import CheckpointError, InputError

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A name that one of the methods found, or why it found none.

    Attributes:
        name: None where there is none.
        score, margin: In nats, as the method has them.
        reason: Why there is none.
        best: The words or tokens that come first, each with its figures.
    """

    name: str | None
    score: float
    margin: float
    reason: str
    best: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """A cluster and its names.

    Attributes:
        id: Its label, which no name ever replaces.
        size: Images in it.
        person: What a person calls it; "" if a person says that it has no name; None if nobody has said anything.
        words, metadata: What the methods propose; None where they were not asked.
        propagated: The name of a cluster beside it.
        name, source, reason: What `settled` made of these: the name that stands, whose it is, or why there is none.
        prototypes, boundary: Ids of images in its middle and on its border.
        members: Ids of a few of its images, by which it is known again.
    """

    id: int
    size: int
    person: str | None = None
    words: Proposal | None = None
    metadata: Proposal | None = None
    propagated: str | None = None
    name: str | None = None
    source: str | None = None
    reason: str = ""
    prototypes: tuple[str, ...] = ()
    boundary: tuple[str, ...] = ()
    members: tuple[str, ...] = ()

    @property
    def proposal(self) -> Proposal | None:
        """The one whose name stands; without a name, or with one of a person, the first there is."""
        if self.source == "metadata":
            return self.metadata
        return self.words or self.metadata


@dataclass(frozen=True, kw_only=True)
class Naming:
    """The names of a clustering.

    Attributes:
        clusters: The name of the clustering.
        groups: By id.
        images: Names that persons gave to single images, by image_id.
        propagated: Names that images have from those near them, by image_id.
        about: How they came about: encoder, prompts, words, columns.
    """

    clusters: str
    groups: tuple[Group, ...]
    images: Mapping[str, str] = field(default_factory=dict)
    propagated: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        named = [group for group in self.groups if group.name]
        lines = [f"{len(named)} of {len(self.groups)} clusters of '{self.clusters}' are named"]
        for group in self.groups:
            said = f"{group.name!r} ({group.source})" if group.name else f"- ({group.reason})"
            lines.append(f"{group.id}\t{group.size}\t{said}")
        if self.images or self.propagated:
            lines.append(
                f"{len(self.images)} images have a name of their own, {len(self.propagated)} one of those near"
            )
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in `naming.json`."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}

    def of_images(self, image_ids: Sequence[str], clusters: Sequence[int]) -> list[str | None]:
        """What images are called: by a name of their own, one from images near them, or that of their cluster.

        A name that spread from other images yields to one that a person gave to the cluster.
        """
        groups = {group.id: group for group in self.groups}
        names: list[str | None] = []
        for image_id, cluster in zip(image_ids, clusters, strict=True):
            group = groups.get(cluster)
            if image_id in self.images:
                names.append(self.images[image_id])
            elif image_id in self.propagated and not (group and group.person):
                names.append(self.propagated[image_id])
            else:
                names.append(group.name if group else None)
        return names

    def save(self, path: Path) -> None:
        """Write it; a kill at any instant leaves the old file or the new one."""
        part = path.with_name(path.name + ".part")
        with storage_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(self.as_dict(), indent=2, ensure_ascii=False), encoding="utf-8")
            part.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Naming | None":
        """Read what `save` wrote; None where nothing was.

        Raises:
            CheckpointError: the file is damaged, or a newer imagescape wrote it.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if (version := content.pop("format_version")) > FORMAT_VERSION:
                raise CheckpointError(f"'{path}' has format {version}, this imagescape reads up to {FORMAT_VERSION}")
            groups = tuple(_group(one) for one in content.pop("groups"))
            return cls(groups=groups, **content)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"'{path}' is damaged ({error}); delete it, and name the clusters again") from error


def _group(content: Mapping[str, Any]) -> Group:
    lists = {key: tuple(content[key]) for key in ("prototypes", "boundary", "members")}
    proposals = {
        key: Proposal(**{**content[key], "best": tuple(content[key]["best"])}) if content[key] else None
        for key in ("words", "metadata")
    }
    return Group(**{**content, **lists, **proposals})


def settled(groups: Iterable[Group]) -> tuple[Group, ...]:
    """The groups, each with the name that stands."""
    groups = list(groups)
    taken = {group.person.casefold(): group.id for group in groups if group.person}
    chosen = {
        group.id: (group.person or None, "person" if group.person else None, "a person says that it has no name")
        for group in groups
        if group.person is not None
    }
    clashes: dict[int, str] = {}
    for source in ("words", "metadata"):
        for group in groups:
            offer: Proposal | None = getattr(group, source)
            if group.id in chosen or offer is None or offer.name is None:
                continue
            if (owner := taken.setdefault(offer.name.casefold(), group.id)) == group.id:
                chosen[group.id] = offer.name, source, ""
            else:
                clashes.setdefault(group.id, f"'{offer.name}' names cluster {owner}")
    for group in groups:
        if group.id not in chosen:
            tried = [clashes.get(group.id, ""), *(one.reason for one in (group.words, group.metadata) if one)]
            why = next((reason for reason in tried if reason), "no method was asked for a name")
            chosen[group.id] = group.propagated, "propagated" if group.propagated else None, why
    return tuple(
        replace(group, name=name, source=source, reason="" if name else reason)
        for group in groups
        for name, source, reason in (chosen[group.id],)
    )


def checked_name(name: str, whose: str) -> str:
    """A name that a person gave, without space around it; "" for none.

    Raises:
        InputError: it holds signs that no file or page can show.
    """
    name = name.replace("\r\n", "\n").strip()
    if bad := [sign for sign in name if unicodedata.category(sign) in ("Cc", "Cs") and sign not in "\n\t"]:
        raise InputError(f"the name of {whose} holds a sign that cannot be shown, {bad[0]!a}; leave it out")
    return name
