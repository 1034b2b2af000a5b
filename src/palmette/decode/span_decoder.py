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

from palmette.data.records import Document, Question, check_document, check_question
from palmette.decode.posterior import Decision, SpanPosterior, WindowScores
from palmette.decode.prediction import Prediction
from palmette.decode.prefix_cache import PrefixCache
from palmette.decode.search import Search
from palmette.decode.spans import cut_windows
from palmette.decode.trie import SpanTrie, span_trie
from palmette.errors import DataError, ModelError, PackingError
from palmette.model.forward import check_positions, model_name
from palmette.tasks.extractive_qa import ExtractiveQa, Reasoning
from palmette.tasks.qa_prompt import QaPrompt
from palmette.tree.chat import ChatTemplate

# Stands for a text that does not matter; an empty one would let a template trim what stands beside it.
_ANY = "."


@dataclass(frozen=True, slots=True)
class Effort:
    """How far the decoder looks.

    Attributes:
        max_words: the longest span, in words (punctuation marks count).
        max_passes: forward passes after which it stops without a proof; None: as many as it takes, with room kept for all spans of a
            window, so short documents only, or a large `tokens_per_batch`.
        tokens_per_pass: branch tokens that one question may add in a pass; None: all there are, so that every span is scored.
        window_tokens: about how many tokens of a document are read in one go.
        overlap_tokens: about how many of them neighbouring windows share.
        tokens_per_batch: tokens of a prefix tree held at once, which bounds memory: keys and values of so many tokens, and a mask of
            its square in bytes.
    """

    max_words: int = 30
    max_passes: int | None = 4
    tokens_per_pass: int | None = 16
    window_tokens: int = 1024
    overlap_tokens: int = 256
    tokens_per_batch: int = 8192

    def __post_init__(self) -> None:
        for name, least in (("max_words", 1), ("max_passes", 1), ("tokens_per_pass", 1), ("window_tokens", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}, below {least}")


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
        reasoning: what stands before the answer, as it was trained: nothing, or placeholders.
        effort: how far to look.
        decision: how the posterior becomes an answer.
        template: the tokenizer's chat template, if it has been taken apart before.

    Raises:
        DataError: rationales were trained: they have to be written before there is an answer to look for.
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
        reasoning: Reasoning | None = None,
    ) -> None:
        self._model = model
        self._task = ExtractiveQa(template or ChatTemplate(tokenizer), prompt, reasoning=reasoning)
        if self._task.reasoning.kind == "rationale":
            raise DataError(
                "the span decoder does not write rationales, with which this model was trained", "Use --decoder greedy."
            )
        self._effort, self._decision = effort or Effort(), decision or Decision()
        opened = self._task.open_reply(_ANY, _ANY)
        self._root, self._abstain, self._closing = opened.root, opened.abstain, opened.closing
        self._placeholders, self._opening = opened.placeholders, opened.opening

    def answer(self, document: str, questions: Sequence[str]) -> list[Prediction]:
        """Answer questions about one document, in their order.

        Raises:
            DataError: the document or a question is empty, or holds half a surrogate pair.
            TemplateError: the chat template cannot keep their text apart from control tokens.
            PackingError: a question is so long that it does not fit into a batch with a window of the document.
            ModelError: the model has fewer positions than a window, a question and an answer need.
        """
        asked = tuple(Question(str(index), question) for index, question in enumerate(questions))
        given = Document("document", document, asked)
        check_document(given, "answer")
        for question in asked:
            check_question(question, given, "answer")
        found = dict(self.predict([given]))
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
                scores.append(job.search.scores())
                if len(scores) == job.reading.num_windows:
                    yield job.question, SpanPosterior.merge(waiting.pop(job.question))

    def _batches(self, documents: Iterable[Document]) -> Iterator[list[_Job]]:
        """Jobs whose trees fit into the cache together, the questions of a window next to each other."""
        jobs: list[_Job] = []
        seen: set[str] = set()
        used, room = 0, self._effort.tokens_per_batch - len(self._root)
        for document in documents:
            asked = [(q.id, self._task.open_reply(_ANY, q.text).question) for q in document.questions]
            for question, _ in asked:
                if question in seen:
                    raise DataError(
                        f"question id {question!r} of document {document.id!r} occurs twice",
                        "Give each an id of its own.",
                    )
                seen.add(question)
            for reading in self._readings(document) if asked else ():
                begun = False
                for question, tokens in asked:
                    begun_reply = len(tokens) + len(self._placeholders) + len(self._opening)
                    need = begun_reply + len(self._abstain) + self._reserve(reading.trie)
                    alone = len(reading.tokens) + need
                    what = f"question {question!r} with a window of document {document.id!r}"
                    if alone > room:
                        raise PackingError(
                            f"{what} may need {alone} tokens; there is room for {room}",
                            "Raise tokens_per_batch, or lower window_tokens, max_passes or tokens_per_pass.",
                        )
                    deepest = len(self._root) + len(reading.tokens) + begun_reply + reading.trie.depth
                    check_positions(self._model, deepest, what)
                    if used + (need if begun else alone) > room:
                        yield jobs
                        jobs, used, begun = [], 0, False
                    used, begun = used + (need if begun else alone), True
                    jobs.append(_Job(question, reading, tokens, Search(reading.trie)))
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
            tokens = self._task.open_reply(document.text[window.start : window.end], _ANY).document
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
            asked = cache.append(self._placeholders, cache.append(job.tokens, trunk), attend=False)
            job.slots[0] = cache.append(self._opening, asked)
            planned.append((job, 0))
            planned.extend((job, node) for node in job.reading.trie.path_to(0))
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
        floor = -math.inf
        if self._decision.forces_span:
            floor = search.best_span
        elif self._decision.max_no_answer is None:
            floor = max(search.best_span, search.abstain)
        return search.plan(max_tokens, floor=floor)

    def _settled(self, search: Search) -> bool:
        """Whether more passes could not change the decision, as far as this window goes."""
        if self._decision.forces_span:
            return search.best_span >= search.bound
        return self._decision.verdict(search.evidence)[1]

    def _look(self, cache: PrefixCache, planned: Sequence[tuple[_Job, int]]) -> None:
        """One forward pass: the planned nodes, and what may follow each of them."""
        logits_RV = cache.read([job.slots[node] for job, node in planned])
        rows: list[int] = []
        tokens: list[int] = []
        for row, (job, node) in enumerate(planned):
            children = job.search.trie.children[node]
            rows.extend([row] * (len(children) + 1))
            tokens.extend((self._closing, *children))
        found = _logprobs(logits_RV, rows, tokens)
        if any(map(math.isnan, found)):
            raise ModelError(
                f"{model_name(self._model)} gives probabilities that are no numbers",
                "Load it in another dtype, or train it again with a lower learning rate.",
            )
        values = iter(found)
        for job, node in planned:
            end = next(values)
            job.search.absorb(node, {token: next(values) for token in job.search.trie.children[node]}, end)
        for job in {id(job): job for job, _ in planned}.values():
            job.search.num_passes += 1


def _logprobs(logits_RV: torch.Tensor, rows: Sequence[int], tokens: Sequence[int]) -> list[float]:
    """Log-probabilities of tokens after read positions, in at least float32."""
    precise = torch.promote_types(logits_RV.dtype, torch.float32)
    normalizer_R = torch.cat([torch.logsumexp(chunk.to(precise), dim=-1) for chunk in torch.split(logits_RV, 64)])
    row_N, token_N = torch.tensor([rows, tokens], device=logits_RV.device)
    found: list[float] = (logits_RV[row_N, token_N].to(precise) - normalizer_R[row_N]).tolist()
    return found
