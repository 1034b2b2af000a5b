"""Texts indexed by their words, for scores by BM25 (the variant of Lucene, by the package bm25s)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class WordIndex:
    """An index of texts.

    Args:
        texts: the words of each text, as they are to be compared.
    """

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        from bm25s import BM25  # its import takes a fifth of a second

        self._num_texts = len(texts)
        self._vocabulary: dict[str, int] = {}
        numbered = [[self._vocabulary.setdefault(word, len(self._vocabulary)) for word in words] for words in texts]
        self._index: Any = None
        if self._vocabulary:
            self._index = BM25()
            self._index.index((numbered, dict(self._vocabulary)), show_progress=False)  # it adds to the dict

    def scores(self, words: Sequence[str]) -> np.ndarray:
        """The BM25 score of each text for the words of a question. 0 where it has none of them."""
        known = [word for word in words if word in self._vocabulary]
        if not known:
            return np.zeros(self._num_texts)
        return np.asarray(self._index.get_scores(known), dtype=np.float64)
