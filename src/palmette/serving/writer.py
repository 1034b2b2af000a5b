"""Free text by one model: all replies grow together in one prefix tree, and a new one may join at any pass.

Prompts that begin alike share their beginning, so the next turn of a conversation is not read from its start.

Letters: R growing branches, V vocabulary.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from palmette.data.records import check_unicode
from palmette.decode.drawing import draw
from palmette.decode.prefix_cache import PrefixCache
from palmette.decode.reasoning import sequence_ends
from palmette.errors import DataError, ModelError
from palmette.inference.streamed import StreamedText
from palmette.model.forward import check_positions, model_name
from palmette.model.loading import LoadedModel
from palmette.serving.jobs import Completion, Scored, WriteJob
from palmette.tasks.text_pieces import beginning
from palmette.tree.chat import ChatTemplate
from palmette.tree.segments import TextEncoder, decode_tokens

CAPACITY = 8192  # tokens of all prompts and replies together
# What is kept of other conversations costs attention. It goes once it is so many times what a new one shares with it.
_BURDEN = 4


@dataclass(eq=False)
class _Branch:
    """A reply that grows below a slot."""

    job: WriteJob
    tokenizer: Any
    slot: int
    stop_tokens: set[int]
    num_prompt_tokens: int
    tokens: list[int] = field(default_factory=list)
    scored: list[Scored] = field(default_factory=list)
    num_sent: int = 0

    def __post_init__(self) -> None:
        self.streamed = StreamedText(self.tokenizer, self.send, self.job.stops)
        self.random = np.random.default_rng(self.job.generation.seed)

    @property
    def room(self) -> int:
        """The tokens that it may still add."""
        return self.job.generation.max_new_tokens - len(self.tokens)

    def send(self, piece: str) -> None:
        """Hand on a piece of the text, with the tokens that were scored since the last one."""
        new, self.num_sent = self.scored[self.num_sent :], len(self.scored)
        self.job.written(piece, new)


class CompletionWriter:
    """Continues prompts. Used by one thread only.

    Args:
        loaded: the model and its tokenizer.
        capacity: the most tokens of all prompts and replies together.
    """

    def __init__(self, loaded: LoadedModel, capacity: int = CAPACITY) -> None:
        self._model, self._tokenizer = loaded.model, loaded.tokenizer
        self._capacity = capacity
        self._cache: PrefixCache | None = None  # made when it is needed, since many servers only answer
        self._template: ChatTemplate | None = None
        self._slots: dict[tuple[int, int], int] = {}  # (slot of the parent, token): slot
        self._branches: list[_Branch] = []
        self._waiting: deque[tuple[WriteJob, tuple[int, ...], set[int]]] = deque()

    @property
    def is_busy(self) -> bool:
        """Whether something grows or waits."""
        return bool(self._branches or self._waiting)

    @property
    def num_waiting(self) -> int:
        """The number of prompts that wait for room."""
        return len(self._waiting)

    def add(self, job: WriteJob) -> None:
        """Take a job. Its error is set if its prompt cannot be continued."""
        try:
            self._waiting.append((job, *self._encoded(job)))
        except Exception as error:
            job.fail(error)
            return
        job.begun()

    def step(self) -> None:
        """Let each reply grow by one token. Those that are done get their results."""
        self._drop_gone()
        self._admit()
        if not self._branches:
            return
        try:
            self._grow()
        except Exception as error:
            self._fail_branches(error)

    def fail(self, error: Exception) -> None:
        """End everything that grows or waits with an error."""
        self._fail_branches(error)
        for job, *_ in self._waiting:
            job.fail(error)
        self._waiting.clear()

    def _fail_branches(self, error: Exception) -> None:
        for branch in self._branches:
            branch.job.fail(error)
        self._branches, self._cache = [], None
        self._slots.clear()

    def _drop_gone(self) -> None:
        """Give up what nobody waits for any more, wherever it stands in the queue."""
        for branch in [branch for branch in self._branches if branch.job.gone]:
            self._branches.remove(branch)
            branch.job.drop()
        for waiting in [waiting for waiting in self._waiting if waiting[0].gone]:
            self._waiting.remove(waiting)
            waiting[0].drop()

    def _encoded(self, job: WriteJob) -> tuple[tuple[int, ...], set[int]]:
        """The tokens of a prompt, and the tokens that end its reply.

        Raises:
            DataError: the prompt is empty or too long, or is not valid Unicode.
            TemplateError: the chat template does not take the messages, or there is none.
            ModelError: the model has fewer positions.
        """
        if isinstance(job.prompt, str):
            check_unicode(job.prompt, "the prompt")
            tokens = (*beginning(self._tokenizer), *TextEncoder(self._tokenizer).content(job.prompt))
            stops = set(sequence_ends(self._model))
        else:
            for message in job.prompt:
                check_unicode("".join(piece.text for piece in message.pieces), f"the {message.role} message")
            if self._template is None:
                self._template = ChatTemplate(self._tokenizer, literal=True)
            tokens, end = self._template.open_reply(job.prompt)
            stops = {end, *sequence_ends(self._model)}
        if not tokens:
            raise DataError("the prompt is empty", "Write something.")
        need = len(tokens) + job.generation.max_new_tokens
        what = f"a prompt of {len(tokens)} tokens with up to {job.generation.max_new_tokens} new ones"
        check_positions(self._model, need, what)
        if need > self._capacity:
            raise DataError(f"{what} is longer than {self._capacity}", "Shorten it, or ask for fewer with max_tokens.")
        return tokens, stops

    def _admit(self) -> None:
        """Begin the replies for which there is room, in their order."""
        while self._waiting:
            job, tokens, stops = self._waiting[0]
            try:
                slot = self._place(tokens, job.generation.max_new_tokens)
            except Exception as error:  # the others are not at fault
                job.fail(error)
            else:
                if slot is None:
                    return
                self._branches.append(_Branch(job, self._tokenizer, slot, stops, len(tokens)))
            self._waiting.popleft()

    def _place(self, tokens: Sequence[int], max_new_tokens: int) -> int | None:
        """Put a prompt into the cache, but for what it shares. The result is its last slot, or None without room."""
        if self._cache is None:
            self._cache = PrefixCache(self._model, self._capacity)
        slot, shared = self._shared(tokens)
        reserved = sum(branch.room for branch in self._branches)
        full = self._cache.length + len(tokens) - shared + max_new_tokens + reserved > self._capacity
        if not self._branches and (full or shared * _BURDEN < self._cache.length):
            self._cache.truncate(0)
            self._slots.clear()
            slot, shared = -1, 0
        elif full:
            return None
        # The last token is read again even if it is there, since the reply begins with what follows it.
        return self._append(tokens[shared:], slot)

    def _shared(self, tokens: Sequence[int]) -> tuple[int, int]:
        """The slot of the longest beginning of a prompt that is in the cache, and its number of tokens."""
        slot, shared = -1, 0
        for token in tokens[:-1]:
            found = self._slots.get((slot, token))
            if found is None:
                break
            slot, shared = found, shared + 1
        return slot, shared

    def _append(self, tokens: Sequence[int], parent: int) -> int:
        """Add a run of tokens below a slot. The result is the slot of its last."""
        assert self._cache is not None
        first = self._cache.length
        last = self._cache.append(tokens, parent)
        parents = (parent, *range(first, last))
        self._slots.update(zip(zip(parents, tokens, strict=True), range(first, last + 1), strict=True))
        return last

    @torch.inference_mode()
    def _grow(self) -> None:
        """One pass. Each branch gets a token, or ends."""
        assert self._cache is not None
        branches, going = self._branches, []
        logits_RV = self._cache.read([branch.slot for branch in branches])
        for branch, logits_V, (token, logprob) in zip(branches, logits_RV, self._drawn(logits_RV), strict=True):
            if math.isnan(logprob):
                problem = f"{model_name(self._model)} gives probabilities that are not numbers"
                branch.job.fail(ModelError(problem, "Serve another model."))
                continue
            if token in branch.stop_tokens:
                self._finish(branch, "stop")
                continue
            self._score(branch, token, logprob, logits_V)
            branch.tokens.append(token)
            branch.slot = self._append((token,), branch.slot)
            if branch.streamed.add(branch.tokens):
                self._finish(branch, "stop")
            elif not branch.room:
                self._finish(branch, "length")
            else:
                going.append(branch)
        self._branches = going

    def _drawn(self, logits_RV: torch.Tensor) -> list[tuple[int, float]]:
        """The next token of each branch, with its log-probability."""
        alike: dict[tuple[float, float], list[int]] = {}
        for row, branch in enumerate(self._branches):
            generation = branch.job.generation
            alike.setdefault((generation.temperature, generation.top_p), []).append(row)
        drawn: dict[int, tuple[int, float]] = {}
        for (temperature, top_p), rows in alike.items():
            uniform = [self._branches[row].random.random() for row in rows]
            uniform_R = torch.tensor(uniform, dtype=torch.float64, device=logits_RV.device)
            token_R, logprob_R, _own = draw(logits_RV[rows], uniform_R, temperature, top_p)
            drawn.update(zip(rows, zip(token_R.tolist(), logprob_R.tolist(), strict=True), strict=True))
        return [drawn[row] for row in range(len(self._branches))]

    def _score(self, branch: _Branch, token: int, logprob: float, logits_V: torch.Tensor) -> None:
        """Keep the log-probability of a token, and those of the likeliest, if they were asked for."""
        if branch.job.num_likeliest is None:
            return
        wide_V = logits_V.to(torch.promote_types(logits_V.dtype, torch.float32))
        best = torch.log_softmax(wide_V, dim=-1).topk(branch.job.num_likeliest)
        likeliest = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        texts = tuple((decode_tokens(self._tokenizer, (one,)), value) for one, value in likeliest)
        branch.scored.append(Scored(decode_tokens(self._tokenizer, (token,)), logprob, texts))

    def _finish(self, branch: _Branch, finish: Literal["stop", "length"]) -> None:
        text = branch.streamed.end(branch.tokens)
        scored = tuple(branch.scored)
        branch.job.finish(Completion(text, finish, branch.num_prompt_tokens, len(branch.tokens), scored))
