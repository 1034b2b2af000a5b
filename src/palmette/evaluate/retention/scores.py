"""The scores of texts and completions that retention is made of, and the figures computed from them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TextScore:
    """How well a model predicts a text.

    Attributes:
        id: the id of the passage.
        num_tokens: how many tokens were predicted. The first is not predicted if the tokenizer puts nothing before it.
        num_bytes: how many bytes of UTF-8 the predicted tokens have.
        nll: negative log-likelihood of the predicted tokens, summed (nats).
    """

    id: str
    num_tokens: int
    num_bytes: int
    nll: float

    @property
    def perplexity(self) -> float:
        """exp(nll / num_tokens). It can be compared between models with the same tokenizer.

        >>> TextScore("a", num_tokens=4, num_bytes=8, nll=4 * math.log(2)).perplexity
        2.0
        """
        return math.exp(self.nll / self.num_tokens)

    @property
    def bits_per_byte(self) -> float:
        """nll / ln 2 / num_bytes. It can be compared between tokenizers.

        >>> TextScore("a", num_tokens=4, num_bytes=8, nll=4 * math.log(2)).bits_per_byte
        0.5
        """
        return self.nll / math.log(2) / self.num_bytes


def total(scores: Iterable[TextScore]) -> TextScore:
    """All texts as one. Its perplexity weighs all tokens equally, and its bits per byte weigh all bytes equally."""
    held = list(scores)
    return TextScore(
        "all", sum(s.num_tokens for s in held), sum(s.num_bytes for s in held), math.fsum(s.nll for s in held)
    )


@dataclass(frozen=True, slots=True)
class CompletionScore:
    """How much a tuned model differs from the untouched one on a chat prompt.

    Attributes:
        id, kind: the id and the kind of the prompt.
        num_tokens: tokens of the untouched model's completion, including the end of the turn if it came.
        kl: KL(untouched || tuned) of the next token, averaged over these tokens (nats).
        unchanged: whether the greedy completions of both models are the same, token for token.
        untouched, tuned: the two completions.
    """

    id: str
    kind: str
    num_tokens: int
    kl: float
    unchanged: bool
    untouched: str
    tuned: str


@dataclass(frozen=True)
class Retention:
    """A comparison of a tuned model with the untouched one.

    Attributes:
        before, after: the scores of the passages by the untouched and by the tuned model, in the same order.
        completions: the scores of the chat prompts.
    """

    before: tuple[TextScore, ...]
    after: tuple[TextScore, ...]
    completions: tuple[CompletionScore, ...]

    @property
    def perplexity_ratio(self) -> float:
        """The perplexity of all passages after fine-tuning, divided by that before. At 1 nothing was lost."""
        return total(self.after).perplexity / total(self.before).perplexity

    @property
    def kl(self) -> float:
        """KL(untouched || tuned), averaged over the tokens of all completions (nats per token). 0 means no change."""
        return math.fsum(r.kl * r.num_tokens for r in self.completions) / sum(r.num_tokens for r in self.completions)

    @property
    def unchanged(self) -> float:
        """The percentage of greedy completions that are the same, token for token."""
        return 100.0 * sum(r.unchanged for r in self.completions) / len(self.completions)

    def summary(self) -> dict[str, Any]:
        """The figures of all passages and prompts, and how many passages have become less likely."""
        before, after = total(self.before), total(self.after)
        worse = sum(b.nll < a.nll for b, a in zip(self.before, self.after, strict=True))
        return {
            "untouched": {"perplexity": before.perplexity, "bits_per_byte": before.bits_per_byte},
            "tuned": {"perplexity": after.perplexity, "bits_per_byte": after.bits_per_byte},
            "perplexity_ratio": self.perplexity_ratio,
            "passages": len(self.before),
            "passages_worse": worse,
            "text_tokens": before.num_tokens,
            "kl": self.kl,
            "completions": len(self.completions),
            "completions_unchanged": self.unchanged,
            "completion_tokens": sum(r.num_tokens for r in self.completions),
        }

    def to_json(self) -> dict[str, Any]:
        """The summary, followed by the figures of each passage and each prompt."""
        texts = [
            {
                "id": b.id,
                "tokens": b.num_tokens,
                "bytes": b.num_bytes,
                "untouched": {"perplexity": b.perplexity, "bits_per_byte": b.bits_per_byte},
                "tuned": {"perplexity": a.perplexity, "bits_per_byte": a.bits_per_byte},
            }
            for b, a in zip(self.before, self.after, strict=True)
        ]
        return {
            **self.summary(),
            "by_passage": texts,
            "by_prompt": [asdict(completion) for completion in self.completions],
        }
