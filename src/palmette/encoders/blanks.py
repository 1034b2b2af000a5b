"""Texts with blanks: which words may change, and which tokens they may become.

A blank takes one whole word. The tokens that are allowed there are words: they consist of letters and digits, and the
tokenizer reads the word alone back as this one token. So special tokens, punctuation, and pieces that make no word by
themselves (such as ##ing) are forbidden. Whether a word stands in a dictionary is not asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from palmette.encoders.chain import Space
from palmette.encoders.masked import MaskedModel
from palmette.errors import DataError

_BLANK = re.compile(r"_{2,}")
_GLUED = re.compile(r"[^\W_]_{2,}|_{2,}[^\W_]")
_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")
_ALLOWED = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Blanks:
    """A text with words that may change.

    Attributes:
        space: the texts that are allowed, as rows of tokens.
        parts: the text before the first word that may change, between each two of them, and after the last one.
        start_F: the tokens of the words that the text has at first. None if it has blanks.
        words: these words as the text has them. None of them if it has blanks.
        kept: whole words that stay because the tokenizer writes them in several pieces.
    """

    space: Space
    parts: tuple[str, ...]
    start_F: torch.Tensor | None
    words: tuple[str, ...]
    kept: tuple[str, ...]

    def text(self, words: Sequence[str]) -> str:
        """The text with some words in place of those that may change."""
        return "".join([part + word for part, word in zip(self.parts, (*words, ""), strict=True)])


def read_blanks(model: MaskedModel, text: str, keep: Sequence[str] = ()) -> Blanks:
    """Read a text. Its blanks (two or more underscores) may change. Of a text without blanks, every word may.

    Args:
        model: the model that is to fill it.
        text: the text.
        keep: words that stay, in a text without blanks. Case does not matter.

    Raises:
        DataError: a word to keep is not there, a blank is part of a word, no word may change, or the model has no token
            for a part of the text.
        ModelError: the text is too long.
    """
    if not text.strip():
        raise DataError("the text is empty", 'Give a text with blanks, such as "The ____ is ____."')
    if _BLANK.search(text):
        if keep:
            raise DataError(
                "a text with blanks keeps all its words, and words to keep were given too", "Give one or the other."
            )
        if glued := _GLUED.search(text):
            raise DataError(f"{glued[0]!r} is a blank in a word", "A blank takes a whole word. Put a space beside it.")
        return _of_blanks(model, text)
    return _of_words(model, text, keep)


def words_of(model: MaskedModel, tokens: Sequence[int]) -> list[str]:
    """Single tokens as words."""
    return [str(model.tokenizer.decode([token])).strip() for token in tokens]


def allowed_words(model: MaskedModel) -> torch.Tensor:
    """Which tokens of the vocabulary (V,) are words, in the sense of this module."""
    size = model.model.config.vocab_size
    allowed_V = torch.zeros(size, dtype=torch.bool)
    ids = [token for token in range(min(size, len(model.tokenizer))) if token not in model.tokenizer.all_special_ids]
    named = [(token, word) for token, word in zip(ids, words_of(model, ids), strict=True) if _ALLOWED.fullmatch(word)]
    read = model.tokenizer([f" {word}" for _, word in named], add_special_tokens=False)["input_ids"]
    allowed_V[[token for (token, _), back in zip(named, read, strict=True) if back == [token]]] = True
    return allowed_V


def _of_blanks(model: MaskedModel, text: str) -> Blanks:
    parts = _BLANK.split(text)
    tokens: list[int] = []
    free = []
    for index, part in enumerate(parts):
        # The blank before a word belongs to the word's own token, where tokens have one.
        tokens += _known(model, part.rstrip() if index < len(parts) - 1 else part)
        if index < len(parts) - 1:
            free.append(len(tokens) + 1)  # behind the CLS token
            tokens.append(model.mask)
    return Blanks(_space(model, tokens, free), tuple(parts), None, (), ())


def _of_words(model: MaskedModel, text: str, keep: Sequence[str]) -> Blanks:
    _known(model, text)
    encoded = model.tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
    )
    tokens, places = encoded["input_ids"], [_trimmed(text, *at) for at in encoded["offset_mapping"]]
    column_of = {place: index for index, place in enumerate(places)}
    allowed_V, staying = allowed_words(model), {word.casefold() for word in keep}
    unmet = set(staying)
    free, spans, kept = [], [], []
    for found in _WORD.finditer(text):
        word = found[0].casefold()
        if word in staying:
            unmet.discard(word)
            continue
        column = column_of.get(found.span())
        if column is None or not allowed_V[tokens[column]]:
            kept.append(found[0])
            continue
        free.append(column + 1)
        spans.append(found.span())
    if unmet:
        raise DataError(f"the text has no word {sorted(unmet)[0]!r} to keep", f"It is {text!r}.")
    if not free:
        raise DataError(f"no word of {text!r} may change", "Put a blank, ____, where a word may stand.")
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    parts = tuple(text[edges[index] : edges[index + 1]] for index in range(0, len(edges), 2))
    start_F = torch.tensor([tokens[column - 1] for column in free])
    return Blanks(
        _space(model, tokens, free, allowed_V), parts, start_F, tuple(text[slice(*span)] for span in spans), tuple(kept)
    )


def _space(
    model: MaskedModel, tokens: Sequence[int], free: Sequence[int], allowed_V: torch.Tensor | None = None
) -> Space:
    """The texts that differ at the free columns. Energies count all tokens but the special ones around the text."""
    row = model.row(tokens)
    allowed_V = allowed_words(model) if allowed_V is None else allowed_V
    return Space(tuple(row), tuple(free), tuple(range(1, len(row) - 1)), allowed_V)


def _known(model: MaskedModel, text: str) -> list[int]:
    """The tokens of a text.

    Raises:
        DataError: the model has no token for a part of it.
    """
    tokens = model.content(text)
    if model.tokenizer.unk_token_id is not None and model.tokenizer.unk_token_id in tokens:
        raise DataError(f"{model.name} has no token for a part of {text!r}", "Write it in letters that it knows.")
    return tokens


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """A place without white space at its ends."""
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
