"""Refuses instructions that copy from the data, so that a prompt cannot hold the answers that it is measured on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple

from palmette.corpus.words import ngrams, words_of
from palmette.data.records import DataSet, Question
from palmette.tasks.qa_prompt import QaPrompt

NUM_WORDS = 6
_SHORTEST_QUESTION = 3  # words of a question that counts as a whole
_SHORTEST_NUMBER = 4  # characters of an answer in one word, with a digit


class ItemGuard:
    """Finds what an instruction has in common with the data.

    A run of six words that stands in a document or a question is a copy, and so is a whole question of three words or
    more. Of the questions that the teacher was shown, an answer is a copy too, if it has two words or more, or four
    characters with a digit. What the base prompt says itself is no copy. Letter case and punctuation do not count.

    Args:
        sources: all data of the search, those of the last check among them.
        base: the prompt that the search began with.
    """

    def __init__(self, sources: Iterable[DataSet], base: QaPrompt) -> None:
        self._allowed = _padded(" ".join(text for text in astuple(base) if isinstance(text, str)))
        self._runs: set[str] = set()
        self._short: set[str] = set()
        for source in sources:
            for document in source.documents:
                self._runs.update(ngrams(words_of(document.text), NUM_WORDS))
                for question in document.questions:
                    words = words_of(question.text)
                    self._runs.update(ngrams(words, NUM_WORDS))
                    if _SHORTEST_QUESTION <= len(words) < NUM_WORDS:
                        self._short.add(" ".join(words))

    def copied(self, instruction: str, shown: Sequence[Question]) -> str:
        """The words that an instruction copies, "" if it copies none.

        Args:
            instruction: the instruction.
            shown: the questions that its writer was shown.
        """
        return next((words for words in self._copies(instruction, shown) if f" {words} " not in self._allowed), "")

    def _copies(self, instruction: str, shown: Sequence[Question]) -> Iterator[str]:
        words = words_of(instruction)
        yield from (run for run in ngrams(words, NUM_WORDS) if run in self._runs)
        for size in range(_SHORTEST_QUESTION, NUM_WORDS):
            yield from (run for run in ngrams(words, size) if run in self._short)
        text = _padded(instruction)
        for answer in (" ".join(words_of(one.text)) for question in shown for one in question.answers):
            number = any(character.isdigit() for character in answer) and len(answer) >= _SHORTEST_NUMBER
            if (" " in answer or number) and f" {answer} " in text:
                yield answer


def _padded(text: str) -> str:
    return f" {' '.join(words_of(text))} "
