"""How far a policy is from its reference, and the rewards of its sampled completions: figures with intervals.

Completions are sampled from the policy at temperature 1 from all tokens, so their means estimate those of the policy:

    completion_kl           KL(policy || reference), nats a completion: the mean of log(policy / reference), summed
                            along each completion. It is the estimate k1 of `objectives/kl.py`, without bias, and below
                            0 by chance where the two models are close
    completion_kl_k3        the same by k3 at each token, also without bias, and never below 0
    token_kl, token_kl_k3   both sums over all completions, divided by the tokens of all completions
    entropy                 -log(policy) over all completions, divided by their tokens (nats a token)
    completion_tokens       tokens of a completion
    ended                   the share of completions that ended before the limit
    reward                  the weighted sum of rewards
    sampled_exact, ...      the mean of each verifiable reward (`tasks/rewards.py`), 0 to 1
    sampled_abstained       the share of completions that are valid and abstain, rightly or not

Completions are cut at a limit, so this is the divergence over their first tokens, which is never more than that of
whole completions. Figures a token are ratios of means. Intervals are 95 % percentile intervals by bootstrap over
documents (see `evaluate/bootstrap.py` for what they do not cover). The completions of a document are drawn together.

Letters: N completions, D documents, M measures, S samples.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from palmette import run
from palmette.evaluate.bootstrap import ratio_intervals
from palmette.evaluate.confidence import Values

RESULT, COMPLETIONS = "divergence.json", "completions.jsonl"


@dataclass(frozen=True, slots=True)
class ScoredCompletion:
    """A completion of the policy to a question.

    Attributes:
        document, question: their ids.
        sample: which of the question's completions it is, from 0.
        text: its text.
        finish: how it ended: "end", or "length" where it was cut.
        num_tokens: the number of its tokens, including the one that ended it.
        logprob: log-probability of all of them under the policy (nats).
        reference_logprob: the same under the reference.
        kl_k3: the estimates k3 of its tokens, summed (nats).
        rewards: verifiable rewards by name, not weighted.
        reward: their weighted sum.
        abstained: whether it is a valid completion that abstains.
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
        """The estimate k1 (nats): log(policy / reference) of the whole completion."""
        return self.logprob - self.reference_logprob


@dataclass(frozen=True)
class Divergence:
    """The divergence of a policy from its reference.

    Attributes:
        completions: all completions. Each question has the same number.
        made_by: what the figures depend on, for the record.

    Raises:
        ValueError: there is no completion.
    """

    completions: tuple[ScoredCompletion, ...]
    made_by: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.completions:
            raise ValueError("there is no completion to measure")

    @functools.cached_property
    def measures(self) -> dict[str, float]:
        """Every figure of the module's table, by name."""
        return {name: float(of_N.sum() / per_N.sum()) for name, (of_N, per_N) in _columns(self.completions).items()}

    @functools.cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The interval of each figure. {} for fewer than two documents."""
        return ratio_intervals(_columns(self.completions), [completion.document for completion in self.completions])

    def to_json(self) -> dict[str, Any]:
        """All but the completions."""
        return {
            **self.measures,
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "documents": len({completion.document for completion in self.completions}),
            "questions": len({(completion.document, completion.question) for completion in self.completions}),
            "completions": len(self.completions),
            "made_by": dict(self.made_by),
        }

    def write(self, folder: Path) -> None:
        """Write divergence.json and completions.jsonl into a folder that does not exist yet.

        Raises:
            RunError: the folder exists or cannot be written.
        """
        with run.whole_folder(folder) as staging:
            run.write_json(staging / RESULT, self.to_json())
            run.write_json_lines(staging / COMPLETIONS, self.lines())

    def lines(self) -> list[dict[str, Any]]:
        """The completions, as JSON Lines hold them. `kl` is the estimate k1."""
        return [{**asdict(completion), "kl": completion.kl} for completion in self.completions]


def _columns(completions: Sequence[ScoredCompletion]) -> dict[str, tuple[Values, Values]]:
    """What each figure sums over the completions [N], and what it divides that by."""
    kl_N, k3_N = (
        np.array([completion.kl for completion in completions]),
        np.array([completion.kl_k3 for completion in completions]),
    )
    logprob_N = np.array([completion.logprob for completion in completions])
    num_tokens_N, one_N = (
        np.array([float(completion.num_tokens) for completion in completions]),
        np.ones(len(completions)),
    )
    a_completion = {
        "completion_tokens": num_tokens_N,
        "ended": np.array([float(completion.finish != "length") for completion in completions]),
        "reward": np.array([completion.reward for completion in completions]),
        **{
            f"sampled_{name}": np.array([r.rewards[name] for r in completions])
            for name in sorted(completions[0].rewards)
        },
        "sampled_abstained": np.array([float(completion.abstained) for completion in completions]),
    }
    return {
        "completion_kl": (kl_N, one_N),
        "completion_kl_k3": (k3_N, one_N),
        "token_kl": (kl_N, num_tokens_N),
        "token_kl_k3": (k3_N, num_tokens_N),
        "entropy": (-logprob_N, num_tokens_N),
        **{name: (of_N, one_N) for name, of_N in a_completion.items()},
    }
