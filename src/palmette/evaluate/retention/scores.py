"""What retention is measured in: scores of texts and completions, and the figures made from them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TextScore:
    """How well a model predicts a text.

    Attributes:
        id: of the passage.
        num_tokens: tokens that were predicted. The first one is not, where the tokenizer puts nothing before a text.
        num_bytes: bytes of UTF-8 that they stand for.
        nll: negative log-likelihood of all of them (nats).
    """

    id: str
    num_tokens: int
    num_bytes: int
    nll: float

    @property
    def perplexity(self) -> float:
        """exp(nll / num_tokens): comparable between models of one tokenizer.

        >>> TextScore("a", num_tokens=4, num_bytes=8, nll=4 * math.log(2)).perplexity
        2.0
        """
        return math.exp(self.nll / self.num_tokens)

    @property
    def bits_per_byte(self) -> float:
        """nll / ln 2 / num_bytes: comparable between tokenizers.

        >>> TextScore("a", num_tokens=4, num_bytes=8, nll=4 * math.log(2)).bits_per_byte
        0.5
        """
        return self.nll / math.log(2) / self.num_bytes


def total(scores: Iterable[TextScore]) -> TextScore:
    """All texts as one: its perplexity weighs every token alike, its bits per byte every byte."""
    held = list(scores)
    return TextScore(
        "all", sum(s.num_tokens for s in held), sum(s.num_bytes for s in held), math.fsum(s.nll for s in held)
    )


@dataclass(frozen=True, slots=True)
class CompletionScore:
    """How far a tuned model has moved on one chat prompt.

    Attributes:
        id, kind: of the prompt.
        num_tokens: tokens of the untouched model's completion, the end of the turn counted if it came.
        kl: KL(untouched || tuned) of the next token, mean over these tokens (nats).
        unchanged: whether both models' greedy completions are the same, token for token.
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
    """A tuned model beside the untouched one.

    Attributes:
        before, after: the passages, scored by the untouched and by the tuned model, in one order.
        completions: the chat prompts.
    """

    before: tuple[TextScore, ...]
    after: tuple[TextScore, ...]
    completions: tuple[CompletionScore, ...]

    @property
    def perplexity_ratio(self) -> float:
        """Perplexity of all passages, after / before: 1 = nothing lost."""
        return total(self.after).perplexity / total(self.before).perplexity

    @property
    def kl(self) -> float:
        """KL(untouched || tuned), mean over the tokens of all completions (nats per token): 0 = nothing has moved."""
        return math.fsum(r.kl * r.num_tokens for r in self.completions) / sum(r.num_tokens for r in self.completions)

    @property
    def unchanged(self) -> float:
        """Share of the greedy completions that are the same, token for token, in percent."""
        return 100.0 * sum(r.unchanged for r in self.completions) / len(self.completions)

    def summary(self) -> dict[str, Any]:
        """The figures: everything the class says, and how many passages have become less likely."""
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
        """The figures, then those of each passage and each prompt."""
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
