"""Plain generation: a chat prompt for each question asks for JSON, and the completion is read as it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from palmette.data.records import Document, Question
from palmette.decode.abstention import abstention_probabilities
from palmette.decode.prediction import Prediction, prediction_of
from palmette.decode.reasoning import check_place, end_tokens
from palmette.errors import ModelError
from palmette.model.forward import check_positions
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tree.segments import decode_tokens


class CompletionDecoder(ABC):
    """Answers with completions of free text, which are read in the format that the prompt asks for.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        task: builds the prompts.
        max_new_tokens: the most tokens of a completion. A longer one is cut.
        loose: whether to read an answer from broken JSON. Such a completion still counts as invalid.
        score_abstention: whether to compute the probability of no answer too, in an extra pass.
        reasoning_limit: let the model reason freely for up to so many tokens before the opening of its answer is
            inserted. As in the task if None.

    Raises:
        DataError: the prompt has no place for free reasoning.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        task: ExtractiveQa,
        *,
        max_new_tokens: int = 48,
        loose: bool = False,
        score_abstention: bool = True,
        reasoning_limit: int | None = None,
    ) -> None:
        if reasoning_limit is not None:
            check_place(task)
        self._model, self._tokenizer, self._task = model, tokenizer, task
        self._reasoning_limit = reasoning_limit
        self._max_new_tokens = max_new_tokens
        self._read = task.prompt.read_loosely if loose else task.prompt.read
        self._score_abstention = score_abstention

    @abstractmethod
    def completions(self, questions: Sequence[tuple[Document, Question]]) -> Iterator[tuple[int, str]]:
        """(index into `questions`, text of the completion), as soon as each is known.

        Raises:
            ModelError: a prompt with its completion is longer than the model's positions.
        """

    def predict(self, documents: Sequence[Document]) -> Iterator[tuple[str, Prediction]]:
        """(question id, prediction) for every question, as soon as each is known.

        Raises:
            ModelError: a prompt with its completion is longer than the model's positions.
        """
        pairs = [(document, question) for document in documents for question in document.questions]
        no_answer: dict[str, float] = {}
        free = self._task.reasoning.kind == "rationale" or self._reasoning_limit is not None
        if self._score_abstention and not free:  # since there is no reasoning yet
            for batch in abstention_probabilities(self._model, self._task, documents):
                no_answer.update(batch)
        for index, raw in self.completions(pairs):
            document, question = pairs[index]
            # Reasoning was cut off where it opened an answer, so the first opening is the inserted one.
            opened = raw.find(self._task.prompt.before_answer.strip()) if self._reasoning_limit is not None else 0
            yield question.id, prediction_of(self._read(raw[opened:]), raw, document, no_answer.get(question.id))

    def _stops(self) -> list[int]:
        return end_tokens(self._model, self._task)

    def _text(self, tokens: list[int]) -> str:
        return decode_tokens(self._tokenizer, tokens)

    def _check_length(self, num_prompt_tokens: int, document: Document, question: Question) -> None:
        what = f"question {question.id!r} about document {document.id!r}, with its completion,"
        check_positions(self._model, num_prompt_tokens + self._max_new_tokens, what)


class GenerationDecoder(CompletionDecoder):
    """Answers with the generation of transformers, greedy or beam search. Each prompt is a row.

    Args:
        model, tokenizer, task, options: as for `CompletionDecoder`.
        num_beams: the number of beams. 1 is greedy. Beams are ranked by the sum of their log-probabilities, not by the
            mean.
        batch_size: the number of prompts in a batch. Prompts of similar length share a batch.

    Raises:
        ModelError: something has to be inserted into the completion before the answer, or the prompt has two turns.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        task: ExtractiveQa,
        *,
        num_beams: int = 1,
        batch_size: int = 16,
        **options: Any,
    ) -> None:
        super().__init__(model, tokenizer, task, **options)
        if task.reasoning.kind in ("blah", "pause") or task.prompt.two_turns or self._reasoning_limit is not None:
            raise ModelError(
                "the generation of transformers cannot insert placeholders, a second turn or a forced opening",
                "Use --decoder greedy, or span.",
            )
        self._num_beams, self._batch_size = num_beams, batch_size

    def completions(self, questions: Sequence[tuple[Document, Question]]) -> Iterator[tuple[int, str]]:
        """(index into `questions`, text of the completion), batch by batch, longest prompts first."""
        prompts = [self._task.prompt_tokens(document, question) for document, question in questions]
        for prompt, pair in zip(prompts, questions, strict=True):
            self._check_length(len(prompt), *pair)
        order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index))
        stop = self._stops()
        config = GenerationConfig(
            max_new_tokens=self._max_new_tokens,
            do_sample=False,
            num_beams=self._num_beams,
            **({"length_penalty": 0.0} if self._num_beams > 1 else {}),
            eos_token_id=stop,
            pad_token_id=stop[0],
            use_cache=True,
        )
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            for index, tokens in zip(batch, _generate(self._model, [prompts[i] for i in batch], config), strict=True):
                length = min((tokens.index(end) for end in stop if end in tokens), default=len(tokens))
                yield index, self._text(tokens[:length])


@torch.inference_mode()
def _generate(model: Any, prompts: list[list[int]], config: GenerationConfig) -> list[list[int]]:
    """New tokens after each prompt, padded on the left for the batch."""
    width = max(len(prompt) for prompt in prompts)
    tokens = torch.tensor([[config.pad_token_id] * (width - len(p)) + p for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    # transformers fills what our configuration leaves open from the model's own. That may hold a repetition penalty, as
    # Qwen's does, and penalise the very words that are to be copied.
    own, model.generation_config = model.generation_config, config
    try:
        output = model.generate(input_ids=tokens, attention_mask=mask)
    finally:
        model.generation_config = own
    completions: list[list[int]] = output[:, width:].tolist()
    return completions
