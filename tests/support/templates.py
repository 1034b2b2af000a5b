"""A tokenizer and a chat template for each style."""

from __future__ import annotations

from palmette.tree.chat import ChatTemplate
from tests.support.tokenizers import STYLES

TOKENIZERS = {style: build() for style, build in STYLES.items()}
TEMPLATES = {style: ChatTemplate(tokenizer) for style, tokenizer in TOKENIZERS.items()}
