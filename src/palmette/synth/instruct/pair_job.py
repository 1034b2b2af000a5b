"""Questions and answers that stand in texts as a file of conversations, in a job that continues where it was stopped.

A conversation is the passage with the question, and the answer. All conversations about a passage begin with it, so it
is the shared trunk of their tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from palmette import run
from palmette.data.records import Document
from palmette.errors import DataError
from palmette.files import expand
from palmette.numbers import count as counted
from palmette.progress import Say
from palmette.synth.instruct.faults import REQUESTS
from palmette.synth.instruct.job import check_conversations, leak_check, say_dropped, tasks_of
from palmette.synth.instruct.pairs import PAIRS, PROMPT_SHA256, pair_lines
from palmette.synth.instruct.settings import PairSettings
from palmette.synth.passages import Passages
from palmette.synth.rationale_file import dropped, dump, report_of
from palmette.synth.work import Line, begin_work, held_work
from palmette.synth.writers import Writer

_TEXTS = {"failed": REQUESTS["failed"], "no pairs": "the text holds no question"}


def write_pairs(
    passages: Passages,
    out: Path,
    settings: PairSettings,
    open_writer: Callable[[], Writer],
    say: Say,
    *,
    against: Sequence[str] = (),
    licence: str | None = None,
) -> None:
    """Find questions and answers in passages and write them. A job that was stopped continues.

    Args:
        passages: the passages of documents.
        out: the .jsonl to write. Until it exists, a work file beside it holds what is finished.
        settings: how many are asked for, and which are kept.
        open_writer: opens what writes them. It is called once the output is checked.
        say: called with lines about what was found.
        against: evaluation sets. What shares 8 words in a row with one is dropped.
        licence: the licence of what the writer writes, for the report.

    Raises:
        RunError: the output exists, is being written by another process, was begun with other settings, or cannot be
            written.
        DataError: an evaluation set cannot be read, or nothing is kept. The report is written then.
        PalmetteError: the writer cannot be used.
    """
    out = expand(out)
    check_conversations(out)
    is_leaked = leak_check(against)
    with held_work(out) as work:
        writer = open_writer()
        about = {
            "settings": asdict(settings),
            "writer": writer.identity,
            "prompt_sha256": PROMPT_SHA256,
            "sources": passages.identities,
            "reading": passages.settings,
        }
        done = begin_work(work, about)
        lines = pair_lines(passages.passages, writer, settings, is_leaked, work, done)
        record = _counts(lines)
        head = {**run.environment(), **about, "licence": licence, **passages.as_record()}
        run.write_json(report_of(out), {**head, **record})
        run.write_text(tasks_of(out), dump({"passage": line["id"], **pair} for line in lines for pair in line["pairs"]))
        _summarize(passages, record, say)
        if not record["kept"]:
            raise DataError(
                "nothing was kept", f"See {report_of(out)} for the reasons. A more capable --writer may help."
            )
        run.write_text(out, dump(_conversations(passages.passages, lines)))
        work.unlink()
    say(
        f"{counted(record['kept'], 'conversation')} in {out}. The report is {report_of(out)}, and every question is in "
        f"{tasks_of(out)}."
    )


def _conversations(passages: Sequence[Document], lines: Sequence[Line]) -> Iterator[Mapping[str, Any]]:
    for passage, line in zip(passages, lines, strict=True):
        for pair in line["pairs"]:
            if not pair["reason"]:
                asked = {"role": "user", "content": f"{passage.text}\n\n{pair['question']}"}
                answer = {"role": "assistant", "content": pair["answer"]}
                place = {"document": passage.title, **pair["place"]}
                yield {"id": pair["id"], "messages": [asked, answer], "place": place}


def _counts(lines: Sequence[Line]) -> dict[str, Any]:
    """What was written, kept and dropped, as JSON holds it."""
    pairs = [pair for line in lines for pair in line["pairs"]]
    kept = [sum(not pair["reason"] for pair in line["pairs"]) for line in lines]
    return {
        "found": len(pairs),
        "kept": sum(kept),
        "passages_with_questions": sum(number > 0 for number in kept),
        "tokens_written": sum(line["tokens"] or 0 for line in lines),
        "dropped": {
            "texts": dropped(lines, _TEXTS, ("text",)),
            "pairs": dropped(pairs, PAIRS, ("question", "answer")),
        },
    }


def _summarize(passages: Passages, record: Mapping[str, Any], say: Say) -> None:
    for reason, number in passages.num_dropped.items():
        say(f"  left out: {number:,} {reason}")
    for unit, reasons in record["dropped"].items():
        say_dropped(unit, reasons, say)
    say(
        f"{record['kept']:,} of {record['found']:,} questions are kept, about {record['passages_with_questions']:,} of "
        f"{counted(len(passages.passages), 'passage')}. {record['tokens_written']:,} tokens were written."
    )
