"""Tiny masked language models."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

from palmette.encoders.masked import MaskedModel
from tests.support.encoders import SMALL_BERT

NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "fill the tower ferry is was high red in on a pier cafe 3 ##s ##ing . , [unused1] don ' t walk"


def masked_word_piece() -> PreTrainedTokenizerFast:
    """BERT's kind, with a mask token: words in lower case, and pieces that begin with ##."""
    names = [*NAMES, *WORDS.split()]
    backend = Tokenizer(models.WordPiece({name: index for index, name in enumerate(names)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), NAMES, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **special)


def tiny_bert(**changes: Any) -> MaskedModel:
    """A tiny BERT with random weights, in float64."""
    tokenizer = masked_word_piece()
    torch.manual_seed(5)
    model = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **{**SMALL_BERT, **changes})).eval().double()
    torch.nn.init.normal_(model.cls.predictions.bias, std=0.5)
    return MaskedModel(model, tokenizer, "tiny", "tiny")


def stock_models(size: int) -> dict[str, Any]:
    """Tiny masked language models of several families, with random weights."""
    torch.manual_seed(0)
    common = {"vocab_size": size, "pad_token_id": 0}
    small = {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 64}
    layers = {name: SMALL_BERT[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers")}
    modern = {**layers, "num_attention_heads": 4, "max_position_embeddings": 64, "attn_implementation": "eager"}
    return {
        "bert": BertForMaskedLM(BertConfig(**common, **SMALL_BERT)).eval(),
        "roberta": RobertaForMaskedLM(RobertaConfig(**common, **SMALL_BERT)).eval(),
        "distilbert": DistilBertForMaskedLM(DistilBertConfig(**common, **small)).eval(),
        "modernbert": ModernBertForMaskedLM(ModernBertConfig(**common, **modern)).eval(),
    }
