"""How far the span decoder looks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Effort:
    """How far the span decoder looks.

    Attributes:
        max_words: the longest span, in words. Punctuation marks count.
        max_passes: the number of forward passes after which it stops without a proof. With None it takes as many as the
            proof needs, and keeps room for all spans of a window. That suits short documents, or a large
            `tokens_per_batch`.
        tokens_per_pass: the most branch tokens that one question may add in a pass. With None it adds all there are, so
            that every span is scored.
        window_tokens: about how many tokens of a document are read at a time.
        overlap_tokens: about how many of them neighbouring windows share.
        tokens_per_batch: the most tokens of a prefix tree held in memory. They need their keys and values, and a mask
            of the square of that number in bytes.
        inside_words: whether spans may end after every character of a word, as in compounds. It makes the trie about
            four times as large.

    Raises:
        ValueError: `max_words`, `max_passes`, `tokens_per_pass` or `window_tokens` is below 1.
    """

    max_words: int = 30
    max_passes: int | None = 4
    tokens_per_pass: int | None = 16
    window_tokens: int = 1024
    overlap_tokens: int = 256
    tokens_per_batch: int = 8192
    inside_words: bool = False

    def __post_init__(self) -> None:
        for name, least in (("max_words", 1), ("max_passes", 1), ("tokens_per_pass", 1), ("window_tokens", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}, below {least}")
