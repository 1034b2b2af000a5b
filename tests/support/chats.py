"""Conversations about a harbour, and their losses on plain rows."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

# ChatML with the marks by which transformers finds what an assistant said, its end of turn included.
GENERATION = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ m.content }}<|im_end|>{% endif %}{{ '\n' }}{% endfor %}"
)


SYSTEM = ("system", "You answer questions about a harbour.")


FERRY = ("user", "When does the ferry leave?")


PIER = ("user", "From which pier?")


def row(*turns: tuple[str, Any], **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns], **fields}


# The first four open alike; of these "early" is the beginning of "long", and "twin" says the same as "early".
ROWS = [
    row(SYSTEM, FERRY, ("assistant", "At 7:40."), PIER, ("assistant", "From pier 3."), id="long"),
    row(SYSTEM, FERRY, ("assistant", "At 7:40."), id="early"),
    row(FERRY, ("assistant", "The ferry leaves at 7:40 from pier 3."), id="alone"),
    row(SYSTEM, FERRY, ("assistant", "At 7:40."), PIER, ("assistant", "The tower."), id="forked"),
    row(SYSTEM, FERRY, ("assistant", "At 7:40."), id="twin"),
    row(SYSTEM, ("user", "What is the tower built of?"), ("assistant", "Of granite."), id="tower"),
]


PARTS = [
    "The ferry leaves",
    {"text": " at", "learn": 0.0},
    {"text": " pier", "learn": 2.5, "attend": False},
    {"text": " seven", "attend": False},
    {"text": " forty.", "learn": 0.25},
]


DETAILED = row(
    SYSTEM,
    ("user", ["When does the", {"text": " ferry", "learn": 0.5}, " leave?"]),
    ("assistant", PARTS),
    PIER,
    ("assistant", [{"text": "From pier three.", "learn": 0.0}]),
    PIER,
    ("assistant", "Three."),
)


def plain_loss(model: Any, rows: list[tuple[list[int], list[float]]]) -> tuple[float, float]:
    """Weighted negative log-likelihood of plain rows, one at a time, shifted by one; and the weights' sum."""
    total, weights = 0.0, 0.0
    for tokens, learn in rows:
        with torch.no_grad():
            logprobs = torch.log_softmax(model(input_ids=torch.tensor([tokens])).logits[0].double(), dim=-1)
        for index in range(1, len(tokens)):
            total -= learn[index] * float(logprobs[index - 1, tokens[index]])
            weights += learn[index]
    return total, weights


def masked_rows(tokenizer: PreTrainedTokenizerFast, rows: list[dict[str, Any]]) -> list[tuple[list[int], list[float]]]:
    """Rows with the masks that transformers makes from the template's generation marks, as TRL's assistant_only_loss
    takes them.
    """
    found = []
    for one in rows:
        encoded = tokenizer.apply_chat_template(
            one["messages"], chat_template=GENERATION, return_dict=True, return_assistant_tokens_mask=True
        )
        found.append((list(encoded["input_ids"]), [float(mask) for mask in encoded["assistant_masks"]]))
    return found
