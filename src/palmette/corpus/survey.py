"""A survey of a corpus: what its sources hold, what cleaning drops of them and why, and how many tokens remain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from palmette.corpus.cleaning import Counts, clean
from palmette.corpus.sources import check_once
from palmette.corpus.steps import MakeSteps
from palmette.corpus.texts import Text, TextSource
from palmette.progress import progress

# Of a source that is read over the network, only so many texts are looked at.
LOOKED_AT = 2_000


@dataclass(frozen=True)
class SourceSurvey:
    """What one source holds.

    Attributes:
        source: its name.
        counts: what cleaning counted.
        tokens: how many tokens are left to learn, if they were counted.
        held_out: how many more are held out.
        whole: whether the whole source was looked at.
    """

    source: str
    counts: Counts
    tokens: int
    held_out: int
    whole: bool

    def as_record(self) -> dict[str, Any]:
        """All of it as JSON holds it."""
        counts = self.counts
        weighed = {"weighed": dict(counts.weighed)} if counts.weighed else {}
        return {
            "source": self.source,
            "whole": self.whole,
            "read": counts.read,
            "kept": counts.texts,
            "characters": counts.characters,
            "trimmed_characters": counts.trimmed,
            "tokens": self.tokens,
            "held_out_tokens": self.held_out,
            "dropped": {reason: drops.as_record() for reason, drops in counts.dropped.items()},
            **weighed,
        }


# From a clean text to the number of its tokens that are learned, and that are held out.
CountTokens = Callable[[Text], tuple[int, int]]


def clean_texts(
    sources: Sequence[TextSource], make_steps: MakeSteps, counts: dict[str, Counts], *, most: int | None = None
) -> Iterator[Text]:
    """The clean texts of sources, one after the other, from the first one. Duplicates are found across sources.

    Args:
        sources: the sources.
        make_steps: makes the steps of cleaning.
        counts: takes the counts, by source.
        most: read only so many texts of a source of the hub.
    """
    steps = make_steps()
    for source in sources:
        texts = islice(source.open(), most) if source.kind == "hub" else source.open()
        yield from clean(texts, steps, counts, source.name)


def survey(sources: Sequence[TextSource], make_steps: MakeSteps, count_tokens: CountTokens) -> list[SourceSurvey]:
    """Read sources once, and count. Duplicates are found across them.

    Args:
        sources: the sources. Of those of the hub, the first texts are read.
        make_steps: makes the steps of cleaning.
        count_tokens: see `CountTokens`. It is called with each clean text, in order.

    Raises:
        DataError: a source cannot be read, or is named twice.
    """
    check_once(sources)
    counts: dict[str, Counts] = {}
    learned: dict[str, int] = {}
    held_out: dict[str, int] = {}
    with progress(0, "counting", "texts", passing=True) as bar:
        for text in clean_texts(sources, make_steps, counts, most=LOOKED_AT):
            one, other = count_tokens(text)
            learned[text.source] = learned.get(text.source, 0) + one
            held_out[text.source] = held_out.get(text.source, 0) + other
            bar.update()
    return [
        SourceSurvey(
            source.name,
            counts[source.name],
            learned.get(source.name, 0),
            held_out.get(source.name, 0),
            source.kind != "hub" or counts[source.name].read < LOOKED_AT,
        )
        for source in sources
    ]
