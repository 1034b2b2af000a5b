"""Texts with blanks: which words may change, and which tokens they may become.

A blank takes one whole word. The tokens that are allowed there are words: they consist of letters and digits, and the
tokenizer reads the word back as this one token in its place. So special tokens, punctuation, and pieces that make no
word by themselves (such as ##ing) are forbidden. Whether a word stands in a dictionary is not asked.

RoBERTa's kind of tokenizer has two tokens for most words: one for the word behind a space, and one for it at the
beginning of a text or behind a bracket. So what is allowed depends on the sign before the word.
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


def allowed_words(model: MaskedModel, before: str = " ") -> torch.Tensor:
    """Which tokens of the vocabulary (V,) are words, in the sense of this module.

    Args:
        model: the model.
        before: the sign that stands before the word. "" at the beginning of a text.
    """
    if before not in model.words:
        model.words[before] = _find_words(model, before)
    return model.words[before]


def _find_words(model: MaskedModel, before: str) -> torch.Tensor:
    size = model.model.config.vocab_size
    allowed_V = torch.zeros(size, dtype=torch.bool)
    ids = [token for token in range(min(size, len(model.tokenizer))) if token not in model.tokenizer.all_special_ids]
    named = [(token, word) for token, word in zip(ids, words_of(model, ids), strict=True) if _ALLOWED.fullmatch(word)]
    words = [word for _, word in named]
    read = _single_tokens(model, before, words)
    # A piece such as "ing" is one token at the beginning of a text. It is a word if it is one behind a space too.
    whole = read if before == " " else _single_tokens(model, " ", words)
    for (token, _), here, spaced in zip(named, read, whole, strict=True):
        allowed_V[token] = here == token and spaced is not None
    return allowed_V


def _single_tokens(model: MaskedModel, before: str, words: Sequence[str]) -> list[int | None]:
    """The token of each word behind a sign. None for a word that is written in several."""
    read = model.tokenizer([before + word for word in words], add_special_tokens=False)["input_ids"]
    # A space belongs to the word. One that is a token of its own means that the word has several.
    prefix = [] if before in ("", " ") else model.content(before)
    return [tokens[-1] if tokens and tokens[:-1] in ([], prefix) else None for tokens in read]


def _allowed_at(model: MaskedModel, text: str, start: int) -> torch.Tensor:
    """Which tokens (V,) may stand in a text from a place on."""
    return allowed_words(model, text[start - 1 : start] if start else "")


def _of_blanks(model: MaskedModel, text: str) -> Blanks:
    """Read a text with blanks. A word in each of them shows how the tokenizer reads the text around."""
    filled, spans = "", []
    parts = _BLANK.split(text)
    for part in parts[:-1]:
        filled += part
        (word,) = words_of(model, [_first(_allowed_at(model, filled, len(filled)), model)])
        spans.append((len(filled), len(filled) + len(word)))
        filled += word
    filled += parts[-1]
    tokens, column_of = _placed(model, filled, text)
    allowed_FV = torch.stack([_allowed_at(model, filled, start) for start, _ in spans])
    free = []
    for span, allowed_V in zip(spans, allowed_FV, strict=True):
        column = column_of.get(span)
        if column is None or not allowed_V[tokens[column]]:
            raise DataError(
                f"{model.name} reads a word and the sign beside it as one in {text!r}", "Put a space beside each blank."
            )
        free.append(column)
        tokens[column] = model.mask
    return Blanks(_space(model, tokens, free, allowed_FV), tuple(parts), None, (), ())


def _first(allowed_V: torch.Tensor, model: MaskedModel) -> int:
    """A token that is allowed.

    Raises:
        DataError: there is none.
    """
    if not allowed_V.any():
        raise DataError(f"{model.name} has no word for a blank", "Use another model.")
    return int(allowed_V.int().argmax())


def _of_words(model: MaskedModel, text: str, keep: Sequence[str]) -> Blanks:
    tokens, column_of = _placed(model, text, text)
    staying = {word.casefold() for word in keep}
    unmet = set(staying)
    free, spans, kept = [], [], []
    for found in _WORD.finditer(text):
        word = found[0].casefold()
        if word in staying:
            unmet.discard(word)
            continue
        column = column_of.get(found.span())
        if column is None or not _allowed_at(model, text, found.start())[tokens[column]]:
            kept.append(found[0])
            continue
        free.append(column)
        spans.append(found.span())
    if unmet:
        raise DataError(f"the text has no word {sorted(unmet)[0]!r} to keep", f"It is {text!r}.")
    if not free:
        raise DataError(f"no word of {text!r} may change", "Put a blank, ____, where a word may stand.")
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    parts = tuple(text[edges[index] : edges[index + 1]] for index in range(0, len(edges), 2))
    start_F = torch.tensor([tokens[column] for column in free])
    allowed_FV = torch.stack([_allowed_at(model, text, start) for start, _ in spans])
    return Blanks(
        _space(model, tokens, free, allowed_FV),
        parts,
        start_F,
        tuple(text[slice(*span)] for span in spans),
        tuple(kept),
    )


def _space(model: MaskedModel, tokens: Sequence[int], free: Sequence[int], allowed_FV: torch.Tensor) -> Space:
    """The texts that differ at the free tokens. Energies count all tokens but the special ones around the text."""
    row = model.row(tokens)
    behind_cls = tuple(index + 1 for index in free)
    return Space(tuple(row), behind_cls, tuple(range(1, len(row) - 1)), allowed_FV)


def _placed(model: MaskedModel, text: str, given: str) -> tuple[list[int], dict[tuple[int, int], int]]:
    """The tokens of a text, and which of them stands at each place (start and end, without white space).

    Args:
        model: the model.
        text: the text.
        given: the text as the user gave it, for the message.

    Raises:
        DataError: the model has no token for a part of it.
    """
    encoded = model.tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
    )
    tokens = list(encoded["input_ids"])
    if model.tokenizer.unk_token_id is not None and model.tokenizer.unk_token_id in tokens:
        raise DataError(f"{model.name} has no token for a part of {given!r}", "Write it in letters that it knows.")
    return tokens, {_trimmed(text, *place): index for index, place in enumerate(encoded["offset_mapping"])}


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """A place without white space at its ends."""
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
