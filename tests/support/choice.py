"""Tiny tokenizers and models by seed, the same wherever they are made, and items to measure them on."""

from __future__ import annotations

import functools
import json
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.support.models import SMALL, with_exact_norms
from tests.support.paths import ROOT
from tests.support.tokenizers import CHATML

DATA = ROOT / "tests" / "choice" / "data"
ROWS: dict[str, dict[str, list[dict[str, Any]]]] = json.loads((DATA / "rows.json").read_text(encoding="utf-8"))
_SPECIAL = ["<|im_start|>", "<|im_end|>"]


@functools.cache
def tiny_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer trained on the items.

    "words" splits at blanks as GPT-2 does and has a chat template. "joined" has tokens that reach over blanks, so the
    end of a context and the beginning of a choice may become one, and puts a token before every text.
    """
    backend = Tokenizer(models.BPE())
    if kind == "words":
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=alphabet, special_tokens=_SPECIAL, show_progress=False
    )
    texts = [json.dumps(row, ensure_ascii=False) for task in ROWS.values() for row in task["items"]]
    # Words of a context's end and of a choice, which "joined" learns as one.
    backend.train_from_iterator([*texts, *["Answer: a", "Answer: the", " because the"] * 40], trainer)
    if kind == "joined":
        start = backend.token_to_id("<|im_start|>")
        backend.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A", special_tokens=[("<|im_start|>", start)]
        )
    first = {"bos_token": "<|im_start|>"} if kind == "joined" else {}
    made = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|im_end|>", **first)
    made.chat_template = CHATML
    return made


def tiny_model(kind: str, attention: str = "sdpa") -> LlamaForCausalLM:
    """A Llama of two layers in float64 for a tokenizer. transformers' eager attention would compute in float32."""
    torch.manual_seed(11)
    settings = {**SMALL, "vocab_size": len(tiny_tokenizer(kind)), "max_position_embeddings": 2048}
    model = with_exact_norms(LlamaForCausalLM(LlamaConfig(**settings)).double().eval())
    model.set_attn_implementation(attention)
    return model
