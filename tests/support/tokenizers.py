"""Small tokenizers with chat templates in the styles of five model families, in minimal wording of our own."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# SmolLM2: ChatML that opens with a system message of its own where none is given.
SMOLLM2 = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe helpful.<|im_end|>\n{% endif %}" + CHATML
# Llama 2: the system message inside the first user turn, contents trimmed, no control token for roles.
LLAMA2 = (
    "{% if messages[0].role == 'system' %}{% set system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}{% set content = system + m.content if loop.first else m.content %}"
    "{% if m.role == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
# Llama 3: headers, contents trimmed, and the day of the run unless one is given.
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{% if m.role == 'system' %}"
    "Today Date: {{ date_string if date_string is defined else strftime_now('%d %b %Y') }}\n\n"
    "{% endif %}{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
# Qwen: ChatML that cuts thoughts out of the assistant's content.
QWEN = (
    "{% for m in messages %}{% set content = m.content.split('</think>')[-1] if m.role == 'assistant' else m.content %}"
    "<|im_start|>{{ m.role }}\n{{ content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Gemma: no system role, "model" for the assistant, contents trimmed.
GEMMA = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{{ bos_token }}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)

_SAMPLE = [
    "You answer questions about a document. Reply with JSON only: ",
    '{"answer": "?"} Document: Question: What is the tower built of? The ferry leaves at 7:40 from pier 3.',
]


def _wrapped(
    backend: Tokenizer, special: list[str], plain: list[str], bos: str | None, eos: str, template: str | None
) -> PreTrainedTokenizerFast:
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in plain])
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token=eos, pad_token=eos)
    made.chat_template = template
    return made


def byte_level_tokenizer(
    special: list[str], *, eos: str, bos: str | None = None, plain: list[str] | None = None, template: str | None = None
) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as GPT-2, Llama 3, Qwen and SmolLM use."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(_SAMPLE, trainer)
    return _wrapped(backend, special, plain or [], bos, eos, template)


def sentencepiece_tokenizer(
    special: list[str], *, eos: str, bos: str | None = None, prefix: bool, template: str | None = None
) -> PreTrainedTokenizerFast:
    """BPE over characters with "▁" for blanks and bytes as fallback, as Llama 2 (with a forced leading blank) and Gemma
    use.

    The control tokens stand in the vocabulary itself, as they do there; `<s>` can even be merged from its characters.
    Two blanks are one token, which Gemma's converter adds once more as an added token.
    """
    characters = sorted({character for line in _SAMPLE for character in line} - {" "})
    names = ["<unk>", *special, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁▁", *characters, "<", "s", ">"]
    vocabulary = {name: index for index, name in enumerate(dict.fromkeys([*names, "<s"]))}
    merges = [("▁", "▁"), ("<", "s"), *([("<s", ">")] if "<s>" in vocabulary else [])]
    backend = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    blank = normalizers.Replace(" ", "▁")
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), blank]) if prefix else blank
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return _wrapped(backend, special, [] if prefix else ["▁▁"], bos, eos, template)


STYLES = {
    "smollm2": functools.partial(
        byte_level_tokenizer, ["<|im_start|>", "<|im_end|>"], eos="<|im_end|>", template=SMOLLM2
    ),
    "llama2": functools.partial(
        sentencepiece_tokenizer, ["<s>", "</s>"], bos="<s>", eos="</s>", prefix=True, template=LLAMA2
    ),
    "llama3": functools.partial(
        byte_level_tokenizer,
        ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        template=LLAMA3,
    ),
    "qwen": functools.partial(
        byte_level_tokenizer,
        ["<|im_start|>", "<|im_end|>"],
        plain=["<think>", "</think>", "<tool_call>"],
        eos="<|im_end|>",
        template=QWEN,
    ),
    "gemma": functools.partial(
        sentencepiece_tokenizer,
        ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"],
        bos="<bos>",
        eos="<eos>",
        prefix=False,
        template=GEMMA,
    ),
}


class LetterPairs:
    """Says each token in two letters: 0 "aa", 1 "ab", 26 "ba", ..."""

    def decode(self, tokens: Sequence[int], **_: Any) -> str:
        return "".join(chr(97 + token // 26) + chr(97 + token % 26) for token in tokens)
