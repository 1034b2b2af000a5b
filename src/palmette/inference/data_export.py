"""Data as rows of tokens, as a model's tokenizer and chat template make them."""

from __future__ import annotations

import sys

from palmette.data.check import Report
from palmette.inference.base import source_tokenizer
from palmette.inference.names import resolve_model
from palmette.tasks.chat import Chat
from palmette.tasks.export import Row, token_rows, trees_of
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.qa_prompt import QaPrompt
from palmette.tasks.text_pieces import TextPieces
from palmette.tree.chat import ChatTemplate


def token_rows_of(report: Report, prompt: QaPrompt, model: str) -> list[Row]:
    """The rows of the records of checked data, or of their texts. See `token_rows`.

    Args:
        report: what `check_data` found.
        prompt: the prompt of questions about documents.
        model: the name of the model whose tokenizer and template count.

    Raises:
        ModelError: the model is missing, or its tokenizer cannot be loaded.
        DataError, TemplateError: a record cannot be learned.
    """
    tokenizer = source_tokenizer(resolve_model(model))
    if report.texts:
        pieces = TextPieces(tokenizer, sys.maxsize)
        return list(token_rows([tree for text in report.texts for tree in pieces.trees("", text)]))
    template = ChatTemplate(tokenizer)
    return list(token_rows(trees_of(report.records, ExtractiveQa(template, prompt), Chat(template).trees)))
