"""Chat templates of real model families, as data, and a small tokenizer for each. README.md lists their sources."""

from __future__ import annotations

import re
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from tests.support.tokenizers import byte_level_tokenizer

FOLDER = Path(__file__).parent
FAMILIES = sorted(file.stem for file in FOLDER.glob("*.jinja"))
# Strings in a template that are control tokens of its model: <|im_end|>, <start_of_turn>, [/INST], and the like.
_CONTROL = re.compile(
    r"<\|[^<>{}'\"| ]+\|>|<\uff5c[^<>{}'\"]+?\uff5c>|</?think>|<(?:start|end)_of_\w+>|\[gMASK\]|<sop>|<用户>|<AI>"
)
# Mistral's tokenizers hold these as control tokens since version 3. Version 2 writes [INST] as ordinary text.
_BRACKETS = re.compile(r"\[/?(?:INST|SYSTEM_PROMPT)\]")


def family_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with the family's chat template and the control tokens that it writes."""
    template = (FOLDER / f"{family}.jinja").read_text(encoding="utf-8")
    control = set(_CONTROL.findall(template))
    if family == "mistral-large-2411":
        control |= set(_BRACKETS.findall(template))
    return byte_level_tokenizer([*sorted(control), "<bos>", "<eos>"], bos="<bos>", eos="<eos>", template=template)
