"""Unanswerable questions by rule: answerable ones, altered so that their document no longer answers them.

Unanswerable questions of SQuAD v2 were written to mislead: an entity or a number is exchanged, a word turned into its
opposite, a negation put in (Rajpurkar et al. 2018, table 1). The same is done here by rule:

- "number": a number of the question that stands in the document is exchanged for one of the same form that stands in a
  sibling, and not in the document.
- "name": the same for a run of capitalised words.
- "opposite": a word is exchanged for its opposite, if the document holds the word and not the opposite.
- "negation": "not" is put after the verb of "What is", "Who can" and the like.

Rules know no meaning, so some altered questions keep an answer, and some are no good English. Of 50 that were read by
hand, these were two and about twelve (docs/results/reader.md).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import regex

from palmette.data.negatives import siblings as siblings_of
from palmette.data.negatives import with_siblings_questions
from palmette.data.records import Document, Question

Rule = Literal["number", "name", "opposite", "negation"]
RULES: tuple[Rule, ...] = ("number", "name", "opposite", "negation")

_PAIRS = """
    first last|most least|more less|largest smallest|highest lowest|oldest newest|before after|earliest latest
    best worst|north south|east west|northern southern|eastern western|increase decrease|increased decreased
    rise fall|rose fell|began ended|begin end|start finish|started finished|won lost|win lose|gained lost
    accepted rejected|accept reject|allowed forbidden|allow forbid|above below|inside outside|early late|high low
    large small|long short|major minor|old new|older younger|majority minority|maximum minimum|public private
    internal external|male female|men women|father mother|son daughter|brother sister|husband wife|positive negative
    supported opposed|support oppose|success failure|successful unsuccessful|strong weak|fast slow|greater smaller
    higher lower|up down|heavy light|rich poor|hot cold|summer winter|life death|born killed|arrived left|ally enemy
    allies enemies|common rare|legal illegal|upper lower|urban rural|modern ancient|future past|create destroy
    created destroyed|build demolish|built demolished|joined left|open closed|opened closed|buy sell|bought sold
    friend enemy|always never|same different|likely unlikely
"""
_OPPOSITES = {
    word: other
    for pair in regex.split(r"[|\n]", _PAIRS)
    if len(words := pair.split()) == 2
    for word, other in (words, words[::-1])
}
_NUMBER = regex.compile(r"(?<![\p{L}\p{N}.,])\d[\d,.]*\d|(?<![\p{L}\p{N}.,])\d(?![\p{L}\p{N}])")
# Capitalised words, also joined by "of" and the like. The first word of a sentence says nothing, so it is left out.
_NAME = regex.compile(
    r"(?<=[\p{Ll}\p{N},;:]\s)\p{Lu}[\p{L}\p{M}\p{N}-]*(?:\s(?:(?:of|the|de|van|von)\s)*\p{Lu}[\p{L}\p{M}\p{N}-]*)*"
)
_NEGATABLE = regex.compile(
    r"(?i)\b(?:who|what|which|why|(?:how many|what|which) \p{L}+)"
    r"\s(?:is|are|was|were|can|could|should|would|will|may|must|has|have|had)\b"
    r"(?!\s(?:not|the|a|an|this|that|his|her|its|their|it|he|she|they|there)\b)"
)
_WORD = regex.compile(r"\p{L}+")


def with_negatives(documents: Iterable[Document], *, siblings: int, altered: int, seed: int = 0) -> list[Document]:
    """Documents with unanswerable questions added: those of their siblings, then altered versions of their own.

    Args:
        documents: the documents.
        siblings: the most to add to a document from its siblings, see `with_siblings_questions`.
        altered: the most to add that are altered, see `with_altered_questions`.
        seed: of the choices that altering makes.
    """
    if siblings:
        documents = with_siblings_questions(documents, siblings)
    if altered:
        documents = with_altered_questions(documents, altered, seed)
    return list(documents)


def added_kind(name: str) -> str:
    """What a question was made by: a rule, or "sibling".

    Args:
        name: the id of a question that `with_negatives` added.

    >>> added_kind("q7@Ferry/1"), added_kind("q7~number")
    ('sibling', 'number')
    """
    rule = name.rpartition("~")[2]
    return rule if rule in RULES and name.endswith(f"~{rule}") else "sibling"


def with_altered_questions(documents: Iterable[Document], most: int, seed: int = 0) -> Iterator[Document]:
    """Documents with altered versions of their own questions added as unanswerable ones, at the end.

    Args:
        documents: the documents. Siblings are looked for in blocks, see `negatives.siblings`.
        most: the most questions to add to a document. Fewer are added where no rule applies.
        seed: of the choice among questions, rules and replacements.

    Yields:
        The documents in their order. An added question has the id `ID~RULE`, with the id of the question it was.
    """
    for document, others in siblings_of(documents):
        rng = random.Random(f"{seed} {document.id}")
        pool = _Pool(document, others)
        answerable = [question for question in document.questions if question.answers]
        added: list[Question] = []
        for question in rng.sample(answerable, len(answerable)):
            if len(added) < most and (altered := alter(question.text, document.text, pool, rng)):
                rule, text = altered
                added.append(Question(f"{question.id}~{rule}", text))
        yield replace(document, questions=(*document.questions, *added))


def alter(question: str, text: str, pool: Mapping[Form, Sequence[str]], rng: random.Random) -> tuple[Rule, str] | None:
    """A question altered by one of the rules that apply to it, each as likely as the others. None if none applies.

    Args:
        question: the question.
        text: its document.
        pool: numbers and names of other documents by their form. None of them stands in `text`.
        rng: chooses.
    """
    ways: dict[Rule, list[str]] = defaultdict(list)
    for kind, pattern in _EXCHANGED.items():
        for match in pattern.finditer(question):
            if match[0] in text:
                others = pool.get(_form(kind, match), ())
                if others:
                    ways[kind].append(_exchanged(question, match, rng.choice(others)))
    known = {word.casefold() for word in _WORD.findall(text)}
    for match in _WORD.finditer(question):
        other = _OPPOSITES.get(match[0])
        if other and match[0] in known and other not in known:
            ways["opposite"].append(_exchanged(question, match, other))
    if match := _NEGATABLE.match(question):
        ways["negation"].append(f"{question[: match.end()]} not{question[match.end() :]}")
    if not ways:
        return None
    rule = rng.choice(sorted(ways))
    return rule, rng.choice(ways[rule])


# Kind of replacement, the word before it, and the number of its words, or the shape of its digits.
Form = tuple[str, str, str]
_EXCHANGED: dict[Rule, regex.Pattern[str]] = {"number": _NUMBER, "name": _NAME}


class _Pool(dict[Form, list[str]]):
    """The numbers and names of other documents that do not stand in this one, by their form."""

    def __init__(self, document: Document, others: Sequence[Document]) -> None:
        super().__init__()
        found: dict[Form, dict[str, None]] = defaultdict(dict)  # in their order, each once
        for other in others:
            for kind, pattern in _EXCHANGED.items():
                for match in pattern.finditer(other.text):
                    if match[0] not in document.text:
                        found[_form(kind, match)][match[0]] = None
        self.update((form, list(values)) for form, values in found.items())


def _form(kind: Rule, match: regex.Match[str]) -> Form:
    before = _WORD.findall(match.string[max(0, match.start() - 12) : match.start()])
    shape = regex.sub(r"\d", "0", match[0]) if kind == "number" else str(len(match[0].split()))
    return kind, before[-1].casefold() if before else "", shape


def _exchanged(question: str, match: regex.Match[str], other: str) -> str:
    return question[: match.start()] + other + question[match.end() :]
