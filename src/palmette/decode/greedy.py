"""Greedy generation on the prefix tree: all documents share the system message, all questions their document, and replies grow as
branches, one token of each in a pass. The same replies as one prompt a row gives, for a fraction of the tokens. Placeholders, where the
task has them, are written in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch

from palmette.data.records import Document, Question
from palmette.decode.generation import ReplyDecoder
from palmette.decode.prefix_cache import PrefixCache
from palmette.errors import PackingError
from palmette.tasks.extractive_qa import ExtractiveQa


@dataclass(eq=False, slots=True)
class _Branch:
    """A question whose reply grows; `slot` is where its last token stands in the cache."""

    index: int
    document: tuple[int, ...]
    question: tuple[int, ...]
    placeholders: tuple[int, ...]
    reply: list[int] = field(default_factory=list)
    slot: int = -1


class GreedyDecoder(ReplyDecoder):
    """Answers by the likeliest next token, again and again.

    Args:
        model, tokenizer, task, options: as for `ReplyDecoder`; the model has one of our attention backends.
        tokens_per_batch: tokens of a prefix tree held at once, which bounds memory: keys and values of so many tokens, and a mask of
            its square in bytes.
    """

    def __init__(
        self, model: Any, tokenizer: Any, task: ExtractiveQa, *, tokens_per_batch: int = 8192, **options: Any
    ) -> None:
        super().__init__(model, tokenizer, task, **options)
        self._tokens_per_batch = tokens_per_batch

    def replies(self, questions: Sequence[tuple[Document, Question]]) -> Iterator[tuple[int, str]]:
        """(index into `questions`, the reply's text), batch by batch, in their order; see `ReplyDecoder`.

        Raises:
            ModelError: a prompt with its reply is longer than the model was made for.
            PackingError: a prompt with its reply does not fit into a batch.
        """
        cache = PrefixCache(self._model, self._tokens_per_batch)
        for root, batch in self._batches(questions):
            self._grow(cache, root, batch)
            for branch in batch:
                yield branch.index, self._text(branch.reply)

    def _batches(
        self, questions: Sequence[tuple[Document, Question]]
    ) -> Iterator[tuple[tuple[int, ...], list[_Branch]]]:
        """What all prompts begin with, and branches that fit into the cache together, those about a document side by side."""
        batch: list[_Branch] = []
        root: tuple[int, ...] = ()
        used = 0
        for index, (document, question) in enumerate(questions):
            opened = self._task.open_reply(document.text, question.text)
            root, branch = opened.root, _Branch(index, opened.document, opened.question, opened.placeholders)
            asked = len(branch.question) + len(branch.placeholders)
            self._check_length(len(root) + len(branch.document) + asked, document, question)
            need = asked + self._max_new_tokens
            alone = len(root) + len(branch.document) + need
            if alone > self._tokens_per_batch:
                raise PackingError(
                    f"question {question.id!r} about document {document.id!r} needs {alone} tokens with its reply; a batch has "
                    f"{self._tokens_per_batch}",
                    "Raise tokens_per_batch, or split the document.",
                )
            shared = bool(batch) and batch[-1].document == branch.document
            if batch and used + need + (0 if shared else len(branch.document)) > self._tokens_per_batch:
                yield root, batch
                batch, shared = [], False
            used = (used if batch else len(root)) + need + (0 if shared else len(branch.document))
            batch.append(branch)
        if batch:
            yield root, batch

    @torch.inference_mode()
    def _grow(self, cache: PrefixCache, root: tuple[int, ...], batch: list[_Branch]) -> None:
        """Read the prompts, then grow every reply to its end."""
        stops = set(self._stops())
        cache.truncate(0)
        start = cache.append(root, -1)
        for document, branches in groupby(batch, key=lambda branch: branch.document):
            trunk = cache.append(document, start)
            for branch in branches:
                branch.slot = cache.append(branch.placeholders, cache.append(branch.question, trunk), attend=False)
        growing = batch
        for _ in range(self._max_new_tokens):
            logits_RV = cache.read([branch.slot for branch in growing])
            chosen = logits_RV.argmax(dim=-1).tolist()
            pairs = [(branch, token) for branch, token in zip(growing, chosen, strict=True) if token not in stops]
            for branch, token in pairs:
                branch.reply.append(token)
            growing = [branch for branch, _ in pairs if len(branch.reply) < self._max_new_tokens]
            for branch in growing:
                branch.slot = cache.append((branch.reply[-1],), branch.slot)
            if not growing:
                return
