"""The span decoder: the most probable span of a document, or "?", in a few forward passes, with a proof.

The reply's wrapper is forced, so an answer is one of the document's spans, or "?". The first pass reads a document with all its
questions, each followed by "?"; every later one adds the likeliest branches of the document's span trie to the same prefix tree.
The probability of a string is that of its tokens and of the token that ends it, given the reply's opening.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from palmette.data.records import Document, Question
from palmette.decode.posterior import Decision, SpanPosterior, WindowScores, log_sum_exp
from palmette.decode.prediction import Prediction
from palmette.decode.prefix_cache import PrefixCache
from palmette.decode.search import Search
from palmette.decode.spans import cut_windows
from palmette.decode.trie import SpanTrie, span_trie
from palmette.errors import PackingError
from palmette.tasks.extractive_qa import ExtractiveQa, QaPrompt
from palmette.tree.chat import ChatTemplate


@dataclass(frozen=True, slots=True)
class Effort:
    """How far the decoder looks.

    Attributes:
        max_words: the longest span, in words (punctuation marks count).
        max_passes: forward passes after which it stops without a proof; None: as many as it takes.
        tokens_per_pass: branch tokens that one question may add in a pass; None: all there are, so that every span is scored.
        window_tokens: about how many tokens of a document are read in one go.
        overlap_tokens: about how many of them neighbouring windows share.
        tokens_per_batch: tokens of a prefix tree held at once, which bounds memory.
    """

    max_words: int = 30
    max_passes: int | None = 4
    tokens_per_pass: int | None = 16
    window_tokens: int = 1024
    overlap_tokens: int = 256
    tokens_per_batch: int = 8192


@dataclass(eq=False, slots=True)
class _Job:
    """One question in one window; `slots` says where in the cache the trie's nodes are."""

    question: str
    reading: _Reading
    tokens: tuple[int, ...]
    search: Search
    slots: dict[int, int] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class _Reading:
    """A window of a document; `num_windows` are those of the document."""

    tokens: tuple[int, ...]
    trie: SpanTrie
    num_windows: int


class SpanDecoder:
    """Answers questions with spans of their document, or not at all.

    Args:
        model: a causal language model with one of our attention backends, in evaluation mode.
        tokenizer: its tokenizer.
        prompt: the words around documents and questions; those it was trained with.
        effort: how far to look.
        decision: how the posterior becomes an answer.
        template: the tokenizer's chat template, if it has been taken apart before.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        prompt: QaPrompt | None = None,
        *,
        effort: Effort | None = None,
        decision: Decision | None = None,
        template: ChatTemplate | None = None,
    ) -> None:
        self._model = model
        self._task = ExtractiveQa(template or ChatTemplate(tokenizer), prompt)
        self._effort, self._decision = effort or Effort(), decision or Decision()
        opened = self._task.open_reply("", "")
        self._root, self._abstain, self._closing = opened.root, opened.abstain, opened.closing

    def answer(self, document: str, questions: Sequence[str]) -> list[Prediction]:
        """Answer questions about one document, in their order.

        Raises:
            PackingError: a question is so long that it does not fit into a batch with a window of the document.
            ModelError: the model has fewer positions than a window, a question and an answer need.
        """
        asked = tuple(Question(str(index), question) for index, question in enumerate(questions))
        found = dict(self.predict([Document("document", document, asked)]))
        return [found[question.id] for question in asked]

    def predict(self, documents: Iterable[Document]) -> Iterator[tuple[str, Prediction]]:
        """(question id, prediction) for every question, as they are found; documents are read as they are needed."""
        for question, posterior in self.posteriors(documents):
            yield question, self._decision.decide(posterior)

    def posteriors(self, documents: Iterable[Document]) -> Iterator[tuple[str, SpanPosterior]]:
        """(question id, posterior) for every question, as they are found."""
        effort = self._effort
        cache = PrefixCache(self._model, effort.tokens_per_batch)
        waiting: dict[str, list[WindowScores]] = {}
        for jobs in self._batches(documents):
            self._run(cache, jobs)
            for job in jobs:
                scores = waiting.setdefault(job.question, [])
                scores.append(_window_scores(job))
                if len(scores) == job.reading.num_windows:
                    yield job.question, SpanPosterior.merge(waiting.pop(job.question))

    def _batches(self, documents: Iterable[Document]) -> Iterator[list[_Job]]:
        """Jobs whose trees fit into the cache together, the questions of a window next to each other."""
        jobs: list[_Job] = []
        used, room = 0, self._effort.tokens_per_batch - len(self._root)
        for document in documents:
            asked = [(q, self._task.open_reply("", q.text).question) for q in document.questions]
            for reading in self._readings(document) if asked else ():
                begun = False
                for question, tokens in asked:
                    need = len(tokens) + len(self._abstain) + self._reserve(reading.trie)
                    alone = len(reading.tokens) + need
                    if alone > room:
                        raise PackingError(
                            f"question {question.id!r} with a window of document {document.id!r} may need {alone} tokens; "
                            f"there is room for {room}",
                            "Raise tokens_per_batch, or lower window_tokens or tokens_per_pass.",
                        )
                    if used + (need if begun else alone) > room:
                        yield jobs
                        jobs, used, begun = [], 0, False
                    used, begun = used + (need if begun else alone), True
                    jobs.append(_Job(question.id, reading, tokens, Search(reading.trie, abstain=0)))
        if jobs:
            yield jobs

    def _reserve(self, trie: SpanTrie) -> int:
        effort = self._effort
        if effort.max_passes is None or effort.tokens_per_pass is None:
            return len(trie)
        return min(len(trie), (effort.max_passes - 1) * effort.tokens_per_pass)

    def _readings(self, document: Document) -> Iterator[_Reading]:
        effort, encoder = self._effort, self._task.template.encoder
        windows = cut_windows(
            document.text,
            lambda texts: [len(ids) for ids in encoder.contents(texts)],
            max_words=effort.max_words,
            window_tokens=effort.window_tokens,
            overlap_tokens=effort.overlap_tokens,
        )
        for window in windows:
            tokens = self._task.open_reply(document.text[window.start : window.end], "").document
            trie = span_trie(encoder, document.text, window, effort.max_words)
            yield _Reading(tokens, trie, len(windows))

    @torch.inference_mode()
    def _run(self, cache: PrefixCache, jobs: list[_Job]) -> None:
        """Search all jobs to their end, pass by pass."""
        effort = self._effort
        root = self._begin(cache)
        last: _Reading | None = None
        planned: list[tuple[_Job, int]] = []
        for job in jobs:
            if job.reading is not last:
                last, trunk = job.reading, cache.append(job.reading.tokens, root)
            job.slots[0] = cache.append(job.tokens, trunk)
            planned.append((job, 0))
            planned.extend((job, node) for node in _abstention_path(job.search))
        passes = 0
        while planned:
            for job, node in planned:
                if node:
                    trie = job.reading.trie
                    job.slots[node] = cache.append((trie.token[node],), job.slots[trie.parent[node]])
            self._look(cache, planned)
            passes += 1
            if passes == effort.max_passes:
                return
            planned = [(job, node) for job in jobs for node in self._plan(job.search)]

    def _begin(self, cache: PrefixCache) -> int:
        """Forget all but the root, which all documents share; its last slot comes back."""
        if cache.length:
            cache.truncate(len(self._root))
            return len(self._root) - 1
        return cache.append(self._root, -1)

    def _plan(self, search: Search) -> list[int]:
        max_tokens = self._effort.tokens_per_pass
        if max_tokens is None:
            return search.plan(len(search.trie), floor=-math.inf)
        if self._settled(search):
            return []
        floor = search.best_span
        if self._decision.max_no_answer is None:
            floor = max(floor, search.ended[search.abstain])
        return search.plan(max_tokens, floor=floor)

    def _settled(self, search: Search) -> bool:
        """Whether more passes could not change the answer, as far as this window goes."""
        decision = self._decision
        if decision.max_no_answer is None:
            return search.best_proved
        if search.span_proved:
            return True
        scale = 1.0 / decision.temperature
        no_answer = search.ended[search.abstain] * scale
        total = log_sum_exp(value * scale for value in (*search.ended.values(), *search.frontier.values()))
        return no_answer - total > math.log(decision.max_no_answer) if decision.max_no_answer > 0 else True

    def _look(self, cache: PrefixCache, planned: Sequence[tuple[_Job, int]]) -> None:
        """One forward pass: the planned nodes, and what may follow each of them."""
        logits_RV = cache.read([job.slots[node] for job, node in planned])
        rows: list[int] = []
        tokens: list[int] = []
        for row, (job, node) in enumerate(planned):
            children = job.search.trie.children[node]
            rows.extend([row] * (len(children) + 1))
            tokens.extend((self._closing, *children))
        values = iter(_logprobs(logits_RV, rows, tokens))
        for job, node in planned:
            end = next(values)
            job.search.absorb(node, {token: next(values) for token in job.search.trie.children[node]}, end)
        for search in {id(job): job.search for job, _ in planned}.values():
            search.num_passes += 1


def _abstention_path(search: Search) -> list[int]:
    return search.trie.path(search.trie.end.index(search.abstain))


def _logprobs(logits_RV: torch.Tensor, rows: Sequence[int], tokens: Sequence[int]) -> list[float]:
    """Log-probabilities of tokens after read positions, in at least float32."""
    precise = torch.promote_types(logits_RV.dtype, torch.float32)
    normalizer_R = torch.cat([torch.logsumexp(chunk.to(precise), dim=-1) for chunk in torch.split(logits_RV, 64)])
    row_N, token_N = torch.tensor([rows, tokens], device=logits_RV.device)
    found: list[float] = (logits_RV[row_N, token_N].to(precise) - normalizer_R[row_N]).tolist()
    return found


def _window_scores(job: _Job) -> WindowScores:
    search, trie = job.search, job.reading.trie
    abstain = search.ended[search.abstain]
    spans = {
        trie.strings[string]: (trie.places[string], value - abstain)
        for string, value in search.ended.items()
        if string != search.abstain
    }
    return WindowScores(spans, tuple(value - abstain for value in search.frontier.values()), search.num_passes)
