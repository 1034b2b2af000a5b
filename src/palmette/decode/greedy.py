"""Greedy generation on the prefix tree.

All documents share the system message, and all questions of a document share the document. Completions grow as
branches, one token of each in a pass. They are the same completions that one prompt in each row gives, for a fraction
of the tokens. Placeholders and the opening of a second turn are inserted if the task has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from palmette.data.records import Document, Question
from palmette.decode.generation import CompletionDecoder
from palmette.decode.growth import grow, likeliest
from palmette.decode.prefix_cache import PrefixCache
from palmette.decode.reasoning import reason
from palmette.errors import PackingError
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.open_completion import OpenCompletion


@dataclass(frozen=True, slots=True)
class _Branch:
    """A question with its position among all questions."""

    index: int
    opened: OpenCompletion


class GreedyDecoder(CompletionDecoder):
    """Answers with the likeliest token at every step.

    Args:
        model, tokenizer, task, options: as for `CompletionDecoder`. The model has one of our attention backends.
        tokens_per_batch: the most tokens of a prefix tree held in memory. They need their keys and values, and a mask
            of the square of that number in bytes.
    """

    def __init__(
        self, model: Any, tokenizer: Any, task: ExtractiveQa, *, tokens_per_batch: int = 8192, **options: Any
    ) -> None:
        super().__init__(model, tokenizer, task, **options)
        self._tokens_per_batch = tokens_per_batch

    def completions(self, questions: Sequence[tuple[Document, Question]]) -> Iterator[tuple[int, str]]:
        """(index into `questions`, text of the completion), batch by batch, in the order of the questions.

        Raises:
            ModelError: a prompt with its completion is longer than the model's positions.
            PackingError: a prompt with its completion does not fit into a batch.
        """
        cache = PrefixCache(self._model, self._tokens_per_batch)
        for root, batch in self._batches(questions):
            for branch, completion in zip(batch, self._say(cache, root, batch), strict=True):
                yield branch.index, completion

    def _batches(
        self, questions: Sequence[tuple[Document, Question]]
    ) -> Iterator[tuple[tuple[int, ...], list[_Branch]]]:
        """The tokens that begin all prompts, and branches that fit into the cache together, grouped by document."""
        batch: list[_Branch] = []
        root: tuple[int, ...] = ()
        used = 0
        for index, (document, question) in enumerate(questions):
            opened = self._task.open_completion(document.text, question.text)
            root, branch, written = opened.root, _Branch(index, opened), self._written(opened)
            self._check_length(len(root) + len(opened.document) + written, document, question)
            need = written + self._max_new_tokens
            alone = len(root) + len(opened.document) + need
            if alone > self._tokens_per_batch:
                raise PackingError(
                    f"question {question.id!r} about document {document.id!r} needs {alone} tokens with its "
                    f"completion, and a batch has {self._tokens_per_batch}",
                    "Split the document, or use the span decoder, which reads it in windows.",
                )
            shared = bool(batch) and batch[-1].opened.document == opened.document
            if batch and used + need + (0 if shared else len(opened.document)) > self._tokens_per_batch:
                yield root, batch
                batch, shared = [], False
            used = (used if batch else len(root)) + need + (0 if shared else len(opened.document))
            batch.append(branch)
        if batch:
            yield root, batch

    def _written(self, opened: OpenCompletion) -> int:
        """The most tokens between a document and the last of its completions."""
        first = self._max_new_tokens + opened.lead if opened.verdict else 0
        free = self._reasoning_limit + len(opened.opening) if self._reasoning_limit is not None else 0
        return len(opened.question) + first + len(opened.placeholders) + free

    def _say(self, cache: PrefixCache, root: tuple[int, ...], batch: list[_Branch]) -> list[str]:
        """Read the prompts, then grow every completion to its end."""
        cache.truncate(0)
        start = cache.append(root, -1)
        slots: list[int] = []
        for document, branches in groupby(batch, key=lambda branch: branch.opened.document):
            trunk = cache.append(document, start)
            slots.extend(cache.append(branch.opened.question, trunk) for branch in branches)
        first = batch[0].opened
        if first.verdict:
            return self._say_both(cache, slots, first)
        if self._reasoning_limit is None:
            return self._grow(cache, [cache.append(first.placeholders, slot, attend=first.attends) for slot in slots])
        opening, stops = self._task.prompt.before_answer, self._stops()
        reasoned = reason(cache, slots, self._tokenizer, opening, limit=self._reasoning_limit, stops=stops)
        answers = self._grow(cache, [cache.append(first.opening, reasoning.slot) for reasoning in reasoned])
        lead = self._text(list(first.opening))
        return [reasoning.text + lead + answer for reasoning, answer in zip(reasoned, answers, strict=True)]

    def _say_both(self, cache: PrefixCache, slots: list[int], opened: OpenCompletion) -> list[str]:
        """Two completions, one after the other. There is a second one only after a "yes"."""
        completions, verdict = self._grow(cache, slots), opened.verdict
        assert verdict is not None
        affirmed = [index for index, completion in enumerate(completions) if self._task.prompt.verdict(completion)]
        begun = []
        for index in affirmed:
            turn = cache.append((*verdict.opening, *verdict.yes, *verdict.turn), slots[index])
            begun.append(cache.append(opened.placeholders, turn, attend=opened.attends))
        for index, completion in zip(affirmed, self._grow(cache, begun), strict=True):
            completions[index] += "\n" + completion
        return completions

    def _grow(self, cache: PrefixCache, slots: list[int]) -> list[str]:
        """A completion below each slot, to its end."""
        grown = grow(cache, slots, likeliest, limits=self._max_new_tokens, stop_tokens=set(self._stops()))
        return [self._text(growth.tokens) for growth in grown]
