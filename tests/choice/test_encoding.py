"""Where the scored part of a sequence begins, by hand and by the two rules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from palmette.choice.encoding import ItemEncoder, Scored
from palmette.choice.items import ChoiceItem
from palmette.choice.scoring import score_items
from palmette.errors import DataError
from palmette.model.attention import BACKENDS
from tests.support.choice import tiny_model, tiny_tokenizer


def item(context: str, *continuations: str) -> ChoiceItem:
    return ChoiceItem("i", (context,) * len(continuations), continuations, continuations, 0)


def test_blanks_at_the_end_of_a_context_are_scored() -> None:
    tokenizer = tiny_tokenizer("words")
    encoder = ItemEncoder(tokenizer, "lm-eval")
    (plain,) = encoder.encode([item("The ice", " melts", " burns")])
    (moved,) = encoder.encode([item("The ice ", "melts", "burns")])
    assert plain == moved
    context = tuple(tokenizer("The ice")["input_ids"])
    assert plain.choices[0] == Scored((*context, *tokenizer(" melts")["input_ids"]), len(context))


def test_a_joined_token_splits_as_each_rule_has_it() -> None:
    """One token holds "r: a": lm-eval puts the context's own tokens before, lighteval takes the tokens as they are."""
    tokenizer = tiny_tokenizer("joined")
    context, whole = (tuple(tokenizer(text)["input_ids"]) for text in ("Answer:", "Answer: a"))
    assert whole[: len(context)] != context
    if len(context) < len(whole):
        (found,) = ItemEncoder(tokenizer, "lm-eval").encode([item("Answer:", " a", " b")])
        assert found.choices[0].tokens == context + whole[len(context) :]
    else:
        with pytest.raises(DataError, match="without a token of its own"):
            ItemEncoder(tokenizer, "lm-eval").encode([item("Answer:", " a", " b")])
    (found,) = ItemEncoder(tokenizer, "lighteval-cloze").encode([item("Answer:", " a", " b")])
    assert found.choices[0] == Scored(whole, min(len(context), len(whole) - 1))
    assert found.merged


def test_an_empty_context_is_the_first_token() -> None:
    tokenizer = tiny_tokenizer("words")
    (found,) = ItemEncoder(tokenizer, "lighteval-cloze").encode([item("", "Ann", "Sue")])
    assert found.choices[1] == Scored((tokenizer.eos_token_id, *tokenizer("Sue")["input_ids"]), 1)


def test_a_long_context_loses_its_beginning() -> None:
    """The numbers are those of the rest alone. The last token is never read, so a model of M tokens scores M + 1."""
    tokenizer, model = tiny_tokenizer("words"), tiny_model("words", BACKENDS["sdpa"])
    long = item("Ice and snow and ice and snow and the sun", " melts", " burns")
    (whole,) = ItemEncoder(tokenizer, "lm-eval").encode([long])
    most = len(whole.choices[0].tokens) - 3
    (cut,) = ItemEncoder(tokenizer, "lm-eval", max_tokens=most).encode([long])
    assert cut.cut
    assert not whole.cut
    assert {len(choice.tokens) for choice in cut.choices} == {most + 1}
    found = score_items(model, [cut], tokens_per_batch=64)[0].logprobs
    for choice, logprob in zip(cut.choices, found, strict=True):
        rest = tokenizer.decode(choice.tokens[: choice.start])
        (alone,) = ItemEncoder(tokenizer, "lm-eval").encode([item(rest, " melts", " burns")])
        assert choice in alone.choices
        numbers = score_items(model, [alone], tokens_per_batch=64)[0].logprobs
        assert numbers[alone.choices.index(choice)] == pytest.approx(logprob, abs=1e-9)
    with pytest.raises(DataError, match="the model reads 1"):
        ItemEncoder(tokenizer, "lm-eval", max_tokens=1).encode([long])


def learned_positions(num_positions: int) -> Any:
    """A GPT-2, which has an embedding for each position and none for the next."""
    torch.manual_seed(3)
    sizes = {"vocab_size": len(tiny_tokenizer("words")), "n_embd": 32, "n_layer": 2, "n_head": 4}
    return GPT2LMHeadModel(GPT2Config(**sizes, n_positions=num_positions)).double().eval()


@pytest.mark.parametrize("rule", ["lm-eval", "lighteval-cloze"])
@pytest.mark.parametrize("kind", ["rotary", "learned"])
def test_a_cut_item_has_lm_evals_numbers(kind: str, rule: Any) -> None:
    """lm-eval 0.4.13 feeds (context + continuation)[-(max_length + 1):][:-1], to plain transformers here."""
    tokenizer = tiny_tokenizer("words")
    texts = "Ice and snow and ice and snow and the sun", (" melts the snow", " burns", " melts")
    context = tokenizer(texts[0])["input_ids"]
    most = len(context) - 2
    model = learned_positions(most) if kind == "learned" else tiny_model("words")
    expected = []
    for text in texts[1]:
        continuation = tokenizer(texts[0] + text)["input_ids"][len(context) :]
        fed = torch.tensor([[*context, *continuation][-(most + 1) :][:-1]])
        assert fed.shape[1] == most
        with torch.no_grad():
            logprob_TV = model(fed).logits[0].log_softmax(-1)[-len(continuation) :]
        expected.append(float(logprob_TV[torch.arange(len(continuation)), torch.tensor(continuation)].sum()))
    (cut,) = ItemEncoder(tokenizer, rule, max_tokens=most).encode([item(texts[0], *texts[1])])
    assert cut.cut
    if kind == "rotary":
        model.config.max_position_embeddings = most
    model.set_attn_implementation(BACKENDS["sdpa"])
    found = score_items(model, [cut], tokens_per_batch=256)[0].logprobs
    assert found == pytest.approx(expected, abs=1e-9)
