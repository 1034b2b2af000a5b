"""Greedy generation on the prefix tree: all documents share the system message, all questions their document, and completions grow as
branches, one token of each in a pass. The same completions as one prompt a row gives, for a fraction of the tokens. Placeholders and a second
turn, where the task has them, are written in.
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
from palmette.tasks.extractive_qa import ExtractiveQa, OpenCompletion


@dataclass(frozen=True, slots=True)
class _Branch:
    """A question whose completion is to grow."""

    index: int
    opened: OpenCompletion


class GreedyDecoder(CompletionDecoder):
    """Answers by the likeliest next token, again and again.

    Args:
        model, tokenizer, task, options: as for `CompletionDecoder`; the model has one of our attention backends.
        tokens_per_batch: tokens of a prefix tree held at once, which bounds memory: keys and values of so many tokens, and a mask of
            its square in bytes.
    """

    def __init__(
        self, model: Any, tokenizer: Any, task: ExtractiveQa, *, tokens_per_batch: int = 8192, **options: Any
    ) -> None:
        super().__init__(model, tokenizer, task, **options)
        self._tokens_per_batch = tokens_per_batch

    def completions(self, questions: Sequence[tuple[Document, Question]]) -> Iterator[tuple[int, str]]:
        """(index into `questions`, the completion's text), batch by batch, in their order; see `CompletionDecoder`.

        Raises:
            ModelError: a prompt with its completion is longer than the model was made for.
            PackingError: a prompt with its completion does not fit into a batch.
        """
        cache = PrefixCache(self._model, self._tokens_per_batch)
        for root, batch in self._batches(questions):
            for branch, completion in zip(batch, self._say(cache, root, batch), strict=True):
                yield branch.index, completion

    def _batches(
        self, questions: Sequence[tuple[Document, Question]]
    ) -> Iterator[tuple[tuple[int, ...], list[_Branch]]]:
        """What all prompts begin with, and branches that fit into the cache together, those about a document side by side."""
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
                    f"question {question.id!r} about document {document.id!r} needs {alone} tokens with its completion; a batch has "
                    f"{self._tokens_per_batch}",
                    "Raise tokens_per_batch, or split the document.",
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
        """The most tokens between a document and the completion, or the last of its completions."""
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
        answers = self._grow(cache, [cache.append(first.opening, found.slot) for found in reasoned])
        lead = self._text(list(first.opening))
        return [found.text + lead + answer for found, answer in zip(reasoned, answers, strict=True)]

    def _say_both(self, cache: PrefixCache, slots: list[int], opened: OpenCompletion) -> list[str]:
        """Two completions, one after the other; the second only after a "yes"."""
        said, verdict = self._grow(cache, slots), opened.verdict
        assert verdict is not None
        going_on = [index for index, completion in enumerate(said) if self._task.prompt.verdict(completion)]
        begun = []
        for index in going_on:
            turn = cache.append((*verdict.opening, *verdict.yes, *verdict.turn), slots[index])
            begun.append(cache.append(opened.placeholders, turn, attend=opened.attends))
        for index, completion in zip(going_on, self._grow(cache, begun), strict=True):
            said[index] += "\n" + completion
        return said

    def _grow(self, cache: PrefixCache, slots: list[int]) -> list[str]:
        """A completion below each slot, to its end."""
        grown = grow(cache, slots, likeliest, limits=self._max_new_tokens, stop_tokens=set(self._stops()))
        return [self._text(growth.tokens) for growth in grown]
