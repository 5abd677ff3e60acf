"""`finetune`: an encoder made better at finding a collection's images again, or left as it was."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from imagescape.collection.cache import Rows, cached_pixels, contains
from imagescape.collection.results import check_name, columns_of
from imagescape.collection.store import Collection
from imagescape.errors import InputError
from imagescape.evaluate.looks import Look, table, worst_family
from imagescape.features.encoders import open_encoder
from imagescape.features.hashing import HASHES
from imagescape.features.simclr_checkpoints import HEADS_FILE, load_heads
from imagescape.learn.encoder import Encoder
from imagescape.learn.finetuning import Finetune
from imagescape.learn.finetuning_recipe import FinetuneRecipe
from imagescape.learn.guard import Guard
from imagescape.pipeline.embedding import embed
from imagescape.pipeline.guarding import held_out_ids, make_guard
from imagescape.pipeline.runs import run_in
from imagescape.runtime import is_main_process, seed_for
from imagescape.search.attacks import FAMILIES

GUARD_FILE = "guard.npz"
HELD_OUT = 0.1
MOST_GUARDED = 100  # images; a look must not take longer than the training between two of them
_OTHERS = 300  # images of the training that the guard's are searched among


@dataclass(frozen=True, slots=True)
class Finetuned:
    """What `finetune` did.

    Attributes:
        name, encoder, recipe: Of the new encoder, of the old one, and how it was trained.
        looks: What the guard saw, "before" first.
        kept: The look at what is in `models/NAME`.
        regressed: Whether that is worse than before: then no features were made of it.
        epochs: That were run.
        trained, guarded: Images that it learned from, and that stood guard.
        covered: Images that have its features.
    """

    name: str
    encoder: str
    recipe: str
    looks: tuple[Look, ...]
    kept: Look
    regressed: bool
    epochs: int
    trained: int
    guarded: int
    covered: int

    def as_dict(self) -> dict[str, Any]:
        plain = ("name", "encoder", "recipe", "regressed", "epochs", "trained", "guarded", "covered")
        looks = [look.as_dict() for look in self.looks]
        before, after = looks[0], self.kept.as_dict()
        return {**{one: getattr(self, one) for one in plain}, "before": before, "after": after, "looks": looks}

    def __str__(self) -> str:
        family, change = worst_family(self.looks[0], self.kept)
        lines = [
            table(self.looks),
            f"kept: {self.kept.name}, of {self.epochs} epochs of {self.trained:,} images by the recipe "
            f"'{self.recipe}'; {self.guarded} others stood guard",
            "recall@1 fell for no kind of alteration"
            if change >= 0
            else f"recall@1 by kind of alteration: the worst change is {100 * change:+.1f} points, of {family}",
        ]
        if self.covered:
            lines.append(
                f"features_{self.name}: {self.covered:,} images; the encoder is models/{self.name}, "
                f"--encoder {self.name}"
            )
        return "\n".join(lines)

    @property
    def warning(self) -> str:
        """What has to be said of a regression; "" where there is none."""
        if not self.regressed:
            return ""
        before, after = self.looks[0].score, self.kept.score
        return (
            f"fine-tuning made '{self.encoder}' worse: for altered copies of images that were held out, the mean of "
            f"recall@1 and average precision fell from {before:.3f} to {after:.3f}. The old encoder stays what is "
            f"used; the best of the new ones "
            f"is in models/{self.name}, for who wants it all the same: --encoder {self.name}"
        )


def finetune(
    scape: Collection,
    name: str,
    *,
    encoder: str = "efficientnet_lite0",
    recipe: str = "copies",
    val: Collection | None = None,
    held_out: float = HELD_OUT,
    unseen: Sequence[str] | None = None,
    overwrite: bool = False,
    checkpoint_minutes: float = 5,
    tensorboard: bool = False,
    features: bool = True,
    **settings: Any,
) -> Finetuned:
    """Fine-tune an encoder on the collection, under guard, and make its features where that was of use.

    The encoder is kept in `models/<name>`; metrics, looks and the weights at each of them in `runs/<name>`. A run that
    was stopped goes on where it was when called again with the same settings.

    Args:
        scape: The collection.
        name: Of the new encoder and its features.
        encoder: The old one, by name; see `features.encoders`.
        recipe: "simclr", "copies" or "neighbors".
        val: A collection whose images stand guard; None: a part of this one, which is not trained on.
        held_out: That part, as a fraction; 100 images at most.
        unseen: Families of attacks that training must not show, for the guard; None: all that it does not.
        overwrite: Replace what has that name.
        checkpoint_minutes: How often the state of the training is saved.
        tensorboard: Write events for TensorBoard too.
        features: Make the column of features, where the new encoder is no worse.
        settings: Of `FinetuneRecipe`.

    Raises:
        InputError: an encoder that cannot be trained, a bad setting, a family that is shown, or a name that is taken.
        Interrupted: Ctrl-C.
    """
    check_name(name)
    if not overwrite and (taken := [*columns_of(scape, name), *_model_of(scape, name)]):
        raise InputError(
            f"'{scape.path.name}' has '{name}' already ({', '.join(taken)}); choose another --name or --overwrite it"
        )
    if encoder in HASHES:
        raise InputError(f"a hash learns nothing; fine-tune a network, such as efficientnet_lite0, got '{encoder}'")
    asked = FinetuneRecipe.of(recipe=recipe, **settings)
    hidden = _unseen(asked, unseen)
    old = open_encoder(encoder, models=scape.path / "models", device=asked.device, precision=asked.precision)
    model = Finetune(old, recipe=recipe, projector=_projector(encoder, recipe), **settings)
    everyone = scape.ok_ids()
    guarded = (
        _most(val.ok_ids(), asked.seed)
        if val is not None
        else held_out_ids(everyone, held_out, MOST_GUARDED, asked.seed)
    )
    training = everyone[~contains(guarded, everyone)]
    images = _Some(scape, training)
    folder = scape.path / "runs" / name
    plan = _plan(old, asked, training, guarded, hidden, settings)
    # The first of several processes settles what is in the folder, and is waited for in `fit`.
    with run_in(folder, plan) if is_main_process() else nullcontext():
        guard = None
        if is_main_process():
            guard = _guard(val or scape, guarded, old, asked.families, hidden, (scape, training), asked.seed)
            _keep_guard(guard, folder)
        model.fit(
            images,
            guard=guard,
            run_folder=folder,
            checkpoint_minutes=checkpoint_minutes,
            tensorboard=tensorboard,
        )
        if not is_main_process():
            return Finetuned(name, encoder, recipe, (), None, False, 0, 0, 0, 0)  # type: ignore[arg-type]
        assert model.encoder_ is not None
        assert model.kept_ is not None
        covered = 0
        if features and not model.regressed_:
            covered = embed(scape, model.encoder_, name, overwrite=overwrite, device=asked.device).covered
        model.save(
            scape.path / "models" / name, began_with=encoder, unseen=list(hidden), before=model.looks_[0].as_dict()
        )
    return Finetuned(
        name=name,
        encoder=encoder,
        recipe=recipe,
        looks=tuple(model.looks_),
        kept=model.kept_,
        regressed=model.regressed_,
        epochs=model.recipe_.epochs,
        trained=len(training),
        guarded=len(guarded),
        covered=covered,
    )


class _Some:
    """Some of a collection's images, as an estimator takes them."""

    def __init__(self, scape: Collection, ids: np.ndarray) -> None:
        self._scape, self._ids = scape, ids

    def __len__(self) -> int:
        return len(self._ids)

    def pixels(self, size_px: int, fit: Any = "crop", resample: Any = "bicubic") -> Any:
        cached = cached_pixels(self._scape, size_px, fit, resample)
        return Rows(cached.pixels, np.flatnonzero(contains(self._ids, cached.ids)))


def _unseen(recipe: FinetuneRecipe, asked: Sequence[str] | None) -> tuple[str, ...]:
    """Families for the guard that training does not show; chains are of all kinds, and shown in part."""
    if asked is None:
        return tuple(one for one in FAMILIES if one not in recipe.families and one != "chain")
    names = [one.strip().replace("-", "_") for one in asked]
    if unknown := [one for one in names if one not in FAMILIES]:
        raise InputError(f"families of attacks are {', '.join(FAMILIES)}; got {', '.join(unknown)}")
    if shown := [one for one in names if one in recipe.families]:
        raise InputError(
            f"the recipe '{recipe.recipe}' shows {', '.join(shown)}, which cannot be unseen then; "
            "leave that out of its edits, or choose other families"
        )
    return tuple(names)


def _projector(encoder: str, recipe: str) -> nn.Module | None:
    """The projection head that SimCLR v2 was published with, to go on from."""
    kind, _, folder = encoder.partition(":")
    if recipe != "simclr" or kind != "simclr" or not (Path(folder) / HEADS_FILE).is_file():
        return None
    heads = load_heads(folder)
    return None if heads.projection is None else nn.Sequential(*heads.projection.layers[heads.features_after :])


def _most(ids: np.ndarray, seed: int) -> np.ndarray:
    """At most 100 images of a validation collection."""
    if len(ids) < 5:
        raise InputError(f"a guard needs at least 5 images, --val has {len(ids)} that can be read")
    order = np.random.default_rng(seed_for(seed, "guard")).permutation(len(ids))[:MOST_GUARDED]
    return ids[np.sort(order)]


def _guard(
    scape: Collection,
    ids: np.ndarray,
    old: Encoder,
    shown: Sequence[str],
    unseen: Sequence[str],
    training: tuple[Collection, np.ndarray],
    seed: int,
) -> Guard:
    rng = np.random.default_rng(seed_for(seed, "others"))
    others = training[1][np.sort(rng.permutation(len(training[1]))[:_OTHERS])]
    return make_guard(
        scape,
        ids,
        old.preprocessing,
        unseen=unseen,
        families=(*shown, *unseen),
        others=(training[0], others),
        seed=seed,
    )


def _keep_guard(guard: Guard, folder: Path) -> None:
    """What the guard's pictures are; their features are kept at every look."""
    copies = guard.copies
    unseen = np.array(copies.unseen, "U")
    np.savez(
        folder / GUARD_FILE, truth=copies.truth, originals=copies.originals, families=copies.families, unseen=unseen
    )


def _plan(
    old: Encoder,
    recipe: FinetuneRecipe,
    training: np.ndarray,
    guarded: np.ndarray,
    unseen: Sequence[str],
    settings: dict[str, Any],
) -> dict[str, Any]:
    """All that the result depends on; a run may go on elsewhere, on another device."""
    images = hashlib.sha256(json.dumps([training.tolist(), guarded.tolist()]).encode()).hexdigest()
    plain = {one: list(value) if isinstance(value, tuple) else value for one, value in settings.items()}
    plain.pop("device", None)
    return {
        "encoder": old.weights_sha256,
        "recipe": recipe.recipe,
        "images": images,
        "unseen": list(unseen),
        "settings": plain,
    }


def _model_of(scape: Collection, name: str) -> list[str]:
    return [f"models/{name}"] if (scape.path / "models" / name).is_dir() else []
