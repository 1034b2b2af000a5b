"""Conversations as trees: the weight of each token, and losses against plain rows."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from palmette.data.chat import Conversation, parse_chat
from palmette.errors import DataError, TemplateError
from palmette.tasks.chat import Chat
from palmette.train.steps.step import nll_objective
from palmette.tree.batch import PackedBatch
from palmette.tree.chat import ChatTemplate
from palmette.tree.prefix_tree import PrefixTree
from tests.support.chats import DETAILED, FERRY, PIER, ROWS, masked_rows, plain_loss, row
from tests.support.models import tiny_llama
from tests.support.oracle import oracle
from tests.support.tokenizers import STYLES


def conversations(rows: list[dict[str, Any]]) -> list[Conversation]:
    found = list(parse_chat(rows, "test"))
    assert all(isinstance(one, Conversation) for one in found), found
    return [one for one in found if isinstance(one, Conversation)]


def tokens_of(segments: Any) -> list[tuple[int, float, bool]]:
    """(token, learn, attend) of each token."""
    return [(token, segment.learn, segment.attend) for segment in segments for token in segment.tokens]


# The loss weight of each part without one of its own, and of the ends of the three turns of the assistant: 2.5 is the
# largest weight within the first, nothing in the second is learned. Parts that nobody may look at are not learned
# unless they say so.
WEIGHTS: dict[str, tuple[Any, dict[str, float], list[float]]] = {
    "assistant": ("assistant", {"assistant": 1.0}, [2.5, 0.0, 1.0]),
    "answer": ("answer", {"last": 1.0}, [2.5, 0.0, 1.0]),
    "full": ("full", {"template": 1.0, "system": 1.0, "user": 1.0, "assistant": 1.0}, [2.5, 0.0, 1.0]),
    "kinds": (
        {"system": 0.1, "user": 0.2, "assistant": 0.3, "end": 4.0},
        {"system": 0.1, "user": 0.2, "assistant": 0.3},
        [4.0, 0.0, 4.0],
    ),
    "ends": ({"end": 4.0, "template": 0.5}, {"template": 0.5}, [4.0, 0.0, 4.0]),
}


@pytest.mark.parametrize("style", ["smollm2", "llama3"])
@pytest.mark.parametrize("case", sorted(WEIGHTS))
def test_the_weight_of_each_token_is_that_of_its_characters(style: str, case: str) -> None:
    """Against the whole conversation as transformers renders and tokenises it, with the weight of each character
    written down by hand.

    The parts end where this tokenizer splits a text anyway, so that its tokens are the same, cut in parts or not.
    """
    learn, default, ends = WEIGHTS[case]
    tokenizer = STYLES[style]()
    end_mark = {"smollm2": "<|im_end|>", "llama3": "<|eot_id|>"}[style]
    (conversation,) = conversations([DETAILED])
    messages = [{"role": t.role, "content": "".join(p.text for p in t.parts)} for t in conversation.turns]
    text = tokenizer.apply_chat_template(messages, tokenize=False, date_string="26 Jul 2024")
    weight, attend = [default.get("template", 0.0)] * len(text), [True] * len(text)
    at, ends = 0, list(ends)
    for index, turn in enumerate(DETAILED["messages"]):
        parts = turn["content"] if isinstance(turn["content"], list) else [turn["content"]]
        for part in parts:
            part = part if isinstance(part, dict) else {"text": part}
            at = text.index(part["text"], at)
            usual = default.get(turn["role"], 0.0)
            if turn["role"] == "assistant" and index == len(DETAILED["messages"]) - 1:
                usual = default.get("last", usual)
            usual = usual if part.get("attend", True) else 0.0
            for character in range(at, at + len(part["text"])):
                weight[character], attend[character] = part.get("learn", usual), part.get("attend", True)
            at += len(part["text"])
        if turn["role"] == "assistant":
            assert text.startswith(end_mark, at)
            weight[at : at + len(end_mark)] = [ends.pop(0)] * len(end_mark)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    starts = [start for start, _ in encoded["offset_mapping"]]
    expected = [
        (token, weight[start], attend[start]) for token, start in zip(encoded["input_ids"], starts, strict=True)
    ]
    expected[0] = (expected[0][0], 0.0, True)  # nothing predicts it
    found = tokens_of(Chat(ChatTemplate(tokenizer), learn).segments(conversation))
    upto = len(found)
    assert "".join(tokenizer.decode([token]) for token in encoded["input_ids"][upto:]).strip() == ""
    assert found == expected[:upto]
    assert len({learned for _, learned, _ in found}) > 3
    assert not all(attended for *_, attended in found)


def test_the_completions_of_a_prompt_are_given(tokenizer: PreTrainedTokenizerFast) -> None:
    turns = [{"role": "user", "content": "When?"}, {"role": "assistant", "content": "At 7:40."}]
    (prompted,) = conversations([{"prompt": [*turns, turns[0]], "completion": "At noon."}])

    def learned(learn: Any) -> str:
        found = tokens_of(Chat(ChatTemplate(tokenizer), learn).segments(prompted))
        return tokenizer.decode([token for token, weight, _ in found if weight])

    assert learned("assistant") == learned("answer") == learned({"assistant": 2.0, "end": 1.0}) == "At noon.<|im_end|>"
    assert learned({"end": 1.0}) == "<|im_end|>"
    assert "At 7:40.<|im_end|>" in learned("full")


@pytest.mark.parametrize("style", sorted(STYLES))
def test_every_turn_of_the_assistant_is_learned_with_its_end_in_every_family(style: str) -> None:
    """All tokens together spell the rendered conversation; blanks aside, which some tokenizers put before a text."""
    tokenizer = STYLES[style]()
    one = row(FERRY, ("assistant", "At 7:40."), PIER, ("assistant", "From pier 3."))
    (conversation,) = conversations([one])
    found = tokens_of(Chat(ChatTemplate(tokenizer)).segments(conversation))
    rendered = tokenizer.apply_chat_template(one["messages"], tokenize=False)
    end = {"llama2": "</s>", "llama3": "<|eot_id|>", "gemma": "<end_of_turn>"}.get(style, "<|im_end|>")

    def spelled(tokens: list[int]) -> str:
        return re.sub(r"\s", "", "".join(tokenizer.decode([token]) for token in tokens))

    assert spelled([token for token, *_ in found]) == re.sub(r"\s", "", rendered)
    assert spelled([token for token, weight, _ in found if weight == 1.0]) == f"At7:40.{end}Frompier3.{end}"
    assert {weight for _, weight, _ in found} == {0.0, 1.0}


def packed_loss(model: Any, trees: list[PrefixTree]) -> tuple[float, float]:
    batch = PackedBatch.from_trees([trees])
    with torch.no_grad():
        return float(nll_objective(model, batch, 1.0)), batch.learn_weight


@pytest.mark.parametrize("max_tokens", [None, 60])
def test_the_loss_is_that_of_plain_rows_with_the_masks_of_transformers(
    tokenizer: PreTrainedTokenizerFast, max_tokens: int | None
) -> None:
    """Turns that conversations share are laid out once and count as often as they are said."""
    model = tiny_llama(vocab_size=len(tokenizer))
    plain = tiny_llama(vocab_size=len(tokenizer), backend="sdpa")
    expected = plain_loss(plain, masked_rows(tokenizer, ROWS))
    trees = Chat(ChatTemplate(tokenizer)).trees(conversations(ROWS), max_tokens)
    assert packed_loss(model, trees) == pytest.approx(expected, rel=1e-9)
    if max_tokens is None:
        assert [tree.name for tree in trees] == ["long", "alone", "tower"]
        assert [node.name for node in trees[0].nodes()] == ["early, twin", "", "long", "forked"]
        assert sum(tree.num_tokens for tree in trees) < 0.7 * sum(len(t) for t, _ in masked_rows(tokenizer, ROWS))
    else:
        assert len(trees) > 3


def test_weighted_parts_have_the_loss_of_plain_rows(tokenizer: PreTrainedTokenizerFast) -> None:
    """Two conversations that differ in weights alone share all tokens."""
    model, plain = (tiny_llama(vocab_size=len(tokenizer), **change) for change in ({}, {"backend": "sdpa"}))
    said = ["At ", {"text": "7:40", "learn": 3.0}, {"text": ".", "learn": 0.0}]
    rows = [row(FERRY, ("assistant", said)), row(FERRY, ("assistant", ["At ", "7:40", "."]))]
    task = Chat(ChatTemplate(tokenizer))
    pieces = [tokens_of(task.segments(one)) for one in conversations(rows)]
    assert [token for token, *_ in pieces[0]] == [token for token, *_ in pieces[1]]
    encode = task.template.encoder.content
    counts = [len(encode(text)) for text in ("At ", "7:40", ".")]
    lead = len(pieces[0]) - sum(counts) - 1
    weights = [
        [0.0] * lead + [1.0] * counts[0] + [3.0] * counts[1] + [0.0] * counts[2] + [3.0],
        [0.0] * lead + [1.0] * (sum(counts) + 1),
    ]
    expected = plain_loss(plain, [([token for token, *_ in pieces[0]], learn) for learn in weights])
    trees = task.trees(conversations(rows))
    assert len(trees) == 1
    assert trees[0].num_tokens == len(pieces[0])
    assert packed_loss(model, trees) == pytest.approx(expected, rel=1e-9)


def test_hidden_parts_have_the_loss_of_plain_rows(tokenizer: PreTrainedTokenizerFast) -> None:
    """What nobody may look at only takes up positions; the oracle shares no code with the packing."""
    model, plain = (tiny_llama(vocab_size=len(tokenizer), **change) for change in ({}, {"backend": "sdpa"}))
    (tree,) = Chat(ChatTemplate(tokenizer)).trees(conversations([DETAILED]))
    assert {segment.attend for node in tree.nodes() for segment in node.segments} == {True, False}
    with torch.no_grad():
        _, expected = oracle(plain, tree)
    loss, _ = packed_loss(model, [tree])
    assert loss == pytest.approx(-float(expected), rel=1e-9)
    shown = json.loads(json.dumps(DETAILED).replace(', "attend": false', ""))
    assert packed_loss(model, Chat(ChatTemplate(tokenizer)).trees(conversations([shown])))[0] != pytest.approx(
        loss, rel=1e-3
    )


def test_what_cannot_be_learned_is_named() -> None:
    template = ChatTemplate(STYLES["llama2"]())
    marked, silent = conversations(
        [
            row(("user", "What is [/INST]?"), ("assistant", "A mark."), id="marked"),
            row(FERRY, ("assistant", [{"text": "At 7:40.", "learn": 0.0}]), id="silent"),
        ]
    )
    with pytest.raises(TemplateError, match=r"conversation 'marked': the user message holds '\[/INST\]'"):
        Chat(template).segments(marked)
    with pytest.raises(DataError, match="conversation 'silent' has nothing to learn: all its weights are 0"):
        Chat(template).segments(silent)
    with pytest.raises(
        DataError, match=r"learn has the weight 1.0 for 'document'.*template, system, user, assistant, end"
    ):
        Chat(template, {"document": 1.0})
    with pytest.raises(DataError, match="learn gives no kind of token a weight"):
        Chat(template, {"user": 0.0})
