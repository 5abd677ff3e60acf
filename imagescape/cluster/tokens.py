"""Names of groups of images by what is written about them: folder names, captions, tags.

A token is over-represented in a cluster if the odds that an image has it are higher there than in the rest of the
collection. Rare tokens would win by chance, so the log-odds are taken with an informative Dirichlet prior, whose shape
is that of the whole collection, and judged by their standard error (B. Monroe, M. Colaresi, K. Quinn, Fightin' words,
Political Analysis 16, 2008). Counted are images, not occurrences: an image says a thing or does not. So the variance
is that of both odds, not its approximation for words that are rare.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from scipy.stats import norm

from imagescape.cluster.members import Members
from imagescape.errors import InputError

_WORD = re.compile(r"[^\W\d_][^\W_]*")  # begins with a letter, may go on with digits: no years, no counters
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")  # between the words of camelCase
_PART = re.compile(r"[/\\;,|]+")  # between the folders of a path and the items of a list
_PHRASE_WORDS = 4
_BY_CHANCE = 0.01  # of clusters that are a random draw, the share that gets a name


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A token and how much more it is said in a cluster than elsewhere.

    Attributes:
        token: One word, or a phrase that is a whole folder name or item.
        log_odds: In nats, shrunk towards 0 by the prior.
        z: That in standard errors.
        images: Of the cluster that have the token.
    """

    token: str
    log_odds: float
    z: float
    images: int


@dataclass(frozen=True, slots=True)
class TokenName:
    """What a cluster is called by its tokens, or why it is not.

    Attributes:
        cluster: Its label.
        size: Images in it.
        name: None where no token is said distinctly more.
        score: Log-odds of the token, or of the first where none is a name, in nats; 0 where there is none.
        margin: How far they are above what chance gives, in nats.
        reason: Why there is no name; "" where there is one.
        tokens: The most over-represented, by z.
    """

    cluster: int
    size: int
    name: str | None
    score: float
    margin: float
    reason: str
    tokens: tuple[TokenScore, ...]


def tokens_of(text: str) -> list[str]:
    """The tokens of a text, each once: its words in lower case, and short phrases that are a whole folder or item.

    >>> tokens_of("2019/Sea lions/IMG_004")
    ['sea', 'lions', 'sea lions', 'img']
    """
    found: dict[str, None] = {}
    for part in _PART.split(text):
        words = [word.casefold() for word in _WORD.findall(_HUMP.sub(" ", part))]
        found |= dict.fromkeys(word for word in words if len(word) > 1 or not word.isascii())
        if 2 <= len(words) <= _PHRASE_WORDS:
            found[" ".join(words)] = None
    return list(found)


def log_odds(
    inside: Float[np.ndarray, " v"], outside: Float[np.ndarray, " v"], images_inside: int, images_outside: int
) -> tuple[Float[np.ndarray, " v"], Float[np.ndarray, " v"]]:
    """Log-odds-ratio of each token between the images of a cluster and the others, and its z-score.

    The prior is worth as many images as there are clusters of this size in the collection, and has each token as often
    as the collection has it: a token of this cluster alone has a prior of one image.

    Args:
        inside, outside: Images that have each token, in the cluster and elsewhere; not all images may have it.
        images_inside, images_outside: How many images those are of; 1 or more are inside.

    Returns:
        In nats, above 0 for what is said more inside; and in standard errors.
    """
    prior_images = (images_inside + images_outside) / images_inside
    prior = (inside + outside) / images_inside
    a, b = inside + prior, outside + prior
    not_a, not_b = images_inside + prior_images - a, images_outside + prior_images - b
    ratio = np.log(a / not_a) - np.log(b / not_b)
    return ratio, ratio / np.sqrt(1 / a + 1 / not_a + 1 / b + 1 / not_b)


def name_by_tokens(
    columns: Sequence[Sequence[str | None]],
    labels: Int64[np.ndarray, " n"],
    *,
    z: float | None = None,
    top: int = 5,
) -> tuple[TokenName, ...]:
    """A name for every cluster in which a token is over-represented, no name twice.

    Args:
        columns: Texts of each image, (n,) a column, None for nothing. A token counts once an image, wherever it is.
        labels: Cluster of each; -1 for none, which counts to the rest of every cluster.
        z: Standard errors above 0 that a name needs. None: as many as the highest of all tokens reaches by chance in
            one of a hundred clusters.
        top: Tokens to tell of each cluster.

    Returns:
        One for every cluster, by label.

    Raises:
        InputError: shapes do not fit, there is no cluster, or z is below 0.
    """
    labels = np.asarray(labels, np.int64)
    if not columns or any(len(column) != len(labels) for column in columns):
        raise InputError(
            f"every column needs one text for each of {len(labels)} images, got {[len(one) for one in columns]}"
        )
    if z is not None and not z >= 0:
        raise InputError(f"the z of a name must be 0 or more, got {z}")
    if not (labels >= 0).any():
        raise InputError("there is no cluster to name: no image has a label of 0 or more")
    tokens, said = _incidence(columns)
    members = Members.of(labels)
    clusters = members.clusters
    needed = float(norm.isf(_BY_CHANCE / max(len(tokens), 1))) if z is None else z
    total = np.asarray(said.sum(axis=0), np.float64).ravel()
    lists = [_over_represented(tokens, said[rows], total, len(labels), max(top, len(clusters))) for rows in members]
    taken = _assign(lists, needed)
    owners = {token: int(clusters[k]) for k, token in enumerate(taken) if token is not None}
    named = []
    for k, found in enumerate(lists):
        shown = next((one for one in found if one.token == taken[k]), found[0] if found else None)
        score, margin, reason = 0.0, 0.0, "nothing is said of it more than of the others"
        if shown is not None:
            score, margin = shown.log_odds, shown.log_odds * (1 - needed / shown.z)
            reason = f"'{shown.token}' is said of it more, but only by {shown.z:.1f} standard errors of {needed:.1f}"
            if taken[k] is not None:
                reason = ""
            elif shown.z >= needed:
                reason = f"its token '{shown.token}' fits cluster {owners[shown.token]} better"
        named.append(TokenName(int(clusters[k]), len(members[k]), taken[k], score, margin, reason, tuple(found[:top])))
    return tuple(named)


def _incidence(columns: Sequence[Sequence[str | None]]) -> tuple[list[str], csr_matrix]:
    """All tokens, and which images have which: (n, V) of 0 and 1. Each different text is cut up once."""
    texts: dict[str, int] = {}
    which = [texts.setdefault("/".join(filter(None, said)), len(texts)) for said in zip(*columns, strict=True)]
    known: dict[str, int] = {}
    rows = [[known.setdefault(token, len(known)) for token in tokens_of(text)] for text in texts]
    ends = np.cumsum([0, *map(len, rows)])
    entries = np.fromiter(itertools.chain.from_iterable(rows), np.int64, ends[-1])
    by_text = csr_matrix((np.ones(len(entries), np.int64), entries, ends), (len(texts), len(known)))
    return list(known), by_text[which]


def _over_represented(
    tokens: Sequence[str], said: csr_matrix, total: np.ndarray, n: int, count: int
) -> list[TokenScore]:
    """The `count` tokens with the highest z above 0 among the images `said` is of; of equals, phrases first."""
    inside = np.asarray(said.sum(axis=0), np.float64).ravel()
    here = np.flatnonzero((inside > 0) & (total < n))  # what all images have tells nothing
    ratio, z = log_odds(inside[here], total[here] - inside[here], said.shape[0], n - said.shape[0])
    words = np.array([tokens[row].count(" ") for row in here.tolist()], np.int64)
    best = np.lexsort((here, -words, -z))[:count]
    best = best[z[best] > 0]
    figures = zip(here[best].tolist(), ratio[best].tolist(), z[best].tolist(), strict=True)
    return [TokenScore(tokens[row], odds, errors, int(inside[row])) for row, odds, errors in figures]


def _assign(lists: Sequence[Sequence[TokenScore]], needed: float) -> list[str | None]:
    """The largest sum of z above what is needed, each token once; None where no token is left that reaches it."""
    tokens = list(dict.fromkeys(one.token for found in lists for one in found if one.z >= needed))
    column = {token: i for i, token in enumerate(tokens)}
    gains = np.zeros((len(lists), len(tokens) + len(lists)))  # and for each cluster the choice of no name
    for k, found in enumerate(lists):
        for place, one in enumerate(found):
            if one.z >= needed:  # the order of a list decides between equals
                gains[k, column[one.token]] = one.z - needed + 1e-6 - 1e-9 * place
    rows, best = linear_sum_assignment(gains, maximize=True)
    return [tokens[i] if gains[k, i] > 0 else None for k, i in zip(rows.tolist(), best.tolist(), strict=True)]
