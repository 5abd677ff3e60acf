"""Names of groups of images by the words that fit them, in a space that images and words share.

Of every image the network says how likely each word is, p(word | image): the softmax over the vocabulary of the scaled
cosines. A word's score for a cluster is the mean of log p(word | image) over the cluster less the mean over the
collection, in nats: what all images have in common, and what a network says of any image, counts for nothing.

The clusters take words so that the sum of their scores is largest, each word once (H. Kuhn, The Hungarian method for
the assignment problem, 1955). A word becomes a name if it beats every word that means something else, and most images
agree. If not, what lies above it in the vocabulary is tried, so that siamese and tabby become cat, as far up as still
says something (after J. Deng, J. Krause, A. Berg, L. Fei-Fei, Hedging your bets, CVPR 2012). Else the cluster has no
name: a wrong one would mislead where none is only missing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.optimize import linear_sum_assignment

from imagescape.cluster.members import Members
from imagescape.cluster.vocabulary import Vocabulary
from imagescape.errors import InputError
from imagescape.runtime import resolve_device, track

_BLOCK_ENTRIES = 2**24  # images times words at a time: 64 MiB


@dataclass(frozen=True, slots=True)
class WordScore:
    """A word and how well it fits a cluster.

    Attributes:
        word: Of the vocabulary.
        score: In nats, 0 for a word that is as likely in the cluster as in the collection.
        exemplars: Rows of the cluster that the word fits best, the best first.
    """

    word: str
    score: float
    exemplars: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WordName:
    """What a cluster is called, or why it is not.

    Attributes:
        cluster: Its label.
        size: Images in it.
        name: None where no word fits distinctly.
        score: The best score of the words that the name covers; of the word that was tried where there is no name.
        margin: How far that is above the best score of a word that means something else, in nats.
        reason: Why there is no name; "" where there is one.
        words: Those that fit best, the best first.
    """

    cluster: int
    size: int
    name: str | None
    score: float
    margin: float
    reason: str
    words: tuple[WordScore, ...]


@dataclass(frozen=True, kw_only=True)
class Demands:
    """What a word must do to become a name.

    Attributes:
        margin: Nats by which its score must be above those of words that mean something else; 0.5 is 1.6 times as
            likely. By as much its log p must be above that of the average word, nothing taken away: what fits no word
            at all is only less unlike some than the collection is.
        z: Standard errors that this must be of, taking the cluster for a random draw from the collection: of clusters
            that are one, about three in a thousand are named at 3.
        agreement: Share of the cluster's images that must have it, or what lies below it, as their own best word, from
            0 to 1; those whose best word lies above it say nothing. A mixture may on average be likest to what few of
            its images are.
        share: Share of the vocabulary that a word may cover, itself and what lies below. Those that cover more say
            too little: "artifact", "object".

    Raises:
        InputError: a number is out of range.
    """

    margin: float = 0.5
    z: float = 3.0
    agreement: float = 0.5
    share: float = 0.15

    def __post_init__(self) -> None:
        if not (self.margin >= 0 and self.z >= 0 and 0 <= self.agreement <= 1 and 0 < self.share <= 1):
            raise InputError(
                "a name needs a margin and a z of 0 or more, an agreement in [0, 1] and a share in (0, 1], got "
                f"{self.margin}, {self.z}, {self.agreement} and {self.share}"
            )

    def met_by(self, fit: "_Fit") -> bool:
        is_distinct = fit.margin >= self.margin and fit.margin > 0 and fit.z >= self.z
        return is_distinct and fit.lift >= self.margin and fit.agreement >= self.agreement


def name_by_words(
    images: Float[np.ndarray, "n d"],
    labels: Int64[np.ndarray, " n"],
    vocabulary: Vocabulary,
    word_vectors: Float[np.ndarray, "v d"],
    *,
    logit_scale: float,
    demands: Demands = Demands(),
    top: int = 5,
    exemplars: int = 3,
    device: str = "auto",
) -> tuple[WordName, ...]:
    """A name for every cluster that a word fits distinctly, no name twice.

    Args:
        images: Vectors of any length, by an image-text encoder; need not be those that were clustered.
        labels: Cluster of each; -1 for none, which only counts for the collection.
        vocabulary: The words.
        word_vectors: Of each word, by the text side of the same encoder.
        logit_scale: What the encoder multiplies cosines by before its softmax, above 0.
        demands: Of a name.
        top: Words to tell of each cluster.
        exemplars: Images to show for each of these.
        device: Where the products run.

    Returns:
        One for every cluster, by label. What it costs is images times words times dimensions, in blocks.

    Raises:
        InputError: shapes do not fit, there is no cluster, or a value is not finite.
    """
    if not logit_scale > 0:
        raise InputError(f"the logit scale must be above 0, got {logit_scale}")
    evidence = _Evidence(*_checked(images, labels, vocabulary, word_vectors), logit_scale, device)
    is_name = (vocabulary.covered == 1) | (vocabulary.covered <= demands.share * len(vocabulary))
    taken = _assign(evidence.scores, is_name)
    tries = [_Trial(evidence, vocabulary, demands, is_name, k, word) for k, word in enumerate(taken)]
    named: dict[int, int] = {}  # word -> cluster
    for trial in sorted(tries, key=lambda one: (one.steps, -one.fit.margin)):
        if trial.name is not None and named.setdefault(trial.name, trial.k) != trial.k:
            trial.clash = named[trial.name]
    return tuple(
        WordName(
            cluster=int(evidence.clusters[trial.k]),
            size=int(evidence.sizes[trial.k]),
            name=None if trial.name is None or trial.clash is not None else vocabulary.words[trial.name],
            score=trial.fit.score,
            margin=trial.fit.margin,
            reason=trial.reason(taken, demands),
            words=words,
        )
        for trial, words in zip(tries, evidence.best(top, exemplars), strict=True)
    )


class _Fit(NamedTuple):
    """How well a word fits a cluster, it and all that it covers.

    Attributes:
        score: The best of these words'.
        margin, z: By which that is above the best of the words that are not related, in nats and in standard errors;
            0 where all are related and there is nothing to beat.
        lift: Nats by which log p of that word is above that of the average word.
        agreement: See `Demands`.
        rival: The best of the words that are not related.
    """

    score: float
    margin: float
    z: float
    lift: float
    agreement: float
    rival: int | None


class _Evidence:
    """What is known of words and clusters, from one pass over the images.

    Attributes:
        clusters, sizes: (K,) labels and images.
        scores: (K, V), see the head of the module.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        vocabulary: Vocabulary,
        words: np.ndarray,
        scale: float,
        device: str,
    ) -> None:
        self.vocabulary, self._images, self._words, self._scale = vocabulary, images, words, scale
        self._members = Members.of(labels)
        self.clusters, self.sizes = self._members.clusters, self._members.sizes
        mean = images.mean(axis=0, dtype=np.float64)
        moved = self._members.centroids(images) - mean
        self._covariance, log_norms, best = self._pass(mean, device)
        self._votes = [best[rows] for rows in self._members]
        # The mean of log p is linear in the images but for the normaliser, so that no (images, words) matrix is kept.
        normalisers = np.array([log_norms[rows].mean() for rows in self._members]) - log_norms.mean()
        self.scores = (scale * moved).astype(np.float32) @ words.T - normalisers[:, None].astype(np.float32)
        self._lifts = scale * (words - words.mean(axis=0)) @ mean.astype(np.float32)  # of the collection

    def _pass(self, mean: np.ndarray, device: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Covariance (d, d) of the images; of each, the log of the softmax's denominator and the best word, (n,)."""
        on = resolve_device(device)
        words, middle = torch.from_numpy(self._words).to(on), torch.from_numpy(mean.astype(np.float32)).to(on)
        usual = self._scale * (words @ middle)  # logits of the words in the collection
        n, width = self._images.shape
        covariance, log_norms, best = np.zeros((width, width)), np.empty(n), np.empty(n, np.int64)
        with torch.inference_mode(), track("score words", n) as progress:
            for here in _blocks(n, max(1, _BLOCK_ENTRIES // max(len(words), width))):
                batch = torch.from_numpy(self._images[here]).to(on)
                logits = (batch @ words.T).mul_(self._scale)
                log_norms[here] = logits.logsumexp(dim=1).cpu().numpy()
                best[here] = logits.sub_(usual).argmax(dim=1).cpu().numpy()
                batch = batch - middle
                covariance += (batch.T @ batch).cpu().numpy()
                progress.advance(here.stop - here.start)
        return covariance / n, log_norms, best

    def fit(self, k: int, word: int) -> _Fit:
        """How well a word fits cluster number k."""
        inside = self.vocabulary.below(word)
        best = int(inside[self.scores[k, inside].argmax()])
        score = float(self.scores[k, best])
        lift = score - float(self.scores[k].mean()) + float(self._lifts[best])
        above = self.vocabulary.above(word)
        own = np.isin(self._votes[k], inside)
        agreement = own.sum() / max(1, len(own) - np.isin(self._votes[k], above[above != word]).sum())
        others = self.scores[k].copy()
        others[np.union1d(inside, above)] = -np.inf
        rival = int(others.argmax())
        if np.isneginf(others[rival]):
            return _Fit(score, 0.0, 0.0, lift, float(agreement), None)
        margin = score - float(others[rival])
        apart = self._scale * (self._words[best] - self._words[rival]).astype(np.float64)
        n, size = len(self._images), int(self.sizes[k])
        # Of the mean of a draw without replacement; a cluster that is the whole collection is no draw.
        variance = apart @ self._covariance @ apart / size * (n - size) / max(n - 1, 1)
        return _Fit(
            score, margin, margin / max(variance, 1e-30) ** 0.5 if size < n else 0.0, lift, float(agreement), rival
        )

    def best(self, count: int, exemplars: int) -> Iterator[tuple[WordScore, ...]]:
        """The `count` best words of each cluster, with images."""
        for k, rows in enumerate(self._members):
            words = np.argsort(-self.scores[k], kind="stable")[:count]
            fit = self._images[rows] @ self._words[words].T
            shown = rows[np.argsort(-fit, axis=0, kind="stable")[:exemplars]]
            yield tuple(
                WordScore(self.vocabulary.words[word], float(self.scores[k, word]), tuple(shown[:, i].tolist()))
                for i, word in enumerate(words)
            )


class _Trial:
    """A word put to the test as the name of a cluster, and what lies above it in its place until one passes.

    Attributes:
        k: Of the cluster.
        name: The word that passed; None if none did.
        steps: How far above the first word that is.
        fit: Of it; of the first word if none passed.
        clash: The cluster that has the same name with more right.
    """

    def __init__(
        self, evidence: _Evidence, vocabulary: Vocabulary, demands: Demands, is_name: np.ndarray, k: int, word: int
    ) -> None:
        self.k, self.word, self._evidence, self._vocabulary = k, word, evidence, vocabulary
        self.name: int | None = None
        self.clash: int | None = None
        self.steps = 0
        self.fit = _Fit(0.0, 0.0, 0.0, 0.0, 0.0, None)
        if word < 0:
            return
        self.fit = fit = evidence.fit(k, word)
        at = word
        while not demands.met_by(fit):
            above = {one: evidence.fit(k, one) for one in vocabulary.hypernyms[at] if is_name[one]}
            if not above:
                return
            at = max(above, key=lambda one: above[one].margin)
            fit = above[at]
            self.steps += 1
        self.name, self.fit = at, fit

    def reason(self, taken: np.ndarray, demands: Demands) -> str:
        """Why there is no name; "" if there is one. `taken` are the words of all clusters."""
        words, clusters = self._vocabulary.words, self._evidence.clusters
        if self.clash is not None:
            return f"'{words[self.name or 0]}' names cluster {clusters[self.clash]}"
        if self.name is not None:
            return ""
        if self.word < 0:
            return "there are fewer words than clusters"
        rival = self.fit.rival
        if rival is None:
            return f"there is no word to compare '{words[self.word]}' with"
        others = np.flatnonzero(taken == rival)
        if self.fit.margin < 0 and len(others):
            return f"its best word '{words[rival]}' fits cluster {clusters[others[0]]} better"
        is_distinct = self.fit.margin >= demands.margin and self.fit.z >= demands.z
        if is_distinct and self.fit.lift >= demands.margin:
            share = f"{self.fit.agreement:.0%} of its images best, and not {demands.agreement:.0%}"
            return f"'{words[self.word]}' fits {share}"
        if is_distinct:
            return f"no word fits it: '{words[self.word]}' is only less unlike it than it is unlike the others"
        return f"'{words[self.word]}' and '{words[rival]}' fit it about as well, by {self.fit.z:.1f} standard errors"


def _assign(scores: np.ndarray, is_name: np.ndarray) -> np.ndarray:
    """Words (K,) that give the largest sum, each once; -1 where there are too few."""
    count, usable = len(scores), np.flatnonzero(is_name)
    found = np.full(count, -1)
    if not len(usable):
        return found
    # Each cluster gets one of its own `count` best words: of these the others cannot take more than all but one.
    depth = min(count, len(usable))
    best = np.argpartition(-scores[:, usable], depth - 1, axis=1)[:, :depth]
    columns = usable[np.unique(best)]
    rows, places = linear_sum_assignment(scores[:, columns], maximize=True)
    found[rows] = columns[places]
    return found


def _checked(
    images: np.ndarray, labels: np.ndarray, vocabulary: Vocabulary, vectors: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Vocabulary, np.ndarray]:
    labels = np.asarray(labels, np.int64)
    if images.ndim != 2 or labels.shape != (len(images),):
        raise InputError(f"images (n, d) and labels (n,) must fit, got {images.shape} and {labels.shape}")
    if vectors.shape != (len(vocabulary), images.shape[1]):
        raise InputError(
            f"{len(vocabulary)} words need vectors of shape {(len(vocabulary), images.shape[1])}, got {vectors.shape}"
        )
    if not (labels >= 0).any():
        raise InputError("there is no cluster to name: no image has a label of 0 or more")
    return _unit(images, "images"), labels, vocabulary, _unit(vectors, "words")


def _unit(vectors: np.ndarray, what: str) -> np.ndarray:
    vectors = np.array(vectors, np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise InputError(f"the vectors of {what} must be finite, row {int((~np.isfinite(lengths)).argmax())} is not")
    vectors /= np.maximum(lengths, 1e-12)
    return vectors


def _blocks(n: int, step: int) -> Iterator[slice]:
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))
