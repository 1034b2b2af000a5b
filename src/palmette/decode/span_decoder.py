"""The span decoder: the most probable span of a document, or "?", in a few forward passes, with a proof.

The wrapper of the completion is forced, so an answer is one of the document's spans, or "?". The first pass reads a
document with all its questions, each followed by "?". Every later pass adds the likeliest branches of the document's
span trie to the same prefix tree. The probability of a string is that of its tokens and of the token that ends it,
given the opening of the completion.
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
from palmette.decode.reasoning import check_place, end_tokens, reason
from palmette.decode.search import Search
from palmette.decode.spans import cut_windows
from palmette.decode.trie import SpanTrie, span_trie
from palmette.errors import DataError, ModelError, PackingError
from palmette.model.forward import check_positions, model_name
from palmette.tasks.extractive_qa import ExtractiveQa, Reasoning
from palmette.tasks.qa_prompt import NO, YES, QaPrompt
from palmette.tree.chat import ChatTemplate

# Stands for a text that does not matter. Next to an empty one a template might trim other text.
_ANY = "."


@dataclass(frozen=True, slots=True)
class Effort:
    """How far the span decoder looks.

    Attributes:
        max_words: the longest span, in words. Punctuation marks count.
        max_passes: the number of forward passes after which it stops without a proof. With None it takes as many as the
            proof needs, and keeps room for all spans of a window. That suits short documents, or a large
            `tokens_per_batch`.
        tokens_per_pass: the most branch tokens that one question may add in a pass. With None it adds all there are, so
            that every span is scored.
        window_tokens: about how many tokens of a document are read at a time.
        overlap_tokens: about how many of them neighbouring windows share.
        tokens_per_batch: the most tokens of a prefix tree held in memory. They need their keys and values, and a mask
            of the square of that number in bytes.
        inside_words: whether spans may end after every character of a word, as in compounds. It makes the trie about
            four times as large.

    Raises:
        ValueError: `max_words`, `max_passes`, `tokens_per_pass` or `window_tokens` is below 1.
    """

    max_words: int = 30
    max_passes: int | None = 4
    tokens_per_pass: int | None = 16
    window_tokens: int = 1024
    overlap_tokens: int = 256
    tokens_per_batch: int = 8192
    inside_words: bool = False

    def __post_init__(self) -> None:
        for name, least in (("max_words", 1), ("max_passes", 1), ("tokens_per_pass", 1), ("window_tokens", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}, below {least}")


@dataclass(eq=False, slots=True)
class _Choice:
    """A choice among the strings of a trie.

    Attributes:
        search: the search for the likeliest string.
        closing: the token that ends every string.
        slots: {node: slot of its token in the cache}.
    """

    search: Search
    closing: int
    slots: dict[int, int] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class _Job:
    """One question in one window.

    Attributes:
        question: the id of the question.
        reading: the window.
        tokens: the tokens of the question.
        answer: the choice of the span.
        verdict: the choice of "yes" or "no" in the turn before, for a prompt of two turns.
    """

    question: str
    reading: _Reading
    tokens: tuple[int, ...]
    answer: _Choice
    verdict: _Choice | None = None

    def settle_verdict(self) -> None:
        """Pass the refusal of the first turn to the search, once both turns have been scored."""
        if self.verdict is not None:
            yes, no = (self.verdict.search.ended[string] for string in (0, 1))
            self.answer.search.refused = no - yes


@dataclass(eq=False, slots=True)
class _Reading:
    """A window of a document.

    Attributes:
        tokens: its tokens.
        trie: its spans.
        num_windows: the number of windows of the document.
    """

    tokens: tuple[int, ...]
    trie: SpanTrie
    num_windows: int


class SpanDecoder:
    """Answers questions with spans of their document, or not at all.

    Args:
        model: a causal language model with one of our attention backends, in evaluation mode.
        tokenizer: its tokenizer.
        prompt: the texts around documents and questions that the model was trained with.
        effort: how far to look.
        decision: how the posterior becomes an answer.
        template: the tokenizer's chat template, if it was parsed before.
        reasoning: the reasoning that the model was trained with, none or placeholders.
        reasoning_limit: let the model reason freely for up to so many tokens before its answer. As in `reasoning` if
            None.

    Raises:
        DataError: rationales were trained and no limit is set for writing them, or the prompt has no place for free
            reasoning.
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
        reasoning_limit: int | None = None,
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._task = ExtractiveQa(template or ChatTemplate(tokenizer), prompt, reasoning=reasoning)
        if reasoning_limit is not None:
            check_place(self._task)
        elif self._task.reasoning.kind == "rationale":
            raise DataError(
                "this model was trained to write a rationale before its answer, which needs a limit",
                "Set a limit such as --reasoning-limit 60, or use --decoder greedy.",
            )
        self._reasoning_limit = reasoning_limit
        self._effort, self._decision = effort or Effort(), decision or Decision()
        self._opened = self._task.open_completion(_ANY, _ANY)

    def answer(self, document: str, questions: Sequence[str]) -> list[Prediction]:
        """Answer questions about one document, in their order.

        Raises:
            DataError: the document or a question is empty, or holds half a surrogate pair.
            TemplateError: the chat template cannot keep their text apart from control tokens.
            PackingError: a question is so long that it does not fit into a batch with a window of the document.
            ModelError: the model has fewer positions than a window, a question and an answer need.
        """
        numbered = tuple(Question(str(index), question) for index, question in enumerate(questions))
        given = Document("document", document, numbered)
        check_document(given, "answer")
        for question in numbered:
            check_question(question, given, "answer")
        predictions = dict(self.predict([given]))
        return [predictions[question.id] for question in numbered]

    def predict(self, documents: Iterable[Document]) -> Iterator[tuple[str, Prediction]]:
        """(question id, prediction) for every question, as soon as each is known. Documents are read one by one."""
        for question, posterior in self.posteriors(documents):
            yield question, self._decision.decide(posterior)

    def posteriors(self, documents: Iterable[Document]) -> Iterator[tuple[str, SpanPosterior]]:
        """(question id, posterior) for every question, as soon as each is known."""
        effort = self._effort
        cache = PrefixCache(self._model, effort.tokens_per_batch)
        waiting: dict[str, list[WindowScores]] = {}
        for jobs in self._batches(documents):
            self._run(cache, jobs)
            for job in jobs:
                scores = waiting.setdefault(job.question, [])
                scores.append(job.answer.search.scores())
                if len(scores) == job.reading.num_windows:
                    yield job.question, SpanPosterior.merge(waiting.pop(job.question))

    def _batches(self, documents: Iterable[Document]) -> Iterator[list[_Job]]:
        """Jobs whose trees fit into the cache together, the questions of a window next to each other."""
        jobs: list[_Job] = []
        seen: set[str] = set()
        opened, free = self._opened, self._reasoning_limit or 0
        lead = opened.lead + free + (len(opened.verdict.no) if opened.verdict else 0)
        used, room = 0, self._effort.tokens_per_batch - len(opened.root)
        for document in documents:
            opened_questions = [(q.id, self._task.open_completion(_ANY, q.text).question) for q in document.questions]
            for question, _ in opened_questions:
                if question in seen:
                    raise DataError(
                        f"question id {question!r} of document {document.id!r} occurs twice",
                        "Give each an id of its own.",
                    )
                seen.add(question)
            for reading in self._readings(document) if opened_questions else ():
                begun = False
                for question, tokens in opened_questions:
                    begun_completion = len(tokens) + lead
                    need = begun_completion + len(opened.abstain) + self._reserve(reading.trie)
                    alone = len(reading.tokens) + need
                    what = f"question {question!r} with a window of document {document.id!r}"
                    if alone > room:
                        raise PackingError(
                            f"{what} may need {alone} tokens, and there is room for {room}",
                            "Shorten the question. In Python, Effort can also have a larger tokens_per_batch.",
                        )
                    deepest = len(opened.root) + len(reading.tokens) + begun_completion + reading.trie.depth
                    check_positions(self._model, deepest, what)
                    if used + (need if begun else alone) > room:
                        yield jobs
                        jobs, used, begun = [], 0, False
                    used, begun = used + (need if begun else alone), True
                    jobs.append(self._job(question, reading, tokens))
        if jobs:
            yield jobs

    def _job(self, question: str, reading: _Reading, tokens: tuple[int, ...]) -> _Job:
        answer, verdict = _Choice(Search(reading.trie), self._opened.closing), self._opened.verdict
        if verdict is None:
            return _Job(question, reading, tokens, answer)
        trie = SpanTrie()
        trie.add(verdict.yes, YES, -1)
        trie.add(verdict.no, NO, -1)
        return _Job(question, reading, tokens, answer, _Choice(Search(trie), verdict.closing))

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
            inside_words=effort.inside_words,
        )
        for window in windows:
            tokens = self._task.open_completion(document.text[window.start : window.end], _ANY).document
            trie = span_trie(self._task, document.text, window, effort.max_words)
            yield _Reading(tokens, trie, len(windows))

    @torch.inference_mode()
    def _run(self, cache: PrefixCache, jobs: list[_Job]) -> None:
        """Search all jobs to their end, pass by pass."""
        effort = self._effort
        planned: list[tuple[_Choice, int]] = []
        for job, start in zip(jobs, self._ask(cache, jobs), strict=True):
            if job.verdict is not None:
                planned.extend((job.verdict, node) for node in range(len(job.verdict.search.trie)))
            job.answer.slots[0] = cache.append(self._opened.opening, start)
            planned.append((job.answer, 0))
            planned.extend((job.answer, node) for node in job.reading.trie.path_to(0))
        passes = 0
        while planned:
            for choice, node in planned:
                _place(cache, choice, node)
            self._look(cache, planned)
            passes += 1
            if passes == 1:
                for job in jobs:
                    job.settle_verdict()
            if passes == effort.max_passes:
                return
            planned = [(job.answer, node) for job in jobs for node in self._plan(job.answer.search)]

    def _ask(self, cache: PrefixCache, jobs: list[_Job]) -> list[int]:
        """Add documents and questions to the cache. The result is the slots below which the answers are opened."""
        opened, root = self._opened, self._begin(cache)
        last: _Reading | None = None
        slots = []
        for job in jobs:
            if job.reading is not last:
                last, trunk = job.reading, cache.append(job.reading.tokens, root)
            slot = cache.append(job.tokens, trunk)
            if job.verdict is not None and opened.verdict is not None:
                job.verdict.slots[0] = cache.append(opened.verdict.opening, slot)
                for node in range(1, len(job.verdict.search.trie)):
                    _place(cache, job.verdict, node)
                yes = job.verdict.search.trie.path_to(0)[-1]
                slot = cache.append(opened.verdict.turn, job.verdict.slots[yes])
            slots.append(slot)
        if self._reasoning_limit is None:
            return [cache.append(opened.placeholders, slot, attend=opened.attends) for slot in slots]
        opening, stops = self._task.prompt.before_answer, end_tokens(self._model, self._task)
        reasoned = reason(cache, slots, self._tokenizer, opening, limit=self._reasoning_limit, stops=stops)
        return [reasoning.slot for reasoning in reasoned]

    def _begin(self, cache: PrefixCache) -> int:
        """Forget all but the root, which all documents share. The result is the last slot of the root."""
        root = self._opened.root
        if cache.length:
            cache.truncate(len(root))
            return len(root) - 1
        return cache.append(root, -1)

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
        """Whether more passes in this window could not change the decision."""
        if self._decision.forces_span:
            return search.best_span >= search.bound
        return self._decision.verdict(search.evidence)[1]

    def _look(self, cache: PrefixCache, planned: Sequence[tuple[_Choice, int]]) -> None:
        """One forward pass: the planned nodes, and what may follow each of them."""
        logits_RV = cache.read([choice.slots[node] for choice, node in planned])
        rows: list[int] = []
        tokens: list[int] = []
        for row, (choice, node) in enumerate(planned):
            children = choice.search.trie.children[node]
            rows.extend([row] * (len(children) + 1))
            tokens.extend((choice.closing, *children))
        logprobs = _logprobs(logits_RV, rows, tokens)
        if any(map(math.isnan, logprobs)):
            raise ModelError(
                f"{model_name(self._model)} gives probabilities that are not numbers",
                "Load it in another dtype, or train it again with a lower learning rate.",
            )
        values = iter(logprobs)
        for choice, node in planned:
            end = next(values)
            choice.search.absorb(node, {token: next(values) for token in choice.search.trie.children[node]}, end)
        for search in {id(choice.search): choice.search for choice, _ in planned}.values():
            search.num_passes += 1


def _place(cache: PrefixCache, choice: _Choice, node: int) -> None:
    """Give a node of a trie its slot in the cache, below its parent's."""
    if node not in choice.slots:
        trie = choice.search.trie
        choice.slots[node] = cache.append((trie.token[node],), choice.slots[trie.parent[node]])


def _logprobs(logits_RV: torch.Tensor, rows: Sequence[int], tokens: Sequence[int]) -> list[float]:
    """Log-probabilities of tokens after read positions, in at least float32."""
    precise = torch.promote_types(logits_RV.dtype, torch.float32)
    normalizer_R = torch.cat([torch.logsumexp(chunk.to(precise), dim=-1) for chunk in torch.split(logits_RV, 64)])
    row_N, token_N = torch.tensor([rows, tokens], device=logits_RV.device)
    logprobs: list[float] = (logits_RV[row_N, token_N].to(precise) - normalizer_R[row_N]).tolist()
    return logprobs
