"""Questions asked in windows of documents: the jobs, and the forward passes that take them to their end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from palmette.decode.posterior import Decision, log_sum_exp
from palmette.decode.prefix_cache import PrefixCache, States
from palmette.decode.reasoning import end_tokens, reason
from palmette.decode.search import Search
from palmette.decode.trie import SpanTrie
from palmette.errors import ModelError
from palmette.model.forward import model_name
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.open_completion import OpenCompletion
from palmette.tasks.qa_prompt import NO, YES


@dataclass(eq=False, slots=True)
class Choice:
    """A choice among the strings of a trie.

    Attributes:
        search: the search for the likeliest string.
        closing: the token that ends every string.
        slots: {node: slot of its token in the cache}.
    """

    search: Search
    closing: int
    slots: dict[int, int] = field(default_factory=dict)

    def place(self, cache: PrefixCache, node: int) -> None:
        """Give a node its slot in the cache, below its parent's."""
        if node not in self.slots:
            trie = self.search.trie
            self.slots[node] = cache.append((trie.token[node],), self.slots[trie.parent[node]])


@dataclass(eq=False, slots=True)
class Reading:
    """A window of a document.

    Attributes:
        tokens: its tokens.
        trie: its spans.
        index: its number, from 0.
        num_windows: the number of windows of the document.
        document: the id of the document.
        exhaustive: whether every string of the trie is scored, whatever the others give.
    """

    tokens: tuple[int, ...]
    trie: SpanTrie
    index: int
    num_windows: int
    document: str
    exhaustive: bool = False


@dataclass(eq=False, slots=True)
class WindowQuestion:
    """One question in one window.

    Attributes:
        question: the id of the question.
        reading: the window.
        tokens: the tokens of the question.
        answer: the choice of the span.
        verdict: the choice of "yes" or "no" in the turn before, for a prompt of two turns.
        hidden_D: the hidden state that predicts the first token of the answer, once it was read.
        least: go on until no span that was not scored can have this probability. Up to the decision if None.
    """

    question: str
    reading: Reading
    tokens: tuple[int, ...]
    answer: Choice
    verdict: Choice | None = None
    hidden_D: torch.Tensor | None = None
    least: float | None = None

    @classmethod
    def open(
        cls,
        opened: OpenCompletion,
        question: str,
        reading: Reading,
        tokens: tuple[int, ...],
        least: float | None = None,
    ) -> WindowQuestion:
        """A job at its beginning. `opened` is the conversation around it."""
        answer, verdict = Choice(Search(reading.trie), opened.closing), opened.verdict
        if verdict is None:
            return cls(question, reading, tokens, answer, least=least)
        trie = SpanTrie()
        trie.add(verdict.yes, YES, -1)
        trie.add(verdict.no, NO, -1)
        return cls(question, reading, tokens, answer, Choice(Search(trie), verdict.closing), least=least)

    def settle_verdict(self) -> None:
        """Pass the refusal of the first turn to the search, once both turns have been scored."""
        if self.verdict is not None:
            yes, no = (self.verdict.search.ended[string] for string in (0, 1))
            self.answer.search.refused = no - yes


class Asking:
    """Asks questions in windows, pass by pass.

    Args:
        model: a causal language model with one of our attention backends, in evaluation mode.
        tokenizer: its tokenizer.
        task: what builds its prompts.
        decision: how the posterior becomes an answer.
        max_passes, tokens_per_pass: as in `Effort`.
        reasoning_limit: let the model reason freely for up to so many tokens before its answer. Not if None.

    Attributes:
        opened: the conversation around a document and a question, in the parts that are shared.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        task: ExtractiveQa,
        opened: OpenCompletion,
        decision: Decision,
        *,
        max_passes: int | None,
        tokens_per_pass: int | None,
        reasoning_limit: int | None,
    ) -> None:
        self._model, self._tokenizer, self._task, self._decision = model, tokenizer, task, decision
        self._max_passes, self._tokens_per_pass = max_passes, tokens_per_pass
        self._reasoning_limit = reasoning_limit
        self.opened = opened

    def reserve(self, reading: Reading) -> int:
        """The most tokens of its strings that a search in a window adds to the cache."""
        if self._max_passes is None or self._tokens_per_pass is None or reading.exhaustive:
            return len(reading.trie)
        return min(len(reading.trie), (self._max_passes - 1) * self._tokens_per_pass)

    def begin(self, cache: PrefixCache) -> int:
        """Forget all but the root, which all documents share. The result is the last slot of the root."""
        root = self.opened.root
        if cache.length:
            cache.truncate(len(root))
            return len(root) - 1
        return cache.append(root, -1)

    @torch.inference_mode()
    def read(self, cache: PrefixCache, tokens: Sequence[int]) -> States:
        """Read a window by itself. The result is the keys and values of its tokens.

        They depend on the window and on what stands before it, and on nothing that is asked about it.
        """
        root = self.begin(cache)
        if cache.num_unread:
            cache.read([root])
        start = cache.length
        cache.read([cache.append(tokens, root)])
        return cache.states(start, cache.length)

    @torch.inference_mode()
    def run(
        self, cache: PrefixCache, jobs: Sequence[WindowQuestion], states: Mapping[int, States] | None = None
    ) -> None:
        """Search all jobs to their end, pass by pass.

        Args:
            cache: what they are read in. It must have room for them.
            jobs: the jobs, those of a window next to each other.
            states: the keys and values of each window by its index, as `read` gives them. With None the windows are
                read now, together with the questions.
        """
        planned: list[tuple[Choice, int]] = []
        trunks = self._place_windows(cache, jobs, states)
        for job, start in zip(jobs, self._place_questions(cache, jobs, trunks), strict=True):
            if job.verdict is not None:
                planned.extend((job.verdict, node) for node in range(len(job.verdict.search.trie)))
            job.answer.slots[0] = cache.append(self.opened.opening, start)
            planned.append((job.answer, 0))
            planned.extend((job.answer, node) for node in job.reading.trie.path_to(0))
        passes = 0
        while planned:
            for choice, node in planned:
                choice.place(cache, node)
            hidden_RD = self._look(cache, planned)
            passes += 1
            if passes == 1:
                row_of = {id(choice): row for row, (choice, node) in enumerate(planned) if node == 0}
                for job in jobs:
                    job.settle_verdict()
                    job.hidden_D = hidden_RD[row_of[id(job.answer)]].clone()
            if passes == self._max_passes:
                return
            planned = [(job.answer, node) for job in jobs for node in self._plan(job)]

    def _place_windows(
        self, cache: PrefixCache, jobs: Sequence[WindowQuestion], states: Mapping[int, States] | None
    ) -> dict[int, int] | None:
        """The slot of the last token of each window whose keys and values are given. None if they are not."""
        root = self.begin(cache)
        if states is None:
            return None
        if cache.num_unread:
            cache.read([root])
        readings = {job.reading.index: job.reading for job in jobs}
        return {index: cache.restore(reading.tokens, root, states[index]) for index, reading in readings.items()}

    def _place_questions(
        self, cache: PrefixCache, jobs: Sequence[WindowQuestion], trunks: Mapping[int, int] | None
    ) -> list[int]:
        """Add questions, and windows that are not there. The result is the slots below which the answers are opened."""
        opened, root = self.opened, len(self.opened.root) - 1
        last: Reading | None = None
        slots = []
        for job in jobs:
            if last is None or job.reading.tokens is not last.tokens:
                last = job.reading
                trunk = cache.append(last.tokens, root) if trunks is None else trunks[last.index]
            slot = cache.append(job.tokens, trunk)
            if job.verdict is not None and opened.verdict is not None:
                job.verdict.slots[0] = cache.append(opened.verdict.opening, slot)
                for node in range(1, len(job.verdict.search.trie)):
                    job.verdict.place(cache, node)
                yes = job.verdict.search.trie.path_to(0)[-1]
                slot = cache.append(opened.verdict.turn, job.verdict.slots[yes])
            slots.append(slot)
        if self._reasoning_limit is None:
            return [cache.append(opened.placeholders, slot, attend=opened.attends) for slot in slots]
        opening, stops = self._task.prompt.before_answer, end_tokens(self._model, self._task)
        reasoned = reason(cache, slots, self._tokenizer, opening, limit=self._reasoning_limit, stops=stops)
        return [reasoning.slot for reasoning in reasoned]

    def _plan(self, job: WindowQuestion) -> list[int]:
        search, max_tokens = job.answer.search, self._tokens_per_pass
        if max_tokens is None or job.reading.exhaustive:
            return search.plan(len(search.trie), floor=-math.inf)
        num_windows = job.reading.num_windows
        if self._settled(search, num_windows) and not self._may_hold_more(search, num_windows, job.least):
            return []
        # Only where the best span is asked for, likelier or not than "?", can the others be left out. The rest decide
        # how likely any answer is. No floor is set by `search.abstain`: the likelihood of a continuation is a guess,
        # and a floor near the first token's would add one token a pass.
        floor = search.best_span if self._decision.forces_span and job.least is None else -math.inf
        return search.plan(max_tokens, floor=floor)

    def _settled(self, search: Search, num_windows: int) -> bool:
        """Whether more passes in this window, of so many, could not change the decision."""
        if self._decision.forces_span:
            return search.best_span >= search.bound
        return self._decision.verdict(search.evidence.raised(self._decision.by_windows(num_windows)))[1]

    def _may_hold_more(self, search: Search, num_windows: int, least: float | None) -> bool:
        """Whether a span that was not scored may have a probability of `least` in this window, of so many."""
        if least is None:
            return False
        evidence = search.evidence.raised(self._decision.by_windows(num_windows))
        return evidence.rivals - log_sum_exp((0.0, evidence.answered)) >= math.log(least)

    def _look(self, cache: PrefixCache, planned: Sequence[tuple[Choice, int]]) -> torch.Tensor:
        """One forward pass: the planned nodes, and what may follow each. The result is the hidden states at them."""
        logits_RV, hidden_RD = cache.read_with_hidden([choice.slots[node] for choice, node in planned])
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
        return hidden_RD


def _logprobs(logits_RV: torch.Tensor, rows: Sequence[int], tokens: Sequence[int]) -> list[float]:
    """Log-probabilities of tokens after read positions, in at least float32."""
    precise = torch.promote_types(logits_RV.dtype, torch.float32)
    normalizer_R = torch.cat([torch.logsumexp(chunk.to(precise), dim=-1) for chunk in torch.split(logits_RV, 64)])
    row_N, token_N = torch.tensor([rows, tokens], device=logits_RV.device)
    logprobs: list[float] = (logits_RV[row_N, token_N].to(precise) - normalizer_R[row_N]).tolist()
    return logprobs
