"""Tiny masked language models."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
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


# Words as byte-level BPE writes them, where Ġ is a space. They are merged from the left.
SPACED = "Ġthe ĠThe Ġtower Ġis Ġhigh Ġa Ġwalk Ġred Ġ("
UNSPACED = "The the tower walk ing red"


def robertas_tokenizer() -> PreTrainedTokenizerFast:
    """RoBERTa's kind: bytes, with a token of its own for a word behind a space."""
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    words = f"{SPACED} {UNSPACED}".split()
    merges = [(word[:end], word[end]) for word in words for end in range(1, len(word))]
    pieces = [*names, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(one + other for one, other in merges)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=list(dict.fromkeys(merges))))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True)
    special = dict(zip(("cls_token", "pad_token", "sep_token", "unk_token", "mask_token"), names, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **special)


def tiny_roberta() -> MaskedModel:
    """A tiny RoBERTa with random weights, in float64."""
    tokenizer = robertas_tokenizer()
    torch.manual_seed(5)
    config = RobertaConfig(vocab_size=len(tokenizer), pad_token_id=1, **SMALL_BERT)
    return MaskedModel(RobertaForMaskedLM(config).eval().double(), tokenizer, "tiny", "tiny")


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
