"""The page of data that were made: samples, what every filter dropped with examples, tokens, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from palmette.pages.page import render_page, write_page

LONGEST = 1500  # characters of a value


@dataclass(frozen=True, slots=True)
class Filter:
    """A reason for which something was dropped.

    Attributes:
        reason: the reason.
        meaning: what it means.
        number: how many were dropped.
        examples: the first of them, each as names and values.
    """

    reason: str
    meaning: str
    number: int
    examples: Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of counts.

    Attributes:
        caption: what it shows.
        head: the names of its columns.
        rows: its rows. The first value of each is its name.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


# A name with a value, or with further names and values.
Fact = tuple[str, str | Sequence[tuple[str, str]]]


@dataclass(frozen=True)
class MadeData:
    """What a job has made.

    Attributes:
        title: of the page.
        conclusion: what was kept, in a sentence.
        facts: names and values: the writer, the sources, licences.
        tables: counts, such as tokens and cost before and after.
        filters: by what was dropped, such as "tasks".
        samples: some of what was kept, each as names and values.
        kept: how many were kept in all.
    """

    title: str
    conclusion: str
    facts: Sequence[Fact]
    tables: Sequence[Table]
    filters: Mapping[str, Sequence[Filter]]
    samples: Sequence[Mapping[str, str]]
    kept: int


def write_made_data(path: Path, made: MadeData) -> None:
    """Write the page.

    Raises:
        RunError: the file cannot be written.
    """
    write_page(path, render_made_data(made))


def render_made_data(made: MadeData) -> str:
    """The page as HTML."""
    filters = [
        (unit[:1].upper() + unit[1:], sorted(found, key=lambda one: -one.number))
        for unit, found in made.filters.items()
        if found
    ]
    return render_page(
        "made_data.html",
        styles=("page.css", "made_data.css"),
        scripts=(),
        title=made.title,
        facts=list(made.facts),
        made=made,
        filters=filters,
        cut=_cut,
    )


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
