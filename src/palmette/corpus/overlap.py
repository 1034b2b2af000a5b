"""Drops texts that hold a part of an evaluation set, by runs of words that both have.

With 13 words this is the rule of GPT-3 (Brown et al., 2020, appendix C), but a text is dropped as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from palmette.corpus.cleaning import Dropped
from palmette.corpus.rows import ROWS, rows_of_file
from palmette.corpus.sources import open_source
from palmette.corpus.texts import Text
from palmette.corpus.words import ngrams, words_of
from palmette.data.compressed import inner_name
from palmette.data.json_files import is_squad
from palmette.data.source import read_source
from palmette.data.text import short
from palmette.errors import DataError
from palmette.files import expand

# A text of an evaluation set with fewer words than a run counts as a whole, if it has so many.
SHORTEST = 8


class EvaluationSets:
    """Drops texts that share a run of words with evaluation sets.

    Args:
        names: evaluation sets: questions about documents, any rows of which every text counts, or texts.
        num_words: how many words such a run has. A text of an evaluation set with fewer, but with 8 or more, counts as
            a whole.

    Raises:
        DataError: a set cannot be read, or holds no text that is long enough.
    """

    def __init__(self, names: Sequence[str], num_words: int) -> None:
        self._grams: dict[int, dict[str, str]] = {}
        for name in names:
            least, held = min(SHORTEST, num_words), False
            for text in evaluation_texts(name):
                words = words_of(text)
                size = min(num_words, len(words))
                if size >= least:
                    held = True
                    self._grams.setdefault(size, {}).update(dict.fromkeys(ngrams(words, size), name))
            if not held:
                raise DataError(f"{name} holds no text of {least} words to compare with", "Take it out of `against`.")

    def __call__(self, text: Text) -> Text | Dropped:
        """The text, or the run of words that it shares, and with which set."""
        words = words_of(text.text)
        for size, known in self._grams.items():
            for gram in ngrams(words, size):
                if gram in known:
                    return Dropped("in an evaluation set", f"shares {short(gram)} with {known[gram]}")
        return text


def evaluation_texts(name: str) -> Iterator[str]:
    """The texts of an evaluation set: documents and questions, or every text in its rows.

    Raises:
        DataError: it cannot be read.
    """
    path = expand(name)
    if name.startswith("builtin:") or (path.suffix.lower() == ".json" and path.is_file() and is_squad(path)):
        for document in read_source(name).documents:
            yield document.text
            yield from (question.text for question in document.questions)
    elif path.is_file() and inner_name(path).suffix.lower() in ROWS:
        for _, row in rows_of_file(Path(path)):
            if isinstance(row, DataError):
                raise row
            yield from _texts_in(row)
    else:
        yield from (text.text for text in open_source(name).open() if isinstance(text, Text))


def _texts_in(value: Any) -> Iterator[str]:
    """Every text in a value of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts_in(item)
