"""Data with rationales as a file, and the report beside it that says what was dropped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from palmette import run
from palmette.data.records import Document
from palmette.data.rows import dump_rows
from palmette.data.source import read_source
from palmette.data.squad import dump_squad
from palmette.errors import DataError, RunError
from palmette.numbers import count
from palmette.synth.leaks import ClearData, clear_data
from palmette.synth.rationales import REASONS, Rationales
from palmette.synth.showing import question_sample, usage_table, write_page_of
from palmette.synth.work import Line

_FORMATS = (".json", ".jsonl")
_NUM_EXAMPLES = 3


def read_questions(data: str, out: Path, limit: int | None = None, against: Sequence[str] = ()) -> ClearData:
    """Read the questions to make data of, after checking that the output can be written.

    Args:
        data: the source of the questions.
        out: the file to write later.
        limit: use only the first N documents.
        against: evaluation sets. Documents that hold a part of one are left out.

    Raises:
        RunError: the file exists, or its name has no known format.
        DataError: the data cannot be read, or nothing of them is left.
    """
    check_output(out)
    return clear_data(read_source(data, limit_documents=limit), against)


def check_output(out: Path) -> None:
    """Check that a file of questions can be written under a name.

    Raises:
        RunError: the file exists, or its name has no known format.
    """
    if out.suffix not in _FORMATS:
        raise RunError(f"{out} ends neither in .jsonl nor in .json", "Name a file that can be read back.")
    run.check_absent(out)


def report_of(out: Path) -> Path:
    """The report beside a file of rationales."""
    return out.with_name(out.name + ".report.json")


def write_rationales(
    done: Rationales,
    source: ClearData,
    out: Path,
    made_by: dict[str, Any],
    *,
    keep_all: bool,
    max_words: int,
    licences: Mapping[str, Any],
) -> int:
    """Write the report, then the data with their rationales.

    Args:
        done: the rationales.
        source: the data.
        out: the file.
        made_by: the record of their origin, for the report.
        keep_all: whether questions whose rationale was dropped stay, without one.
        max_words: longer rationales were dropped.
        licences: those of the teacher's words and of the data, as far as they are known.

    Returns:
        The number of questions in the file.

    Raises:
        DataError: every rationale was dropped. Only the report is written then.
        RunError: a file cannot be written.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "max_words": max_words,
        "licences": licences,
        **source.as_record(),
        "kept": done.num_kept,
        "dropped": done.counts,
        "reasons": {reason: REASONS[reason] for reason in done.counts},
        "dropped_questions": [
            {"id": question, "reason": verdict.reason, "completion": verdict.completion}
            for question, verdict in done.verdicts.items()
            if verdict.reason
        ],
    }
    run.write_json(report_of(out), {**run.environment(), **made_by, **record})
    _write_page(done, source, out, made_by, licences)
    if not done.num_kept:
        raise DataError(
            "no rationale is fit to learn from",
            f"Read the completions in {report_of(out)}. A more capable teacher may help.",
        )
    return write_questions(done.documents if keep_all else done.with_rationale_only(), out)


def _write_page(
    done: Rationales, source: ClearData, out: Path, made_by: Mapping[str, Any], licences: Mapping[str, Any]
) -> None:
    asked = {question.id: question.text for document in done.documents for question in document.questions}
    checks = [
        {"question": asked[name], "completion": check.completion, "reason": check.reason}
        for name, check in done.verdicts.items()
    ]
    kept = [
        {**question_sample(document, one), "rationale": one.rationale}
        for document in done.documents
        for one in document.questions
        if one.rationale is not None
    ]
    teacher = made_by if "endpoint" in made_by else made_by.get("teacher")
    write_page_of(
        out,
        {"teacher": teacher, "sources": [source.data.describe()], "against": source.against, "licences": licences},
        conclusion=f"{done.num_kept:,} of {count(len(checks), 'question')} have a rationale.",
        dropped={"documents": source.dropped, "rationales": dropped(checks, REASONS, ("question", "completion"))},
        kept=kept,
        tables=[usage_table(made_by["used"], made_by["cost"])] if "used" in made_by else [],
    )


def write_questions(documents: Sequence[Document], out: Path) -> int:
    """Write questions about documents, as SQuAD v2 or JSON Lines by the file's ending.

    Returns:
        The number of questions.

    Raises:
        RunError: the file cannot be written.
    """
    documents = tuple(documents)
    out.parent.mkdir(parents=True, exist_ok=True)
    run.write_text(out, dump_squad(documents) if out.suffix == ".json" else dump_rows(documents))
    return sum(len(document.questions) for document in documents)


def dropped(records: Iterable[Line], reasons: Mapping[str, str], shown: Sequence[str]) -> dict[str, dict[str, Any]]:
    """How many records were dropped for each reason that occurs, what it means, and the first few.

    Args:
        records: all of them. Those that were kept have an empty `reason`.
        reasons: what each reason means.
        shown: the keys of the records to show.
    """
    found: dict[str, dict[str, Any]] = {}
    gone = [record for record in records if record["reason"]]
    for reason, meaning in reasons.items():
        same = [record for record in gone if record["reason"] == reason]
        if same:
            examples = [{key: one[key] for key in shown if one.get(key) is not None} for one in same[:_NUM_EXAMPLES]]
            found[reason] = {"number": len(same), "meaning": meaning, "examples": examples}
    return found
