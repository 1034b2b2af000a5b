"""Plain greedy generation, as people do today: a chat prompt for each question, JSON asked for, the reply taken as it comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from palmette.data.records import Document, Question
from palmette.model.forward import check_positions
from palmette.tasks.extractive_qa import ExtractiveQa


def generate_replies(
    model: Any,
    tokenizer: Any,
    task: ExtractiveQa,
    questions: Sequence[tuple[Document, Question]],
    *,
    batch_size: int = 16,
    max_new_tokens: int = 48,
) -> Iterator[tuple[int, str]]:
    """Generate a reply to each question.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        task: what the prompts are made with.
        questions: questions with their documents.
        batch_size: prompts generated side by side; prompts of similar length share a batch.
        max_new_tokens: where an endless reply is cut.

    Raises:
        ModelError: a prompt with its reply is longer than the model was made for.

    Yields:
        (index into `questions`, the reply's text), batch by batch, longest prompts first.
    """
    prompts = [task.prompt_tokens(document, question) for document, question in questions]
    for prompt, (document, question) in zip(prompts, questions, strict=True):
        what = f"question {question.id!r} about document {document.id!r}, with its reply,"
        check_positions(model, len(prompt) + max_new_tokens, what)
    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index))
    stop = sorted({task.end_of_turn(), *_eos(model)})
    config = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=stop, pad_token_id=stop[0], use_cache=True
    )
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        for index, tokens in zip(batch, _generate(model, [prompts[i] for i in batch], config), strict=True):
            kept = tokens[: min((tokens.index(end) for end in stop if end in tokens), default=len(tokens))]
            yield index, str(tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False))


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
