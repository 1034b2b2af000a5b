"""Unanswerable questions that nobody has to write: a document is asked what its siblings answer.

A question about another paragraph of the same article has the topic and the words of this paragraph, which does not
answer it. Those that share the most words with it, by BM25, mislead the most, so they are taken.

A sibling may answer such a question all the same. So it is asked only where the text lacks a word of every accepted
answer. That is no proof. Of 20 that were read by hand, one was doubtful (docs/results/reader.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import regex

from palmette.data.records import Document, Question
from palmette.data.word_index import WordIndex

BLOCK = 256  # documents among which siblings are looked for, which bounds the memory
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")


def with_siblings_questions(documents: Iterable[Document], most: int) -> Iterator[Document]:
    """Documents with questions of their siblings added as unanswerable ones, at the end.

    Siblings are as in `siblings`. Questions that are unanswerable themselves are not taken, since nothing can
    be checked for them.

    Args:
        documents: the documents.
        most: the most questions to add to a document. Fewer are added where fewer are found. A question is asked about
            one sibling only.

    Yields:
        The documents in their order. An added question has the id `ID@DOCUMENT`, with the question's own id.
    """
    for block in _blocks(documents):
        added: dict[int, list[Question]] = {}
        for indices in _groups(block):
            found = _assign([block[index] for index in indices], most)
            added.update(zip(indices, found, strict=True))
        for index, document in enumerate(block):
            yield replace(document, questions=(*document.questions, *added[index]))


def siblings(documents: Iterable[Document]) -> Iterator[tuple[Document, list[Document]]]:
    """Each document with its siblings, in their order.

    Siblings are the other documents of the same title within a block of `BLOCK` documents. Documents that are the only
    ones of their titles are siblings of each other.
    """
    for block in _blocks(documents):
        others: dict[int, list[Document]] = {}
        for indices in _groups(block):
            others.update((index, [block[other] for other in indices if other != index]) for index in indices)
        for index, document in enumerate(block):
            yield document, others[index]


def _blocks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    reader = iter(documents)
    while block := list(islice(reader, BLOCK)):
        yield block


def _groups(block: Sequence[Document]) -> list[list[int]]:
    by_title = defaultdict(list)
    for index, document in enumerate(block):
        by_title[document.title].append(index)
    alone = [indices[0] for indices in by_title.values() if len(indices) == 1]
    return [indices for indices in by_title.values() if len(indices) > 1] + [alone]


def _assign(documents: Sequence[Document], most: int) -> list[list[Question]]:
    """For each document, the questions of the others that share the most words with it."""
    added: list[list[Question]] = [[] for _ in documents]
    if len(documents) < 2:
        return added
    folded = [_fold(document.text) for document in documents]
    known = [frozenset(words) for words in folded]
    index = WordIndex(folded)
    pairs: list[tuple[float, str, int, Question]] = []
    for owner, document in enumerate(documents):
        for question in document.questions:
            if question.answers:
                scores = index.scores(_fold(question.text)).tolist()
                pairs += [
                    (-score, question.id, other, question)
                    for other, score in enumerate(scores)
                    if score > 0 and other != owner and not _may_answer(known[other], question)
                ]
    taken: set[str] = set()
    for _, name, other, question in sorted(pairs, key=lambda pair: pair[:3]):
        if name not in taken and len(added[other]) < most:
            taken.add(name)
            added[other].append(Question(f"{name}@{documents[other].id}", question.text))
    return added


def _may_answer(known: frozenset[str], question: Question) -> bool:
    """Whether a text of known words holds all words of an accepted answer."""
    return any(known.issuperset(words) for answer in question.answers if (words := _fold(answer.text)))


def _fold(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]
