"""Cloze questions without a writer: spans that recur in a passage are hidden, and the one that stays is the answer.

This is Splinter's recurring span selection (Ram et al., 2021) as questions about a text: of the places of a span one
stays, the others become blanks with numbers, and a question asks which words stand at a blank. All questions of a
passage have one text, so it is the shared trunk of their tree. Splinter pretrains a span head on one vector for each
blank. Here a model reads the number of the blank in the question.

We add questions without an answer, so that what learns from them does not unlearn to refuse: a span that occurs only
once is hidden too, and then the words stand nowhere in the text.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from palmette.data.records import Answer, Document, Question
from palmette.data.text import short
from palmette.decode.spans import unreachable
from palmette.synth.recurring import Span, overlaps, recurring_spans, whole_places
from palmette.synth.spans import MOST_WORDS, find_candidates

REASONS = {
    "occurs too often": "the span has more places than the limit, so it could be guessed",
    "no room": "the passage has all the blanks that it may have",
    "also elsewhere": "for a question without an answer, but its words stand in the passage again",
    "not a span": "the place that stays is not one that the span decoder can give",
}
NOTHING = "nothing recurs"
LEFT_OUT = "all that recurs was left out"
HOLDS_BLANKS = "it holds blanks already"
PASSAGES = {
    NOTHING: "no words that say something occur twice",
    LEFT_OUT: "something recurs, but every span of it was left out for the reasons that are counted by span",
    HOLDS_BLANKS: "the passage has blanks such as ours, so it was made by this command",
}
NUM_EXAMPLES = 3
_BLANK = "[blank {number}]"
_QUESTION = "Which words stand at blank {number}?"


@dataclass(frozen=True, slots=True)
class ClozeSettings:
    """How many questions are made, and of which spans.

    Attributes:
        questions: the most questions about a passage, which are also its blanks.
        max_words: the longest span, in words as white space separates them.
        max_times: spans that occur more often in a passage are left out.
        unanswerable: the share of questions that have no answer, in passages that hold enough spans that occur once.
        seed: random seed.
    """

    questions: int = 30
    max_words: int = 10
    max_times: int = 5
    unanswerable: float = 0.2
    seed: int = 0


@dataclass
class Cloze:
    """Passages with their questions, and what was left out.

    Attributes:
        documents: the passages that have questions. Blanks stand in their texts.
        spans: how many spans were left out, by reason, a key of `REASONS`.
        passages: how many passages have no question, by reason, a key of `PASSAGES`.
        examples: for each reason the first few, as JSON holds them.
    """

    documents: list[Document] = field(default_factory=list)
    spans: Counter[str] = field(default_factory=Counter)
    passages: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def num_answerable(self) -> int:
        """Questions with an answer."""
        return sum(question.answerable for document in self.documents for question in document.questions)

    @property
    def num_questions(self) -> int:
        """All questions."""
        return sum(len(document.questions) for document in self.documents)

    def drop(self, reason: str, shown: str, number: int = 1) -> None:
        """Count spans that were left out."""
        self.spans[reason] += number
        self._show(reason, shown)

    def drop_passage(self, reason: str, shown: str) -> None:
        """Count a passage that was left out."""
        self.passages[reason] += 1
        self._show(reason, shown)

    def _show(self, reason: str, shown: str) -> None:
        examples = self.examples.setdefault(reason, [])
        if len(examples) < NUM_EXAMPLES:
            examples.append(shown)


def make_cloze(passages: Sequence[Document], settings: ClozeSettings) -> Cloze:
    """Hide recurring spans, and ask for them. The same passage gives the same questions, whatever stands beside it.

    Args:
        passages: the passages.
        settings: how many questions are made, and of which spans.
    """
    done = Cloze()
    for passage in passages:
        if "[blank " in passage.text:
            done.drop_passage(HOLDS_BLANKS, passage.id)
            continue
        before = done.spans.total()
        asked = _asked(passage, settings, done)
        if asked.questions:
            done.documents.append(asked)
        else:
            done.drop_passage(LEFT_OUT if done.spans.total() > before else NOTHING, passage.id)
    return done


def _asked(passage: Document, settings: ClozeSettings, done: Cloze) -> Document:
    """A passage with its blanks and its questions."""
    chance = random.Random(f"{settings.seed} {passage.text}")
    found = recurring_spans(passage.text, most_words=settings.max_words, most_times=settings.max_times)
    for words, times in found.too_often:
        done.drop("occurs too often", f"{short(words)} {times} times in {passage.id}")
    # Longer spans first, as found. Among those of one length the chance decides.
    order = sorted(found.spans, key=lambda places: (-_num_words(passage.text, places[0]), chance.random()))
    room = max(1, settings.questions - round(settings.questions * settings.unanswerable))
    kept: dict[Span, Span] = {}  # the place that stays, by blank
    for places in order:
        name = short(passage.text[slice(*places[0])])
        if len(places) - 1 > room - len(kept):
            done.drop("no room", f"{name} in {passage.id}")
            continue
        stays = chance.choice(places)
        if unreachable(passage.text, passage.text[slice(*stays)], MOST_WORDS) is not None:
            done.drop("not a span", f"{name} in {passage.id}")
            continue
        kept.update({place: stays for place in places if place != stays})
    share = settings.unanswerable
    wanted = min(round(len(kept) * share / (1 - share)), settings.questions - len(kept)) if share < 1 else 0
    hidden = _hidden(passage, [*kept, *kept.values()], wanted, chance, done)
    return _with_blanks(passage, kept, hidden)


def blank_of(question: Question) -> str:
    """The blank that a question asks for, as it stands in the text."""
    return _BLANK.format(number=question.id.rpartition("/")[2])


def _num_words(text: str, span: Span) -> int:
    return len(text[slice(*span)].split())


def _hidden(passage: Document, taken: Sequence[Span], wanted: int, chance: random.Random, done: Cloze) -> list[Span]:
    """Spans that occur once, to be hidden so that nothing answers the question about them."""
    text = passage.text
    candidates = [(one.start, one.end) for one in find_candidates(text)]
    chance.shuffle(candidates)
    hidden: list[Span] = []
    for span in candidates:
        if len(hidden) == wanted:
            break
        if overlaps(span, taken):
            continue
        words = text[slice(*span)].split()
        if whole_places(text, words) != 1:
            done.drop("also elsewhere", f"{short(' '.join(words))} in {passage.id}")
            continue
        hidden.append(span)
    return hidden


def _with_blanks(passage: Document, kept: dict[Span, Span], hidden: Sequence[Span]) -> Document:
    """The passage with numbered blanks, in the order of the text, and a question about each.

    Args:
        passage: the passage.
        kept: for each span that becomes a blank, the place of the same words that stays.
        hidden: further spans that become blanks, whose words stand nowhere else.
    """
    blanks = sorted([*kept, *hidden])
    pieces, moved, end, size = [], [(0, 0)], 0, 0  # moved: (place in the passage, place in the new text)
    for number, (start, stop) in enumerate(blanks, start=1):
        blank = _BLANK.format(number=number)
        pieces += [passage.text[end:start], blank]
        size += start - end + len(blank)
        end = stop
        moved.append((stop, size))
    text = "".join([*pieces, passage.text[end:]])
    questions = []
    for number, span in enumerate(blanks, start=1):
        answers: tuple[Answer, ...] = ()
        if span in kept:
            start, stop = kept[span]
            before, after = max(one for one in moved if one[0] <= start)
            answers = (Answer(passage.text[start:stop], start - before + after),)
        questions.append(Question(f"{passage.id}/{number}", _QUESTION.format(number=number), answers))
    return replace(passage, text=text, questions=tuple(questions))
