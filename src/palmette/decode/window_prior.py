"""Where in a long document the answer to a question probably stands, judged by words alone, before anything is read.

A window is as good as its best passage. Passages of 60 words are scored by BM25 (Robertson and Zaragoza 2009, "The
Probabilistic Relevance Framework"; the variant of Lucene, by the package bm25s). By its derivation the score of BM25 is
proportional to a log-likelihood ratio: how much likelier the passage's words are if it is relevant. So, where each
window is as likely as the others before its words are seen, Bayes' rule gives

    P(the answer stands in window i | it stands in the document) is proportional to exp(SHARPNESS * score_i)

A small part of the probability is spread evenly, for questions that share no word with their answer. How sharp the
prior should be depends on how people ask. On joined Wikipedia articles (SQuAD v2, SQuADShifts, TyDi QA) a sharpness of
1.9 to 2.0 fits best on each of them, and on contracts (CUAD), whose clauses have other words than the questions, 1.0
does. The value here lies between them: on Wikipedia the prior is too cautious, and on contracts a little too sure
(docs/log.md).

Words are compared by their first five letters, in lower case, as a stem for any language with endings. English words
that say nothing about the topic, such as "what", are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palmette.data.word_index import WordIndex
from palmette.decode.spans import Window, Word, words

PASSAGE_WORDS = 60
SHARPNESS = 1.5
EVEN_SHARE = 0.05  # of the probability, spread over all windows
_STEM = 5  # letters
_EMPTY = frozenset(
    """
    a an and are as at be been being by can could did do does for from had has have how if in into is it its many
    may much no not of on or shall should than that the their them then there these they this those to was were
    what when where which while who whom whose why will with would you your
    """.split()  # noqa: SIM905 (a list of them would be one word a line)
)


class WindowPrior:
    """How probably each window of a document holds the answer to a question, for any question.

    Args:
        text: the document.
        windows: its windows, in order.
    """

    def __init__(self, text: str, windows: Sequence[Window]) -> None:
        self._num_windows = len(windows)
        bounds = [word for window in windows for word in window.words]
        terms = [_term(text, word) for word in bounds]
        size = max(2, min(PASSAGE_WORDS, len(bounds) // len(windows)))  # no longer than a window
        firsts = list(range(0, max(1, len(bounds) - size // 2), size // 2))
        self._index = WordIndex([[term for term in terms[first : first + size] if term] for first in firsts])
        # A passage counts for every window that one of its words belongs to.
        belongs = np.repeat(np.arange(len(windows)), [len(window.words) for window in windows])
        reach = [(belongs[first], belongs[min(first + size, len(bounds)) - 1]) for first in firsts]
        self._passage = np.repeat(np.arange(len(firsts)), [int(b) - int(a) + 1 for a, b in reach])
        self._window = np.concatenate([np.arange(a, b + 1) for a, b in reach])

    def scores(self, question: str) -> np.ndarray:
        """The BM25 score of the best passage of each window. 0 where it shares no word with the question."""
        best = np.zeros(self._num_windows)
        passages = self._index.scores([_term(question, word) for word in words(question)])
        np.maximum.at(best, self._window, passages[self._passage])
        return best

    def of(self, question: str) -> np.ndarray:
        """The probability of each window that it holds the answer, if the document holds one. They sum to 1."""
        score = SHARPNESS * self.scores(question)
        likelihood = np.exp(score - score.max())
        return np.asarray((1.0 - EVEN_SHARE) * likelihood / likelihood.sum() + EVEN_SHARE / self._num_windows)


def likeliest_first(prior: np.ndarray) -> list[int]:
    """The windows in the order of their probability, the earlier first where they are equal.

    >>> likeliest_first(np.array([0.2, 0.6, 0.2]))
    [1, 0, 2]
    """
    return [int(index) for index in np.argsort(-prior, kind="stable")]


def _term(text: str, word: Word) -> str:
    """The stem of a word, or "" if it says nothing about the topic."""
    term = text[word[0] : word[-1]].casefold()
    if term in _EMPTY or (not term.isalnum() and len(term) == 1):
        return ""
    return term[:_STEM] if term.isalpha() else term
