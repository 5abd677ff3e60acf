"""Losses of cluster heads: a row and its neighbour belong together, and no cluster may starve.

Every loss takes logits of many heads at once, (n, heads, k), and gives one value a head: heads learn side by side and
are compared by it afterwards. All stay in log space and in at least float32: a head that is sure of a row gives
probabilities that float32 rounds to 0.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from imagescape.errors import InputError


def log_agreement(a: Float[Tensor, "*n k"], b: Float[Tensor, "*n k"]) -> Float[Tensor, "*n"]:
    """Log of the probability that two rows of logits are of the same cluster, log sum_c p_c q_c; <= 0."""
    return torch.logsumexp(a.log_softmax(-1) + b.log_softmax(-1), -1)


def entropy_of_mean(logits: Float[Tensor, "n heads k"]) -> Float[Tensor, " heads"]:
    """Entropy in nats of the mean probabilities over the rows: 0 when one cluster has all, log k when all are even."""
    log_mean = torch.logsumexp(logits.log_softmax(-1), 0) - math.log(len(logits))
    return -(log_mean.exp() * log_mean).sum(-1)


def scan_loss(
    anchors: Float[Tensor, "n heads k"], neighbors: Float[Tensor, "n heads k"], *, entropy_weight: float = 5.0
) -> Float[Tensor, " heads"]:
    """SCAN: anchors and their neighbours in the same cluster, all clusters in use.

    -mean log <p, q> - entropy_weight * H(mean p), in nats. With entropy_weight 1 it is -log k at best, and 0 when all
    rows are in one cluster.

    Args:
        anchors: Logits, row i and row i of `neighbors` are a pair.
        neighbors: Logits of one neighbour of each anchor.
        entropy_weight: How much an even spread over the clusters is worth.

    Raises:
        InputError: the logits are not of one shape (n, heads, k), or there are none.

    Source: Van Gansbeke et al. 2020, arXiv:2005.12320, equation 2.

    >>> sure = torch.tensor([[[9.0, -9.0]], [[-9.0, 9.0]]])
    >>> round(float(scan_loss(sure, sure, entropy_weight=1.0)), 4)  # -log 2
    -0.6931
    """
    anchors, neighbors = _logits(anchors, neighbors)
    return -log_agreement(anchors, neighbors).mean(0) - entropy_weight * entropy_of_mean(anchors)


def shared_information(a: Int[Tensor, "n heads"], b: Int[Tensor, "n heads"], k: int) -> Float[Tensor, " heads"]:
    """What the cluster of one row of a pair tells of the other's: their mutual information in nats, 0 … log k.

    It is what TEMI's loss goes towards as heads grow sure (beta 1, w 1), and depends on nothing but the clusters: so
    heads can be compared by it that are not equally sure.

    Args:
        a, b: Clusters 0 … k - 1 of both rows of each pair; which is which does not matter.
        k: Clusters.

    >>> clusters = torch.tensor([[0], [0], [1], [1]])
    >>> round(float(shared_information(clusters, clusters, 2)), 4)  # log 2
    0.6931
    """
    return torch.stack([_shared(torch.cat(pair), torch.cat(pair[::-1]), k) for pair in zip(a.T, b.T, strict=True)])


def _shared(a: Int[Tensor, " p"], b: Int[Tensor, " p"], k: int) -> Float[Tensor, ""]:
    # Of the k^2 pairs of clusters only those that occur are held.
    cells, counts = (a * k + b).unique(return_counts=True)
    joint, marginal = counts.double() / len(a), a.bincount(minlength=k).double() / len(a)
    return (joint * (joint / (marginal[cells // k] * marginal[cells % k])).log()).sum().float()


def teacher_agreement(a: Float[Tensor, "n heads k"], b: Float[Tensor, "n heads k"]) -> Float[Tensor, " n"]:
    """How sure the teachers are that each pair belongs together: their agreement, averaged over the heads; 0 … 1.

    It takes false neighbours out of the loss. No gradient flows through it.
    """
    return log_agreement(a, b).exp().mean(1).detach()


def temi_loss(
    student: Float[Tensor, "n heads k"],
    teacher: Float[Tensor, "n heads k"],
    marginal: Float[Tensor, "heads k"],
    weight: Float[Tensor, " n"],
    *,
    beta: float = 0.6,
) -> Float[Tensor, " heads"]:
    """TEMI: the pointwise mutual information of a row's cluster and its neighbour's, as far as it can be told.

    -mean w log sum_c (s_c t_c)^beta / pi_c, in nats. With beta 1 and w 1, heads that are sure and right reach -H(pi),
    which is -log k when the clusters are even. A beta below 1 asks for less certainty and keeps clusters from
    emptying.

    Args:
        student: Logits of one row of each pair; what learns.
        teacher: Logits of the other one; no gradient flows through them.
        marginal: Probability of each cluster among the teacher's, pi; above 0.
        weight: Of each pair, 0 … 1.
        beta: Above 0, at most 1.

    Raises:
        InputError: shapes that do not fit, or a beta out of range.

    Source: Adaloglou et al. 2023, arXiv:2303.17896, equations 8 to 11.
    """
    student, teacher = _logits(student, teacher.detach())
    if not 0 < beta <= 1:
        raise InputError(f"beta must be above 0 and at most 1, got {beta}")
    joint = beta * (student.log_softmax(-1) + teacher.log_softmax(-1)) - marginal.log()
    return -(weight[:, None] * torch.logsumexp(joint, -1)).mean(0)


def confident_cross_entropy(
    student: Float[Tensor, "n k"],
    teacher: Float[Tensor, "n k"],
    *,
    confidence: float,
    least_share: float = 0.0,
    balance: bool = True,
) -> Float[Tensor, ""]:
    """Cross-entropy with the clusters that the teacher is sure of; 0 when it is sure of none.

    Args:
        student: Logits of the strong views; what learns.
        teacher: Logits of the weak views of the same images; no gradient flows through them.
        confidence: Rows teach whose highest probability is at least this.
        least_share: However unsure the teacher, this share of the batch teaches: the rows it is surest of.
        balance: Every cluster among the teaching rows weighs the same, however many rows it has.

    Source: Van Gansbeke et al. 2020, arXiv:2005.12320, section 2.3; least_share is ours, for a teacher that is
    nowhere sure enough at first.
    """
    sure, cluster = teacher.detach().softmax(-1).max(-1)
    if least_share > 0:
        confidence = min(confidence, float(torch.quantile(sure, 1 - least_share)))
    teaches = (sure >= confidence).to(student)
    weight = teaches / _rows_of_own_cluster(cluster, teaches, student.shape[1]) if balance else teaches
    losses = torch.nn.functional.cross_entropy(student, cluster, reduction="none")
    return (weight * losses).sum() / weight.sum().clamp_min(1e-12)


def _rows_of_own_cluster(cluster: Int[Tensor, " n"], counted: Float[Tensor, " n"], k: int) -> Float[Tensor, " n"]:
    return counted.new_zeros(k).index_add_(0, cluster, counted).clamp_min(1)[cluster]


def _logits(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.shape != b.shape or a.ndim != 3 or not len(a):
        raise InputError(
            f"a loss of cluster heads needs two sets of logits of one shape (n, heads, k), n at least 1; "
            f"got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    return _at_least_float32(a), _at_least_float32(b)


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


class ScanLoss(nn.Module):
    """`scan_loss` of all heads together, for the training loop.

    Several devices each take the loss of the whole batch, whose mean clusters it needs.
    """

    def __init__(self, entropy_weight: float = 5.0) -> None:
        super().__init__()
        if not 0 <= entropy_weight < math.inf:
            raise InputError(f"entropy_weight must be at least 0 and finite, got {entropy_weight}")
        self.entropy_weight = entropy_weight

    def forward(self, a: Tensor, b: Tensor, *, candidates: Any = None, first_row: int = 0) -> Float[Tensor, ""]:
        a, b = (a, b) if candidates is None else candidates
        return scan_loss(a, b, entropy_weight=self.entropy_weight).sum()


class TemiLoss(nn.Module):
    """`temi_loss` of all heads, both ways round, with the teacher's marginals as a running mean.

    Takes what `Distilled` gives: (n, 2, heads, k), the student's logits and the teacher's.

    Args:
        heads, k: Of the logits.
        beta: See `temi_loss`.
        momentum: Of the running mean.
    """

    marginal: Tensor

    def __init__(self, heads: int, k: int, *, beta: float = 0.6, momentum: float = 0.9) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise InputError(f"momentum of the marginals must be at least 0 and below 1, got {momentum}")
        self.beta, self.momentum = beta, momentum
        self.register_buffer("marginal", torch.full((heads, k), 1 / k))

    def forward(self, a: Tensor, b: Tensor, *, candidates: Any = None, first_row: int = 0) -> Float[Tensor, ""]:
        a, b = (a, b) if candidates is None else candidates
        (student_a, teacher_a), (student_b, teacher_b) = _at_least_float32(a).unbind(1), _at_least_float32(b).unbind(1)
        with torch.no_grad():
            mean = (teacher_a.softmax(-1).mean(0) + teacher_b.softmax(-1).mean(0)) / 2
            self.marginal.lerp_(mean.to(self.marginal), 1 - self.momentum)
        weight = teacher_agreement(teacher_a, teacher_b)
        ways = ((student_a, teacher_b), (student_b, teacher_a))
        losses = [temi_loss(*way, self.marginal.clamp_min(1e-6), weight, beta=self.beta) for way in ways]
        return (losses[0] + losses[1]).mean() / 2


class SelfLabelLoss(nn.Module):
    """`confident_cross_entropy` whose least share of teaching rows grows as the teacher gets better.

    Takes the teacher's logits of the weak views and the student's of the strong ones, (n, 1, k) both.

    Args:
        confidence: See `confident_cross_entropy`.
        shares: Least share of the batch that teaches, at the start and at the end.
        balance: See `confident_cross_entropy`.
    """

    def __init__(
        self, confidence: float = 0.99, *, shares: tuple[float, float] = (0.3, 0.7), balance: bool = True
    ) -> None:
        super().__init__()
        if not 0 < confidence <= 1:
            raise InputError(f"confidence must be above 0 and at most 1, got {confidence}")
        if not 0 < shares[0] <= shares[1] <= 1:
            raise InputError(f"shares must rise within 0 to 1, got {shares}")
        self.confidence, self.shares, self.balance, self.least_share = confidence, shares, balance, shares[0]

    def at(self, progress: float) -> None:
        """Told by the loop how far it is, from 0 to 1."""
        self.least_share = self.shares[0] + progress * (self.shares[1] - self.shares[0])

    def forward(self, a: Tensor, b: Tensor, *, candidates: Any = None, first_row: int = 0) -> Float[Tensor, ""]:
        a, b = (a, b) if candidates is None else candidates
        return confident_cross_entropy(
            b.float().squeeze(1),
            a.float().squeeze(1),
            confidence=self.confidence,
            least_share=self.least_share,
            balance=self.balance,
        )
