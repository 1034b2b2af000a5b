"""A reader that must answer a question with one word of a text, as an energy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from palmette.decode.effort import Effort
from palmette.decode.posterior import log_sum_exp
from palmette.decode.span_decoder import SpanDecoder
from palmette.encoders.blanks import Blanks, words_of
from palmette.encoders.masked import MaskedModel
from palmette.errors import DataError
from palmette.inference.answerer import asked_document, load_answerer
from palmette.inference.job import model_settings

# Every span of the text is scored, so that probabilities are exact. Texts are short.
_ALL_SPANS = Effort(max_passes=None, tokens_per_pass=None)


@dataclass(frozen=True)
class AnswerEnergy:
    """-weight x log p(the answer is the word in a blank | text, question), as what is added to energies.

    Attributes:
        model: the model whose words the chains hold.
        blanks: the text.
        decoder: the reader.
        question: the question.
        blank: which of the words that may change is to be the answer, from 0.
        weight: the weight. At 1, the law is the model's law of texts times the reader's probability of the answer.
        identity: what tells the reader from others: hashes of its weights and of its prompt.
    """

    model: MaskedModel
    blanks: Blanks
    decoder: SpanDecoder
    question: str
    blank: int
    weight: float
    identity: Mapping[str, Any] = field(default_factory=dict)
    _known: dict[str, float] = field(default_factory=dict, repr=False)

    def __call__(self, token_CT: torch.Tensor) -> torch.Tensor:
        """What is added to the energies (C,) of texts."""
        words_CF = [words_of(self.model, row) for row in token_CT[:, list(self.blanks.space.free)].tolist()]
        return torch.tensor([-self.weight * self.log_probability(words) for words in words_CF], dtype=torch.float64)

    def log_probability(self, words: Sequence[str]) -> float:
        """log p (nats) that the answer is the word in the blank.

        Args:
            words: the words that may change.
        """
        text = self.blanks.text(words)
        if text not in self._known:
            ((_, posterior),) = self.decoder.posteriors([asked_document(text, [self.question], "the text")])
            odds = {span.strip(): value for span, _, value in posterior.spans}
            # Nothing is unscored, so 1 + the odds of all spans is the whole, with 1 for "?".
            whole = log_sum_exp([0.0, *(value for _, _, value in posterior.spans)])
            self._known[text] = odds.get(words[self.blank], -math.inf) - whole
        return max(self._known[text], _LEAST)


# Where the reader gives a word no chance at all, chains must still be able to leave it.
_LEAST = math.log(1e-12)


def answer_energy(
    model: MaskedModel, blanks: Blanks, reader: str, question: str, blank: int, weight: float
) -> AnswerEnergy:
    """Load a reader, and ask it.

    Args:
        model: the masked language model.
        blanks: the text.
        reader: the name of a model that answers questions.
        question: the question.
        blank: which of the words that may change is to be the answer, from 1.
        weight: see `AnswerEnergy`.

    Raises:
        DataError: there is no such blank, or the question is empty.
        PalmetteError: the reader cannot be loaded.
    """
    num = len(blanks.space.free)
    if not 1 <= blank <= num:
        raise DataError(f"blank {blank} is asked about, and {num} words may change", f"Give one from 1 to {num}.")
    asked_document("text", [question], "the text")
    answerer = load_answerer(reader, calibrated=False)
    decoder: Any = answerer.span_decoder(_ALL_SPANS)
    return AnswerEnergy(model, blanks, decoder, question, blank - 1, weight, model_settings(answerer))
