"""What a source of data is understood as: its form, and its first records in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice

from palmette.data.chat import Conversation, parse_chat
from palmette.data.forms import form_of, standard_rows
from palmette.data.json_files import is_json_list
from palmette.data.kinds import KINDS, Kind, kind_of
from palmette.data.preference import Comparison, Verdict, parse_comparisons, parse_verdicts, turn_text
from palmette.data.preference_sets import Opened
from palmette.data.records import Document
from palmette.data.source import checked_records, raw_rows
from palmette.data.votes import read_contests
from palmette.errors import DataError
from palmette.files import expand


@dataclass(frozen=True)
class Shown:
    """What a source is understood as.

    Attributes:
        kind: its kind of data, in words.
        uses: what takes it.
        form: the form of its rows, in words.
        unused: columns that are not used.
        counted: what was counted of votes, in words. "" for other data.
        records: its first records, each as (role or name, text) lines. Texts that are not learned have a name in
            brackets.
    """

    kind: str
    uses: str
    form: str
    unused: tuple[str, ...]
    records: tuple[tuple[tuple[str, str], ...], ...]
    counted: str = ""


def show_data(
    source: str, number: int, columns: Mapping[str, str] | None = None, opened: Opened | None = None
) -> Shown:
    """Read the beginning of a source.

    Args:
        source: a file, builtin:train, or a data set of the hub.
        number: how many records to show.
        columns: the names of columns that the data call otherwise, as {ours: theirs}.
        opened: the hash and the rows of the source, if it was opened already.

    Raises:
        DataError: it cannot be read, its rows show no kind of data, or one of the first records is bad.
    """
    if source.startswith("builtin:") or _is_squad(source):
        records = tuple(_document(one) for one in islice(checked_records(source), number))
        return Shown(KINDS["questions"].title, KINDS["questions"].uses, "SQuAD v2", (), records)
    _, raw = opened or raw_rows(source, default_split="train", columns="", example="HuggingFaceTB/smoltalk:train")
    raw = iter(raw)
    first = list(islice(raw, max(number, 20)))
    standard = list(standard_rows(first, columns))
    rows = [row for row in standard if isinstance(row, dict)]
    kind = next((kind for row in rows if (kind := kind_of(row)) is not None), None)
    if kind is None:
        error = next((row for row in standard if isinstance(row, DataError)), None)
        names = ", ".join(map(repr, sorted({key for row in rows for key in row} - {"id"})))
        raise error or DataError(
            f"{source}: the rows show no kind of data, since they have {names or 'nothing'}",
            "Name the columns: --rename OURS=THEIRS, and in a recipe data.columns.",
        )
    if kind == "votes":
        return _votes(list(standard_rows(chain(first, raw), columns)), number, source)
    form = next((form for row in first if isinstance(row, dict) and (form := form_of(row)) is not None), None)
    records = tuple(islice(_records(standard, kind, source), number))
    named = f"{form.name} ({form.keys})" if form else f"palmette's own, {KINDS[kind].columns}"
    return Shown(KINDS[kind].title, KINDS[kind].uses, named, _unused(rows, kind), records)


def _votes(rows: list[dict[str, object] | DataError], number: int, source: str) -> Shown:
    """The first pairs that votes become, then the first verdicts. All votes are read, since they are taken together."""
    found = read_contests(rows, source)
    if found.errors:
        raise found.errors[0]
    made = chain(parse_comparisons(found.pair_rows(), source), parse_verdicts(found.verdict_rows(), source))
    records = tuple(tuple(_lines(one)) for one in islice(made, number) if not isinstance(one, DataError))
    kind = KINDS["votes"]
    return Shown(kind.title, kind.uses, f"votes, {kind.columns}", (), records, f"{found.counts.words()}.")


def _is_squad(source: str) -> bool:
    path = expand(source)
    return path.suffix == ".json" and path.is_file() and not is_json_list(path)


_USED = {"messages", "conversations", "prompt", "completion", "chosen", "rejected", "ranked", "completions", "label"}
_USED |= {"id", "margin", "ranks", "scores", "text", "question", "context", "document", "answers", "title", "rationale"}


def _unused(rows: list[dict[str, object]], kind: Kind) -> tuple[str, ...]:
    used = _USED - {"prompt"} if kind == "conversations" and any("messages" in row for row in rows) else _USED
    return tuple(sorted({key for row in rows for key in row} - used))


def _records(
    rows: list[dict[str, object] | DataError], kind: Kind, source: str
) -> Iterator[tuple[tuple[str, str], ...]]:
    parsers = {"conversations": parse_chat, "preferences": parse_comparisons, "verdicts": parse_verdicts}
    if kind not in parsers:
        for row in rows:
            if isinstance(row, DataError):
                raise row
            yield tuple((key, str(value)) for key, value in row.items() if key in _USED)
        return
    for record in parsers[kind](rows, source):
        if isinstance(record, DataError):
            raise record
        yield tuple(_lines(record))


def _lines(record: Conversation | Comparison | Verdict) -> Iterator[tuple[str, str]]:
    if isinstance(record, Conversation):
        for index, turn in enumerate(record.turns):
            weights = {part.learn for part in turn.parts}
            learned = turn.role == "assistant" and index >= record.prompt_turns and weights != {0.0}
            yield turn.role if learned else f"[{turn.role}]", turn_text(turn)
        return
    yield from ((f"[{turn.role}]", turn_text(turn)) for turn in record.prompt)
    if isinstance(record, Verdict):
        yield "good" if record.label else "bad", record.completion
    else:
        yield from ((f"place {place}", text) for place, text in enumerate(record.completions, 1))


def _document(document: Document | DataError) -> tuple[tuple[str, str], ...]:
    if isinstance(document, DataError):
        raise document
    lines = [("[document]", document.text)]
    for question in document.questions[:3]:
        lines += [("[question]", question.text), ("answer", question.answers[0].text if question.answers else "?")]
    return tuple(lines)
