"""Tiny encoders with a span head, their tokenizers, and a document to read."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForQuestionAnswering, PreTrainedTokenizerFast

from palmette.baselines.encoder import Encoder
from palmette.baselines.windows import EncodedWindow, Windowing, encode
from palmette.data.records import Answer, Document, Question
from tests.support.tokenizers import byte_level_tokenizer

WORDS = "the tower is granite , and white . high who built it ? what of when does ferry leave leaves at 7 : 40 from"


MORE = "pier 3 cafe costs ##s [ ] sep cls tea"


SMALL_BERT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


READING = {"max_tokens": 40, "stride": 8}


def word_piece() -> PreTrainedTokenizerFast:
    """BERT's kind: words in lower case without accents, pairs as [CLS] question [SEP] document [SEP]."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys(f"{WORDS} {MORE}".split())]
    backend = Tokenizer(models.WordPiece({name: index for index, name in enumerate(names)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def byte_level() -> PreTrainedTokenizerFast:
    """RoBERTa's kind: bytes, so that a letter with an accent takes several tokens."""
    made = byte_level_tokenizer(["<s>", "</s>"], bos="<s>", eos="</s>")
    made.cls_token, made.sep_token = "<s>", "</s>"
    first, last = ((token, made.convert_tokens_to_ids(token)) for token in ("<s>", "</s>"))
    made.backend_tokenizer.post_processor = processors.RobertaProcessing(last, first, trim_offsets=True)
    return made


def tiny_encoder(*, zero_head: bool = False) -> Encoder:
    tokenizer = word_piece()
    torch.manual_seed(5)
    model = BertForQuestionAnswering(BertConfig(vocab_size=len(tokenizer), **SMALL_BERT)).eval()
    if zero_head:
        torch.nn.init.zeros_(model.qa_outputs.weight)
    return Encoder(model, tokenizer, "tiny", "tiny")


def asked(text: str, question: str, answer: str | None = None) -> Document:
    """A document with one question."""
    answers = () if answer is None else (Answer(answer, text.index(answer)),)
    return Document("d", text, (Question("q", question, answers),))


def windows_of(document: Document, windowing: Windowing, tokenizer: Any = None) -> list[EncodedWindow]:
    ((_, windows),) = encode(tokenizer or word_piece(), document, windowing)
    return windows


TOWER = "The tower is granite, and white. High"  # 9 tokens: the tower is granite , and white . high


TOWER_PLACES = [(0, 3), (4, 9), (10, 12), (13, 20), (20, 21), (22, 25), (26, 31), (31, 32), (33, 37)]


def peaks(window: EncodedWindow, first: int, last: int, null: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of -9 everywhere, 3 at one start and one end, and half a null score at CLS."""
    start, end = (np.full(len(window.places), -9.0) for _ in range(2))
    start[first], end[last] = 3.0, 3.0
    start[window.cls] = end[window.cls] = null / 2
    return start, end
