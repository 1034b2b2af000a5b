"""How far a policy has gone from its reference, and what its sampled replies earn: figures over replies, with intervals.

Replies are drawn from the policy at temperature 1 from all tokens, so what holds on average for them estimates what holds for the policy:

    reply_kl                 KL(policy || reference), nats a reply: the mean over replies of log(policy / reference), summed along each;
                             the estimate k1 of `objectives/kl.py`, without bias, and below 0 by chance where the two are close
    reply_kl_k3              the same by k3 at each token, without bias too, and never below 0
    token_kl, token_kl_k3    both sums over all replies, divided by the tokens of all replies
    entropy                  -log(policy) over all replies, divided by their tokens (nats a token)
    reply_tokens, ended      tokens of a reply, and the share of replies that came to an end before the limit
    reward                   the weighted sum of rewards
    sampled_exact, ...       the mean of each verifiable reward (`tasks/rewards.py`), 0 to 1
    sampled_abstained        the share of replies that are valid and abstain, rightly or not

Replies are cut at a limit, so this is the divergence over so many first tokens, which is never more than that of whole replies. Figures a
token are ratios of means. Intervals are 95 % percentile intervals by the bootstrap over documents (`evaluate/bootstrap.py` says why, and
what they do not cover); a document's replies are drawn together.

Letters: N replies, D documents, M measures, S samples.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from palmette.evaluate.confidence import Values

_SAMPLES = 1000


@dataclass(frozen=True, slots=True)
class ScoredReply:
    """A reply of the policy to a question.

    Attributes:
        document, question: their ids.
        sample: which of the question's replies it is, from 0.
        text: what was said.
        finish: what ended it: "end", or "length" where it was cut.
        num_tokens: its tokens, the one that ended it among them; one or more.
        logprob: log-probability of all of them under the policy (nats).
        reference_logprob: the same under the reference.
        kl_k3: the estimates k3 of its tokens, summed (nats).
        rewards: verifiable rewards by name, not weighted.
        reward: their weighted sum.
        abstained: whether it is a valid reply that abstains.
    """

    document: str
    question: str
    sample: int
    text: str
    finish: str
    num_tokens: int
    logprob: float
    reference_logprob: float
    kl_k3: float
    rewards: Mapping[str, float]
    reward: float
    abstained: bool

    @property
    def kl(self) -> float:
        """The estimate k1 (nats): log(policy / reference) of the whole reply."""
        return self.logprob - self.reference_logprob


@dataclass(frozen=True)
class Divergence:
    """What was found of a policy and its reference.

    Attributes:
        replies: all replies; each question has as many.
        made_by: what the figures depend on, for the record.

    Raises:
        ValueError: there is no reply.
    """

    replies: tuple[ScoredReply, ...]
    made_by: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.replies:
            raise ValueError("there is no reply to measure")

    @functools.cached_property
    def measures(self) -> dict[str, float]:
        """Every figure of the module's table, by name."""
        return {name: float(of_N.sum() / per_N.sum()) for name, (of_N, per_N) in _columns(self.replies).items()}

    @functools.cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The interval of each figure; {} for fewer than two documents, from which nothing can be learned about others."""
        return ratio_intervals(_columns(self.replies), [reply.document for reply in self.replies])

    def to_json(self) -> dict[str, Any]:
        """All but the replies."""
        return {
            **self.measures,
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "documents": len({reply.document for reply in self.replies}),
            "questions": len({(reply.document, reply.question) for reply in self.replies}),
            "replies": len(self.replies),
            "made_by": dict(self.made_by),
        }

    def lines(self) -> list[dict[str, Any]]:
        """The replies, as JSON Lines hold them; `kl` is what k1 says of each."""
        return [{**asdict(reply), "kl": reply.kl} for reply in self.replies]


def ratio_intervals(
    columns: Mapping[str, tuple[Values, Values]], documents: Sequence[str], *, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of ratios of sums over replies, documents being drawn with all of their replies.

    Two documents of one reply each, which earned 0 and 1: a quarter of the samples hold only the one, a quarter only the other.

    >>> ratio_intervals({"reward": (np.array([0.0, 1.0]), np.ones(2))}, ["a", "b"])
    {'reward': (0.0, 1.0)}

    Args:
        columns: what is summed, and what it is divided by [N], by name; every divisor is positive.
        documents: the document of each reply.
        seed: of the draws.

    Returns:
        {} for fewer than two documents.
    """
    numbers: dict[str, int] = {}
    document_N = np.array([numbers.setdefault(name, len(numbers)) for name in documents])
    if len(numbers) < 2:
        return {}
    of_DM, per_DM = (
        np.stack([np.bincount(document_N, pair[side], len(numbers)) for pair in columns.values()], axis=1)
        for side in (0, 1)
    )
    draw_SD = np.random.default_rng(seed).multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), _SAMPLES)
    sample_SM = (draw_SD @ of_DM) / (draw_SD @ per_DM)
    ends = np.quantile(sample_SM, [0.025, 0.975], axis=0).T.tolist()
    return {name: (low, high) for name, (low, high) in zip(columns, ends, strict=True)}


def _columns(replies: Sequence[ScoredReply]) -> dict[str, tuple[Values, Values]]:
    """What each figure sums over the replies [N], and what it divides that by."""
    kl_N, k3_N = np.array([reply.kl for reply in replies]), np.array([reply.kl_k3 for reply in replies])
    logprob_N = np.array([reply.logprob for reply in replies])
    num_tokens_N, one_N = np.array([float(reply.num_tokens) for reply in replies]), np.ones(len(replies))
    a_reply = {
        "reply_tokens": num_tokens_N,
        "ended": np.array([float(reply.finish != "length") for reply in replies]),
        "reward": np.array([reply.reward for reply in replies]),
        **{f"sampled_{name}": np.array([r.rewards[name] for r in replies]) for name in sorted(replies[0].rewards)},
        "sampled_abstained": np.array([float(reply.abstained) for reply in replies]),
    }
    return {
        "reply_kl": (kl_N, one_N),
        "reply_kl_k3": (k3_N, one_N),
        "token_kl": (kl_N, num_tokens_N),
        "token_kl_k3": (k3_N, num_tokens_N),
        "entropy": (-logprob_N, num_tokens_N),
        **{name: (of_N, one_N) for name, of_N in a_reply.items()},
    }
