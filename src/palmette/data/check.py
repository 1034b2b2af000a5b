"""Says what a source of data holds, and everything that is wrong with it. No model is needed.

Readers stop at the first bad record, or drop bad ones. Here every record is looked at, and the errors of one sort are
counted together.
"""

from __future__ import annotations

import itertools
import re
import shlex
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from palmette.data.chat import Conversation, parse_chat
from palmette.data.inputs import DOCUMENT_SUFFIXES, QuestionFile
from palmette.data.json_files import is_json_list
from palmette.data.kinds import KINDS, Kind, kind_of, wrong_kind
from palmette.data.preference import Comparison, Verdict, parse_comparisons, parse_verdicts
from palmette.data.preference_sets import Opened
from palmette.data.records import Document
from palmette.data.source import checked_records, open_rows
from palmette.data.tables import SUFFIXES, is_table, open_table
from palmette.data.votes import read_contests
from palmette.errors import DataError
from palmette.files import expand

NUM_SHOWN = 3  # problems of each sort
_LOOKED_AT = 100  # rows
_KNOWN = "A row needs one of: " + ". Or ".join(f"{kind.columns} ({kind.title})" for kind in KINDS.values()) + "."
_TO_ANSWER = "questions about documents, without answers"
_NONE = "no question says what its answers are, so nothing can be learned from them"
_ANSWERS = "Give each question its 'answers', [] where there is none."
_PREDICT = "They are for palmette predict. To train or measure, give each question its 'answers'."
_DOCUMENTS = DOCUMENT_SUFFIXES - SUFFIXES
_OF_QUESTIONS = re.compile(r"\s*(question|query)", re.IGNORECASE)
_OF_ANSWERS = re.compile(r"\s*(answer|gold|(is[ _-])?impossible)", re.IGNORECASE)
Record = Document | Conversation | Comparison | Verdict
_EXAMPLE = "rajpurkar/squad_v2:train"


@dataclass(frozen=True)
class Problems:
    """Problems of one sort.

    Attributes:
        count: how many records have it.
        shown: the first of them, each with the record and the value.
        way_out: what to do about them.
    """

    count: int
    shown: tuple[str, ...]
    way_out: str


@dataclass(frozen=True)
class Report:
    """What a source of data holds.

    Attributes:
        source: its name.
        holds: its kind, in words.
        uses: what takes it.
        facts: what was counted, as (name, value) in words.
        problems: what is wrong, the most frequent sort first.
        records: the good records that a model can be trained on.
        texts: texts that a model can be trained on.
    """

    source: str
    holds: str
    uses: str
    facts: tuple[tuple[str, str], ...]
    problems: tuple[Problems, ...]
    records: tuple[Record, ...] = field(default=(), repr=False)
    texts: tuple[str, ...] = field(default=(), repr=False)

    @property
    def num_problems(self) -> int:
        """The number of records with a problem."""
        return sum(one.count for one in self.problems)


def check_data(
    source: str,
    wanted: Sequence[Kind] = (),
    *,
    opened: Opened | None = None,
    names: Mapping[str, str] | None = None,
) -> Report:
    """Look at every record of a source.

    Args:
        source: builtin:train, a file, or a data set of the Hugging Face hub.
        wanted: the kinds of data that are needed. Any kind will do if it is empty. Another kind is a problem.
        opened: the hash and the rows of the source, if it was opened already.
        names: the names of columns that the data call otherwise, as {ours: theirs}.

    Raises:
        DataError: there is no such source, a column has no such name, it cannot be read at all, or its rows show no
            kind of data.
    """
    if opened is not None:
        return _wanted(_votes(source, list(opened[1])), "votes", wanted)
    path = expand(source)
    _check_may_be_data(path, source)
    if source.startswith("builtin:") or (path.suffix == ".json" and not is_json_list(path)):
        return _wanted(_questions(source), "questions", wanted)
    rows = list(open_rows(source, default_split="train", columns="", example=_EXAMPLE, names=names)[1])
    columns = open_table(path, source).columns if is_table(path) else ()
    kind = _kind(rows, columns, source, wanted)
    if kind == "questions":
        named = {*columns, *(key for row in rows if isinstance(row, dict) for key in row)}
        answered = any(_OF_ANSWERS.match(name) for name in named) or not path.is_file()
        report = _questions(source) if answered else _to_answer(source)
    elif kind == "conversations":
        report = _conversations(source, rows)
    elif kind == "judged answers":
        report = _judged(source, rows)
    elif kind == "votes":
        report = _votes(source, rows)
    elif kind == "texts":
        report = _texts(source, rows)
    else:
        report = _preferences(source, rows, kind)
    return _wanted(report, kind, wanted)


def _check_may_be_data(path: Path, source: str) -> None:
    """Refuse folders, documents and recipes, which hold no records.

    Raises:
        DataError: it is one of these. The message says what takes it.
    """
    if path.is_dir():
        raise DataError(f"{source} is a folder, not a data file", "Name one of the files in it.")
    if path.is_file() and path.suffix.lower() in (".yaml", ".yml"):
        raise DataError(f"{source} is a recipe, not data", "Check the files that it names under data.train.")
    if path.is_file() and path.suffix.lower() in _DOCUMENTS:
        raise DataError(
            f"{source} is a document, not data", f'To ask about it: palmette ask {shlex.quote(source)} "QUESTION"'
        )


def _kind(
    rows: Sequence[dict[str, Any] | DataError], columns: Sequence[str], source: str, wanted: Sequence[Kind]
) -> Kind:
    """The kind that most of the first rows show. If none shows any, the only kind that is wanted.

    A table is one of questions even if its columns have other names.
    """
    objects = [row for row in rows[:_LOOKED_AT] if isinstance(row, dict)]
    shown = Counter(kind for row in objects if (kind := kind_of(row)) is not None)
    if shown:
        return shown.most_common(1)[0][0]
    if any(_OF_QUESTIONS.match(name) for name in columns):
        return "questions"
    if len(wanted) == 1:
        return wanted[0]
    if not objects:
        first = next((row for row in rows if isinstance(row, DataError)), None)
        raise first or DataError(f"{source} is empty", _KNOWN)
    columns = ", ".join(map(repr, sorted(set(objects[0]) - {"id"}))) or "nothing but an id"
    raise DataError(f"{source}: the rows show no kind of data, since they have {columns}", _KNOWN)


def _wanted(report: Report, kind: Kind, wanted: Sequence[Kind]) -> Report:
    """The report, with a problem at its head if another kind is needed, or answers are."""
    answered = report.holds != _TO_ANSWER
    if not wanted or (kind in wanted and answered):
        return report
    error = wrong_kind(report.source, kind, wanted) if answered else DataError(f"{report.source}: {_NONE}", _ANSWERS)
    first = Problems(1, (error.problem,), error.way_out)
    return replace(report, problems=(first, *report.problems))


def _report(
    source: str,
    kind: Kind,
    facts: Iterable[tuple[str, str]],
    errors: Iterable[DataError],
    records: Sequence[Record] = (),
) -> Report:
    return Report(source, KINDS[kind].title, KINDS[kind].uses, tuple(facts), _grouped(errors), tuple(records))


def _questions(source: str) -> Report:
    records = list(checked_records(source))
    documents = [record for record in records if isinstance(record, Document)]
    questions = [question for document in documents for question in document.questions]
    answers = [question.answers[0].text for question in questions if question.answerable]
    num_rationales = sum(question.rationale is not None for question in questions)
    facts = [
        ("documents", f"{len(documents)}{_lengths([document.text for document in documents])}"),
        ("questions", f"{len(questions)}, {len(questions) - len(answers)} of them without an answer"),
        ("answers", f"{len(answers)}{_lengths(answers)}"),
    ]
    if num_rationales:
        facts.append(("rationales", str(num_rationales)))
    errors = [record for record in records if isinstance(record, DataError)]
    return _report(source, "questions", facts, errors, [document for document in documents if document.questions])


def _to_answer(source: str) -> Report:
    with QuestionFile(source).open() as lines:
        rows = list(lines)
    good = [row for row in rows if not row.error]
    texts = list(dict.fromkeys(row.context for row in good))
    facts = (("documents", f"{len(texts)}{_lengths(texts)}"), ("questions", str(len(good))))
    errors = [DataError(*_halves(row.error)) for row in rows if row.error]
    return Report(source, _TO_ANSWER, _PREDICT, facts, _grouped(errors))


def _conversations(source: str, rows: Sequence[dict[str, Any] | DataError]) -> Report:
    records = list(parse_chat(rows, source))
    good = [record for record in records if isinstance(record, Conversation)]
    twice = [name for name, count in Counter(one.id for one in good).items() if count > 1]
    errors = [record for record in records if isinstance(record, DataError)]
    errors += [
        DataError(f"{source}: the conversation id {name!r} stands twice", "Give every one its own id.")
        for name in twice
    ]
    replies = [
        "".join(part.text for part in turn.parts) for one in good for turn in one.turns if turn.role == "assistant"
    ]
    with_system = sum(one.turns[0].role == "system" for one in good)
    facts = (
        ("conversations", f"{len(good)}, of which {with_system} have a system message"),
        ("turns of the assistant", f"{len(replies)}{_lengths(replies)}"),
    )
    return _report(source, "conversations", facts, errors, good)


def _preferences(source: str, rows: Sequence[dict[str, Any] | DataError], kind: Kind) -> Report:
    facts: list[tuple[str, str]]
    if kind == "verdicts":
        judged = list(parse_verdicts(rows, source))
        verdicts = [record for record in judged if isinstance(record, Verdict)]
        errors = [record for record in judged if isinstance(record, DataError)]
        num_good = sum(verdict.label for verdict in verdicts)
        facts = [
            ("verdicts", f"{len(verdicts)}, of which {num_good} are good and {len(verdicts) - num_good} bad"),
            ("completions", f"{len(verdicts)}{_lengths([verdict.completion for verdict in verdicts])}"),
        ]
        return _report(source, kind, facts, errors, verdicts)
    parsed = list(parse_comparisons(rows, source))
    compared = [record for record in parsed if isinstance(record, Comparison)]
    errors = [record for record in parsed if isinstance(record, DataError)]
    num_pairs = sum(len(one.completions) == 2 for one in compared)
    completions = [completion for one in compared for completion in one.completions]
    facts = [
        ("comparisons", f"{len(compared)}, of which {num_pairs} are pairs"),
        ("completions", f"{len(completions)}{_lengths(completions)}"),
    ]
    if margins := sum(one.margin is not None for one in compared):
        facts.append(("margins", str(margins)))
    return _report(source, kind, facts, errors, compared)


def _votes(source: str, rows: Sequence[dict[str, Any] | DataError]) -> Report:
    """Votes with what they become. A record is bad if its pair or its verdict is."""
    found = read_contests(rows, source)
    pairs = list(parse_comparisons(found.pair_rows(), source))
    verdicts = list(parse_verdicts(found.verdict_rows(), source))
    compared = [one for one in pairs if isinstance(one, Comparison)]
    judged = [one for one in verdicts if isinstance(one, Verdict)]
    num_good = sum(one.label for one in judged)
    facts = [
        ("votes", found.counts.words()),
        ("pairs to learn from", str(len(compared))),
        ("verdicts for KTO", f"{len(judged)}, of which {num_good} are good and {len(judged) - num_good} bad"),
    ]
    errors = [one for one in (*pairs, *verdicts) if isinstance(one, DataError)]
    return _report(source, "votes", facts, [*found.errors, *errors], compared)


def _judged(source: str, rows: Sequence[dict[str, Any] | DataError]) -> Report:
    labels = [row.get("label") for row in rows if isinstance(row, dict)]
    errors = [row for row in rows if isinstance(row, DataError)]
    errors += [
        DataError(f"{source}: row {number}: 'label' is {label!r}, not true or false", "Write true or false.")
        for number, label in enumerate(labels, start=1)
        if not isinstance(label, bool)
    ]
    counts = f"{labels.count(True) + labels.count(False)}, of which {labels.count(True)} are good"
    return _report(source, "judged answers", [("verdicts", counts)], errors)


def _texts(source: str, rows: Sequence[dict[str, Any] | DataError]) -> Report:
    errors = [row for row in rows if isinstance(row, DataError)]
    texts = [row["text"] for row in rows if isinstance(row, dict) and isinstance(row.get("text"), str)]
    errors += [
        DataError(f"{source}: row {number}: 'text' is no text", "Write a text, or take the row out.")
        for number, row in enumerate(rows, start=1)
        if isinstance(row, dict) and not isinstance(row.get("text"), str)
    ]
    report = _report(source, "texts", [("texts", f"{len(texts)}{_lengths(texts)}")], errors)
    return replace(report, texts=tuple(texts))


def _lengths(texts: Sequence[str]) -> str:
    """How long texts are, in words: the median and the longest."""
    words = [len(text.split()) for text in texts]
    if not words:
        return ""
    median = f"{statistics.median(words):.0f}"
    return f", {median} word{'' if median == '1' else 's'} at the median, {max(words)} at most"


def _grouped(errors: Iterable[DataError]) -> tuple[Problems, ...]:
    """Errors that differ in their records and values only, counted together."""
    found = list(errors)
    groups: dict[str, list[DataError]] = {}
    for error in found:
        groups.setdefault(_skeleton(error.problem), []).append(error)
    ordered = sorted(groups.values(), key=len, reverse=True)
    return tuple(
        Problems(len(group), tuple(one.problem for one in itertools.islice(group, NUM_SHOWN)), group[0].way_out)
        for group in ordered
    )


def _skeleton(problem: str) -> str:
    """A problem without its values: quoted texts, numbers, and what comes before the last of the record's names."""
    return re.sub(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\d+""", "_", problem)


def _halves(error: str) -> tuple[str, str]:
    """An error's text as its problem and its way out."""
    problem, _, way_out = error.partition(". ")
    return problem, way_out
