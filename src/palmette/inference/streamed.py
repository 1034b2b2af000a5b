"""The text of a completion, piece by piece, while its tokens come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from palmette.tree.segments import decode_tokens

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what the first bytes of a character decode to


class StreamedText:
    """The text of a completion. A character is given once all of its bytes are known.

    Args:
        tokenizer: decodes the tokens.
        written: called with each piece. All of them together are the text.
        stops: strings that end the text. They are not part of it, so a piece that may begin one of them waits.

    Attributes:
        tokens: the tokens so far.
        stopped: whether one of the strings has come.
    """

    def __init__(self, tokenizer: Any, written: Callable[[str], None], stops: Sequence[str] = ()) -> None:
        self._tokenizer, self._written, self._stops = tokenizer, written, tuple(stops)
        self.tokens: Sequence[int] = ()
        self.stopped = False
        self._given = ""

    def add(self, tokens: Sequence[int]) -> bool:
        """Give what the tokens so far add to the text. The result is whether the text ends here."""
        self.tokens = list(tokens)
        text = self._upto_stop(decode_tokens(self._tokenizer, self.tokens))
        if not self.stopped:
            text = text.rstrip(_UNFINISHED)
            text = text[: len(text) - self._begun(text)]
        self._give(text)
        return self.stopped

    def end(self, tokens: Sequence[int]) -> str:
        """Give the rest of the text. The result is the whole."""
        text = self._upto_stop(decode_tokens(self._tokenizer, tokens))
        self._give(text)
        return text

    def _upto_stop(self, text: str) -> str:
        places = [place for place in (text.find(stop) for stop in self._stops) if place >= 0]
        self.stopped = self.stopped or bool(places)
        return text[: min(places)] if places else text

    def _begun(self, text: str) -> int:
        """How many characters at the end of a text may be the beginning of a string that ends it."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        lengths = range(min(longest, len(text)), 0, -1)
        return next((n for n in lengths if any(stop.startswith(text[-n:]) for stop in self._stops)), 0)

    def _give(self, text: str) -> None:
        if text.startswith(self._given) and len(text) > len(self._given):
            piece, self._given = text[len(self._given) :], text  # first, since an interrupt may come while it is given
            self._written(piece)
