"""The documents that `benchmarks/train.py` trains on, and those that it measures the loss on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice
from typing import Any, TypeVar

from palmette.data.records import Answer, Document, Question
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tree.chat import ChatTemplate

Documents = Sequence[Document]
PromptGroup = TypeVar("PromptGroup")


def spread(documents: Sequence[PromptGroup], num: int) -> list[PromptGroup]:
    """So many of the documents (or of what was made of them), evenly spread.

    Raises:
        SystemExit: there are fewer.
    """
    if len(documents) < num:
        way_out = "lower --documents, --steps or --repeats, or give more --data"
        raise SystemExit(f"{num} documents are needed, {len(documents)} with questions are left: {way_out}")
    return [documents[index * len(documents) // num] for index in range(num)]


def with_questions(documents: Documents, num: int, num_questions: int) -> list[Document]:
    """So many documents with exactly so many questions each; their questions get new ids, since one may occur twice.

    A document with more questions occurs several times, with others each time, but only once all documents have
    occurred; its text then begins with a number, so that it is another document, which nothing can share. Only where
    this is too little are questions asked twice.

    Raises:
        SystemExit: that is too little too.
    """
    found: list[tuple[Document, Sequence[Question]]] = []
    begin = 0
    while len(found) < num and any(len(document.questions) >= begin + num_questions for document in documents):
        end = begin + num_questions
        enough = [document for document in documents if len(document.questions) >= end]
        chosen = spread(enough, min(num - len(found), len(enough)))
        again = f"{begin // num_questions + 1}. " if begin else ""
        found += [(moved, moved.questions[begin:end]) for moved in (shifted(document, again) for document in chosen)]
        begin = end
    if len(found) < num:
        print(f"{num} x {num_questions} questions are more than there are: some are asked twice", file=sys.stderr)
        most = spread(sorted(documents, key=lambda document: -len(document.questions))[:num], num)
        found = [(document, list(islice(cycle(document.questions), num_questions))) for document in most]
    return [
        replace(document, questions=tuple(replace(q, id=f"{q.id}#{i}.{j}") for j, q in enumerate(questions)))
        for i, (document, questions) in enumerate(found)
    ]


def shifted(document: Document, before: str) -> Document:
    """The document with something before its text."""

    def shift(answers: Sequence[Answer]) -> tuple[Answer, ...]:
        return tuple(replace(answer, start=answer.start + len(before)) for answer in answers)

    questions = (replace(q, answers=shift(q.answers), plausible=shift(q.plausible)) for q in document.questions)
    return replace(document, text=before + document.text, questions=tuple(questions))


class Workload:
    """Documents with questions, a few of them held out, and the tokens that they make.

    Args:
        tokenizer: of the model.
        documents: what there is.
        num_held_out: how many are held out, evenly spread; these stay the same whatever is trained on.
    """

    def __init__(self, tokenizer: Any, documents: Documents, num_held_out: int) -> None:
        self._tokenizer = tokenizer
        self._qa = ExtractiveQa(ChatTemplate(tokenizer))
        asked = [document for document in documents if document.questions]
        self.held_out = spread(asked, num_held_out)
        apart = {document.id for document in self.held_out}
        self._documents = [document for document in asked if document.id not in apart]

    def documents(self, num: int, num_questions: int) -> list[Document]:
        """Documents to train on, evenly spread over the data: with exactly so many questions each, or with their own
        (0).
        """
        if num_questions:
            return with_questions(self._documents, num, num_questions)
        return spread(self._documents, num)

    def longest(self, documents: Documents) -> int:
        """Tokens of the longest example."""
        return max(int(self._qa.training_tree(document).num_positions) for document in documents)

    def with_length(self, document: Document, num_tokens: int) -> Document:
        """The document lengthened by others, or cut, to so many tokens; questions whose answer is cut off lose it."""
        others = "\n\n".join(other.text for other in self._documents if other.text != document.text) or document.text
        text = self._cut(document.text + "\n\n" + " ".join([others] * (1 + 20 * num_tokens // len(others))), num_tokens)
        questions = tuple(
            replace(q, answers=tuple(a for a in q.answers if a.start + len(a.text) <= len(text)), plausible=())
            for q in document.questions
        )
        return replace(document, text=text, questions=questions)

    def with_branches(self, document: Document, num_tokens: int) -> Document:
        """The document, with each question cut, or lengthened by its text, to so many tokens."""
        filler = " ".join([document.text] * (1 + 20 * num_tokens // len(document.text)))
        questions = tuple(replace(q, text=self._cut(f"{q.text} {filler}", num_tokens)) for q in document.questions)
        return replace(document, questions=questions)

    def _cut(self, text: str, num_tokens: int) -> str:
        found = self._tokenizer(text[: 20 * num_tokens], add_special_tokens=False, return_offsets_mapping=True)
        return text[: found["offset_mapping"][:num_tokens][-1][1]].rstrip()
