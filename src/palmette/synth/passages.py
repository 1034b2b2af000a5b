"""Documents cut into passages that are short enough for questions: at headings and paragraphs, or at sentences."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import regex

from palmette.config.corpus import CleanSection
from palmette.corpus.cleaning import Counts, Step, clean
from palmette.corpus.duplicates import ExactDuplicates
from palmette.corpus.sources import open_source
from palmette.corpus.steps import OfLength, step_maker
from palmette.corpus.texts import Text
from palmette.data.records import Document
from palmette.decode.spans import words
from palmette.errors import DataError
from palmette.synth.leaks import check_sources, described, dropped_texts
from palmette.synth.quotes import sentences

_BLANK_LINE = regex.compile(r"\n[^\S\n]*\n\s*")
_LINE = regex.compile(r"\n")
_HEADING = regex.compile(r"\s*#{1,6}\s")
_FEWEST = 20  # words of white space around: a shorter passage has nothing to ask about


@dataclass
class Passages:
    """Passages of documents, and what was left out.

    Attributes:
        passages: the passages, each a document without questions. Its title is the name of the document that it stands
            in, and its id that name with the position of its first character.
        documents: counts of the documents, by source.
        cut: counts of the passages that they were cut into.
        identities: what identifies each source, for the manifest.
        settings: how the sources were read and cut.
        against: the evaluation sets, with what identifies each.
    """

    passages: list[Document] = field(default_factory=list)
    documents: dict[str, Counts] = field(default_factory=dict)
    cut: Counts = field(default_factory=Counts)
    identities: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    against: list[dict[str, Any]] = field(default_factory=list)

    @property
    def num_documents(self) -> int:
        """Documents that remained."""
        return sum(counts.texts for counts in self.documents.values())

    @property
    def num_dropped(self) -> Counter[str]:
        """How many documents and passages were dropped, by reason."""
        number: Counter[str] = Counter()
        for unit, counts in [*(("document", one) for one in self.documents.values()), ("passage", self.cut)]:
            number.update({f"{unit}: {reason}": drops.texts for reason, drops in counts.dropped.items()})
        return number

    def as_record(self) -> dict[str, Any]:
        """The sources, and what was left out, as JSON holds it."""
        return {
            "sources": self.identities,
            "reading": self.settings,
            "documents": {name: _record(counts) for name, counts in self.documents.items()},
            "passages": _record(self.cut),
            "against": self.against,
        }

    @property
    def dropped(self) -> dict[str, dict[str, dict[str, Any]]]:
        """What was dropped, by unit and by reason, with examples, in the form of `rationale_file.dropped`."""
        found = {f"documents of {name}": counts for name, counts in self.documents.items()}
        return {unit: dropped_texts(counts) for unit, counts in {**found, "passages": self.cut}.items()}


def read_passages(
    sources: Sequence[str],
    *,
    most_words: int,
    column: str = "text",
    limit: int | None = None,
    against: Sequence[str] = (),
) -> Passages:
    """Read documents and cut them into passages.

    Documents and passages that equal an earlier one are dropped and counted, and so are documents that share 13 words
    in a row with an evaluation set, and passages of fewer than 20 words.

    Args:
        sources: files, folders, "builtin:train" or data sets of the hub.
        most_words: the longest passage, in words and punctuation marks.
        column: the column of a row that holds its text.
        limit: read only the first so many documents of each source.
        against: evaluation sets.

    Raises:
        DataError: a source or an evaluation set cannot be read, a source is an evaluation set, or nothing is left.
    """
    opened = [open_source(name, columns={"text": column}, limit=limit) for name in sources]
    held = check_sources(opened, against)
    steps = step_maker(CleanSection(against=list(against)))()
    short_steps: list[Step] = [OfLength(_FEWEST, None), ExactDuplicates()]
    settings = {"passage_words": most_words, "column": column, "limit": limit, "against": held}
    found = Passages(settings=settings, against=described(against, held))
    cut = {"passages": found.cut}
    for source in opened:
        found.identities.append(source.describe())
        for text in clean(source.open(), steps, found.documents, source.name):
            pieces = (
                Text(f"{text.name}#{start}", text.text[start:end], text.name)
                for start, end in cut_passages(text.text, most_words)
            )
            for piece in clean(pieces, short_steps, cut, "passages"):
                found.passages.append(Document(piece.name, piece.text, (), text.name))
    if not found.passages:
        raise DataError(
            f"no passage of {_FEWEST} words or more is left of {', '.join(sources)}", "Give longer or other texts."
        )
    return found


def _record(counts: Counts) -> dict[str, Any]:
    dropped = {reason: drops.as_record() for reason, drops in counts.dropped.items()}
    return {"read": counts.read, "kept": counts.texts, "dropped": dropped}


def cut_passages(text: str, most_words: int) -> list[tuple[int, int]]:
    """Start and end of each passage, without white space around it.

    A text that is no longer is one passage. Passages are as long as they may be, but one that is half full ends where a
    Markdown heading comes, and no heading stands at an end. A paragraph that is too long is cut at its lines, a line at
    its sentences, and a sentence between words.

    Args:
        text: the document.
        most_words: the longest passage, in words and punctuation marks.

    >>> text = "One two.\\n\\nThree four. Five six seven.\\n\\nEight."
    >>> [text[a:b] for a, b in cut_passages(text, 6)]
    ['One two.\\n\\nThree four.', 'Five six seven.\\n\\nEight.']
    """
    starts = [word[0] for word in words(text)]

    def count(start: int, end: int) -> int:
        return bisect_left(starts, end) - bisect_left(starts, start)

    def parts(start: int, end: int, level: int) -> Iterator[tuple[int, int]]:
        if count(start, end) <= most_words:
            yield start, end
            return
        for one, other in pairwise(_cuts(text, start, end, level, starts)):
            yield from parts(one, other, level + 1)

    passages: list[list[int]] = []  # start, start of the last part, end
    for start, stop in parts(0, len(text), 0):
        if passages and count(passages[-1][0], stop) <= most_words:
            begin, heading = passages[-1][0], _HEADING.match(text, start)
            if not heading or 2 * count(begin, start) < most_words:
                passages[-1] = [begin, start, stop]
                continue
        elif passages and passages[-1][1] > passages[-1][0]:
            last = passages[-1][1]
            if _HEADING.match(text, last) and count(last, stop) <= most_words:  # a heading goes with what follows
                passages[-1] = [passages[-1][0], passages[-1][0], last]
                start = last
        passages.append([start, start, stop])
    return [trimmed for start, _, end in passages if (trimmed := _trimmed(text, start, end)) is not None]


def _cuts(text: str, start: int, end: int, level: int, starts: Sequence[int]) -> list[int]:
    """Where a stretch of a text is cut: at blank lines, at line ends, between sentences, or before every word."""
    if level < 2:
        inner = [match.end() for match in (_BLANK_LINE, _LINE)[level].finditer(text, start, end)]
    elif level == 2:
        inner = [start + first for first, _ in sentences(text[start:end])]
    else:
        inner = list(starts[bisect_left(starts, start) : bisect_left(starts, end)])
    return [start, *(cut for cut in inner if start < cut < end), end]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int] | None:
    part = text[start:end]
    if not part.strip():
        return None
    return start + len(part) - len(part.lstrip()), start + len(part.rstrip())
