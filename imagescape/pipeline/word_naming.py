"""Words for the clusters of a collection: the pictures and the vocabulary in one space, and what fits what."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imagescape.cluster.naming import Demands, name_by_words
from imagescape.cluster.vocabulary import Vocabulary, read_wordnet, read_words
from imagescape.collection.locking import exclusive
from imagescape.collection.results import feature_names, features_identity
from imagescape.collection.rows_file import RowsFile
from imagescape.collection.store import Collection
from imagescape.collection.vectors import Vectors, ids_of_numbers
from imagescape.errors import CheckpointError, InputError, Interrupted
from imagescape.features.extract import open_image_encoder, same_encoder
from imagescape.features.text import PROMPTS, TextEncoder, open_text_encoder
from imagescape.pipeline.embedding import embed
from imagescape.pipeline.names_record import Proposal
from imagescape.runtime import stop_requested, track

_WORDS_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True)
class Words:
    """Where words come from, and which of them become names.

    Attributes:
        encoder: Of images and texts: "hf:<name or folder>", such a name or folder alone, or the name of features that
            it made.
        file: A list of words, one a line; None for none.
        wordnet: The folder of WordNet's `data.noun` and `index.noun`; None for none.
        prompts: Sentences that words are put into, {} in the place of the word.
        demands: Of a name.
    """

    encoder: str
    file: Path | None = None
    wordnet: Path | None = None
    prompts: Sequence[str] = PROMPTS
    demands: Demands = field(default_factory=Demands)

    def vocabulary(self) -> Vocabulary:
        """The words of both sources.

        Raises:
            InputError: neither is given, or one cannot be read or has no word.
        """
        own = None if self.file is None else read_words(self.file)
        if self.wordnet is not None:
            return read_wordnet(self.wordnet, own.words if own else ())
        if own is None:
            raise InputError("an encoder needs words: give a file of them, the folder of WordNet, or both")
        return own


def propose_words(
    scape: Collection,
    words: Words,
    vocabulary: Vocabulary,
    ids: np.ndarray,
    labels: np.ndarray,
    device: str = "auto",
) -> tuple[dict[int, Proposal], dict[str, Any]]:
    """A proposal for each cluster that has images the encoder could read, and how they came about.

    The images are encoded first where they are not yet. Vectors of words are kept in `cache/words-…` of the
    collection, so that each is made once for an encoder and its prompts.

    Args:
        scape: The collection.
        words: What was asked for.
        vocabulary: Of `words`.
        ids, labels: (rows,) of the table; -1 for no cluster.
        device: Where the networks and products run.

    Raises:
        InputError: the encoder cannot be had, or has no text side.
        CheckpointError: the encoder is not the one that made the features.
        Interrupted: Ctrl-C; the same call goes on from there.
    """
    source, name = _source(scape, words.encoder)
    text = open_text_encoder(source, device=device)  # first, for it is here that most encoders fail
    name = _encode_images(scape, source, name, device)
    vectors = word_vectors(scape, text, vocabulary.words, words.prompts)
    images = Vectors(scape, name)
    here = np.isin(ids, ids_of_numbers(images.ids))
    if not (labels[here] >= 0).any():
        raise InputError(
            f"no image of a cluster has features '{name}'; see: imagescape info {scape.path.name} --flagged"
        )
    named = name_by_words(
        images.values(),
        labels[here],
        vocabulary,
        vectors,
        logit_scale=text.logit_scale,
        demands=words.demands,
        device=device,
    )
    shown = ids[here]
    found = {
        one.cluster: Proposal(
            name=one.name,
            score=one.score,
            margin=one.margin,
            reason=one.reason,
            best=tuple(
                {"word": best.word, "score": best.score, "exemplars": shown[list(best.exemplars)].tolist()}
                for best in one.words
            ),
        )
        for one in named
    }
    about = {
        "encoder": source,
        "features": name,
        "words": len(vocabulary),
        "file": None if words.file is None else str(words.file),
        "wordnet": None if words.wordnet is None else str(words.wordnet),
        "prompts": list(words.prompts),
        "demands": asdict(words.demands),
    }
    return found, about


def word_vectors(scape: Collection, text: TextEncoder, words: Sequence[str], prompts: Sequence[str]) -> np.ndarray:
    """Vectors (V, d) of words, from the collection's cache as far as they are there.

    Raises:
        InputError: a prompt has no place for the word.
        Interrupted: Ctrl-C; what is done is kept.
    """
    made_by = json.dumps([text.weights_sha256, list(prompts)])
    folder = scape.path / "cache" / f"words-{hashlib.sha256(made_by.encode()).hexdigest()[:16]}"
    keys = [hashlib.blake2b(word.encode(), digest_size=8).hexdigest() for word in words]
    with exclusive(scape.path / "cache" / "words.lock", "encoding words"):
        done = RowsFile(folder, "vectors", (text.out_features,), np.dtype(np.float32))
        rows = done.cut()
        place = {key: row for row, key in enumerate(done.ids().tolist())}
        missing = [i for i, key in enumerate(keys) if key not in place]
        before = len(words) - len(missing)
        with track("encode words", len(words), unit="words", done=before) as progress, stop_requested() as stopped:
            for start in range(0, len(missing), _WORDS_AT_ONCE):
                some = missing[start : start + _WORDS_AT_ONCE]
                done.append([keys[i] for i in some], text.encode_words([words[i] for i in some], prompts), rows)
                place |= {keys[i]: rows + at for at, i in enumerate(some)}
                rows += len(some)
                progress.advance(len(some))
                if stopped():
                    raise Interrupted(f"{rows} words are encoded; run the same command again to go on from there")
        return np.array(done.array(rows)[[place[key] for key in keys]])


def _source(scape: Collection, encoder: str) -> tuple[str, str | None]:
    """What to open the text side by, and the features that were named, if any."""
    if f"features_{encoder}" in scape.columns:
        made_by = features_identity(scape, encoder).get("encoder", "")
        if not made_by.startswith("hf:"):
            raise InputError(
                f"features '{encoder}' are by '{made_by or 'nobody knows whom'}', which has no text side; words need "
                "an encoder of images and texts, a CLIP or a SigLIP, as hf:NAME or hf:FOLDER"
            )
        return made_by, encoder
    if encoder.startswith("hf:"):
        return encoder, None
    if "/" in encoder or Path(encoder).is_dir():
        return f"hf:{encoder}", None
    raise InputError(
        f"'{encoder}' is no encoder of images and texts: give hf:NAME or hf:FOLDER of a CLIP or a SigLIP, or features "
        f"that one made; there are: {', '.join(feature_names(scape)) or 'none yet'}"
    )


def _encode_images(scape: Collection, source: str, name: str | None, device: str) -> str:
    """Have all images encoded by the image side of the same model; the name of their features."""
    image = open_image_encoder(source, device=device)
    if name is None:
        same = [one for one in feature_names(scape) if same_encoder(features_identity(scape, one), image.identity)]
        name = same[-1] if same else None
    elif not same_encoder(features_identity(scape, name), image.identity):
        raise CheckpointError(
            f"'{source}' is no longer the model that made features '{name}': its words would lie in another space; "
            "put that one back, or embed again with --overwrite"
        )
    return embed(scape, image, name, device=device).name
