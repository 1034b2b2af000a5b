"""Items as token sequences. A context with its choice is encoded whole, as lm-eval and lighteval do it.

Both count the tokens of the context alone, and score the tokens of the whole from there on. Where a tokenizer joins the
end of the context and the beginning of the choice into one token, that is not where the choice begins. The numbers are
theirs all the same, and such items are counted.

A sequence that the model cannot read whole loses its beginning. Its last token is predicted and never read, so the rest
is one token longer than the model's context, as both have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from palmette.choice.items import ChoiceItem
from palmette.choice.settings import Rule
from palmette.errors import DataError

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Scored:
    """A token sequence, and where the part that is scored begins.

    Attributes:
        tokens: the tokens.
        start: the index of the first scored token, at least 1.
    """

    tokens: Tokens
    start: int


@dataclass(frozen=True, slots=True)
class EncodedItem:
    """The choices of an item as token sequences.

    Attributes:
        id: the name of the item.
        choices: the sequence of each choice.
        alone: each choice without its context, if mutual information is measured.
        merged: whether a token holds the end of the context and the beginning of a choice.
        cut: whether the beginning of a context was cut off, since the model reads no more.
        subject: its subject. Items of a subject may begin with the same examples.
    """

    id: str
    choices: tuple[Scored, ...]
    alone: tuple[Scored, ...] = ()
    merged: bool = False
    cut: bool = False
    subject: str = ""


class ItemEncoder:
    """Encodes items for one tokenizer.

    Args:
        tokenizer: a Hugging Face tokenizer.
        rule: "lighteval-cloze" scores the last token where a choice has none of its own. "lm-eval" refuses such items.
        max_tokens: how many tokens the model reads. Sequences that are more than one token longer lose their beginning.
            None if there is no limit.
        mutual: whether choices are also encoded without their contexts.
    """

    def __init__(self, tokenizer: Any, rule: Rule, *, max_tokens: int | None = None, mutual: bool = False) -> None:
        self._tokenizer, self._rule, self._max, self._mutual = tokenizer, rule, max_tokens, mutual
        prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        self._prefix: int | None = prefix
        # A text that begins with the prefix already gets no second one.
        self._begins = tokenizer.decode([prefix]) if prefix is not None else ""

    def encode(self, items: Sequence[ChoiceItem]) -> list[EncodedItem]:
        """Items as token sequences.

        Raises:
            DataError: a choice has no token of its own, or is longer than the model reads.
        """
        pairs = [
            _moved(context, continuation)
            for item in items
            for context, continuation in zip(item.contexts, item.continuations, strict=True)
        ]
        tokens_of = self._encode_texts(text for context, rest in pairs for text in (context, context + rest))
        found, at = [], 0
        for item in items:
            own = pairs[at : at + len(item.contexts)]
            at += len(item.contexts)
            splits = [(tokens_of[context], tokens_of[context + rest]) for context, rest in own if context]
            merged = any(whole[: len(context)] != context for context, whole in splits)
            choices = tuple(
                self._split(tokens_of[context], tokens_of[context + rest], item) if context else self._alone(rest, item)
                for context, rest in own
            )
            limited = tuple(self._limited(choice, item) for choice in choices)
            alone = tuple(self._alone(text, item) for text in item.continuations) if self._mutual else ()
            cut = limited != choices
            found.append(EncodedItem(item.id, limited, alone, merged, cut, item.subject))
        return found

    def _encode_texts(self, texts: Iterable[str]) -> dict[str, Tokens]:
        """The tokens of each text, with the tokenizer's own special tokens around them unless it begins with one."""
        distinct = list(dict.fromkeys(texts))
        begun = [bool(self._begins) and text.startswith(self._begins) for text in distinct]
        tokens_of: dict[str, Tokens] = {}
        for special in (False, True):
            chosen = [text for text, has in zip(distinct, begun, strict=True) if has is not special]
            if chosen:
                encoded = self._tokenizer(chosen, add_special_tokens=special)["input_ids"]
                tokens_of |= {text: tuple(ids) for text, ids in zip(chosen, encoded, strict=True)}
        return tokens_of

    def _split(self, context: Tokens, whole: Tokens, item: ChoiceItem) -> Scored:
        start = len(context)
        if self._rule == "lighteval-cloze" and start == len(whole):
            start -= 1
        if not 0 < start < len(whole):
            raise DataError(
                f"item {item.id!r} has a choice without a token of its own", "Leave the item out, or correct it."
            )
        # lighteval keeps the tokens of the whole. lm-eval puts the context's own tokens before those that it scores.
        return Scored(whole if self._rule == "lighteval-cloze" else context + whole[start:], start)

    def _alone(self, text: str, item: ChoiceItem) -> Scored:
        tokens = tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        if self._prefix is None or not tokens:
            raise DataError(
                f"item {item.id!r} cannot be measured without a context: the model has no token for the beginning",
                "Leave --mutual-info out, and items with an empty context.",
            )
        return Scored(tokens if tokens[0] == self._prefix else (self._prefix, *tokens), 1)

    def _limited(self, choice: Scored, item: ChoiceItem) -> Scored:
        """A choice without the beginning that the model cannot read."""
        extra = 0 if self._max is None else len(choice.tokens) - (self._max + 1)
        if extra <= 0:
            return choice
        if choice.start - extra < 1:
            raise DataError(
                f"item {item.id!r} has a choice of {len(choice.tokens) - choice.start} tokens, "
                f"and the model reads {self._max}",
                "Leave the item out, or take a model with a longer context.",
            )
        return Scored(choice.tokens[extra:], choice.start - extra)


def _moved(context: str, continuation: str) -> tuple[str, str]:
    """A context and a continuation, with the white space at the end of the context moved to the continuation.

    >>> _moved("The answer is ", "four")
    ('The answer is', ' four')
    """
    stripped = context.rstrip()
    return stripped, context[len(stripped) :] + continuation
