"""Plain generation, as people do today: a chat prompt for each question, JSON asked for, the reply taken as it comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from palmette.data.records import Document, Question
from palmette.decode.abstention import abstention_probabilities
from palmette.decode.prediction import Prediction, find_span
from palmette.model.forward import check_positions
from palmette.tasks.extractive_qa import ExtractiveQa, Reply, read_reply, read_reply_loosely


class GenerationDecoder:
    """Answers by greedy or beam search over free text.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        task: what the prompts are made with.
        num_beams: 1 is greedy. Beams are ranked by the sum of their log-probabilities, not by its mean.
        batch_size: prompts generated side by side; prompts of similar length share a batch.
        max_new_tokens: where an endless reply is cut.
        loose: whether to read an answer out of broken JSON; such a reply still counts as not valid.
        score_abstention: whether to find the probability of no answer too, in a pass of its own.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        task: ExtractiveQa,
        *,
        num_beams: int = 1,
        batch_size: int = 16,
        max_new_tokens: int = 48,
        loose: bool = False,
        score_abstention: bool = True,
    ) -> None:
        self._model, self._tokenizer, self._task = model, tokenizer, task
        self._num_beams, self._batch_size, self._max_new_tokens = num_beams, batch_size, max_new_tokens
        self._read = read_reply_loosely if loose else read_reply
        self._score_abstention = score_abstention

    def predict(self, documents: Sequence[Document]) -> Iterator[tuple[str, Prediction]]:
        """(question id, prediction) for every question, longest prompts first.

        Raises:
            ModelError: a prompt with its reply is longer than the model was made for.
        """
        asked = [(document, question) for document in documents for question in document.questions]
        no_answer: dict[str, float] = {}
        if self._score_abstention:
            for batch in abstention_probabilities(self._model, self._task, documents):
                no_answer.update(batch)
        for index, raw in self.replies(asked):
            document, question = asked[index]
            yield question.id, prediction_of(self._read(raw), raw, document, no_answer.get(question.id))

    def replies(self, questions: Sequence[tuple[Document, Question]]) -> Iterator[tuple[int, str]]:
        """(index into `questions`, the reply's text), batch by batch, longest prompts first.

        Raises:
            ModelError: a prompt with its reply is longer than the model was made for.
        """
        prompts = [self._task.prompt_tokens(document, question) for document, question in questions]
        for prompt, (document, question) in zip(prompts, questions, strict=True):
            what = f"question {question.id!r} about document {document.id!r}, with its reply,"
            check_positions(self._model, len(prompt) + self._max_new_tokens, what)
        order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index))
        stop = sorted({self._task.end_of_turn(), *_eos(self._model)})
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
                kept = tokens[: min((tokens.index(end) for end in stop if end in tokens), default=len(tokens))]
                text = self._tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
                yield index, str(text)


def prediction_of(reply: Reply, raw: str, document: Document, no_answer: float | None = None) -> Prediction:
    """A generated reply as a prediction; its words are looked up in the document.

    Args:
        reply: what was read out of it.
        raw: the reply itself.
        document: what was asked about.
        no_answer: the probability that the document does not answer, if it is known.
    """
    start = find_span(document.text, reply.text)
    return Prediction(
        text=reply.text,
        refusal="" if reply.text or not reply.valid else "absent",
        start=start if start >= 0 else None,
        end=start + len(reply.text) if start >= 0 else None,
        no_answer_probability=None if no_answer is None else min(1.0, no_answer),
        valid_json=reply.valid,
        reply=raw,
    )


@torch.inference_mode()
def _generate(model: Any, prompts: list[list[int]], config: GenerationConfig) -> list[list[int]]:
    """New tokens after each prompt, padded on the left for the batch."""
    width = max(len(prompt) for prompt in prompts)
    tokens = torch.tensor([[config.pad_token_id] * (width - len(p)) + p for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    # transformers fills what our configuration leaves open from the model's own, which may hold a repetition penalty (as Qwen's
    # does) against the very words that are to be copied.
    own, model.generation_config = model.generation_config, config
    try:
        output = model.generate(input_ids=tokens, attention_mask=mask)
    finally:
        model.generation_config = own
    replies: list[list[int]] = output[:, width:].tolist()
    return replies


def _eos(model: Any) -> list[int]:
    eos = model.generation_config.eos_token_id
    return [] if eos is None else [int(e) for e in (eos if isinstance(eos, list) else [eos])]
