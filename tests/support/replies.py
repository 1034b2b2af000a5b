"""Replies by transformers alone, without our templates, trees and caches."""

from __future__ import annotations

from typing import Any

import torch


def stock_reply(model: Any, tokenizer: Any, messages: list[dict[str, str]], num_tokens: int = 12) -> str:
    """The greedy reply by transformers alone: its own template and generation, on a plain row."""
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    return stock_continuation(model, tokenizer, prompt, num_tokens)


def stock_continuation(model: Any, tokenizer: Any, prompt: list[int], num_tokens: int = 12) -> str:
    """The greedy continuation of tokens by transformers alone."""
    ids = torch.tensor([prompt])
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    previous = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        made = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=num_tokens,
            do_sample=False,
            eos_token_id=stop,
            pad_token_id=stop,
        )[0, ids.shape[1] :].tolist()
    finally:
        model.set_attn_implementation(previous)
    made = made[: made.index(stop)] if stop in made else made
    return str(tokenizer.decode(made, skip_special_tokens=False, clean_up_tokenization_spaces=False))
