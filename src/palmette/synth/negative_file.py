"""Unanswerable questions that were added by rule, as a file that people can look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palmette import run
from palmette.data.altered import added_kind, with_negatives
from palmette.numbers import count as counted
from palmette.progress import Say
from palmette.synth.leaks import ClearData
from palmette.synth.licences import say_unknown
from palmette.synth.rationale_file import report_of, write_questions
from palmette.synth.showing import page_of, write_page_of


def write_negatives(
    source: ClearData,
    out: Path,
    say: Say,
    *,
    siblings: int,
    altered: int,
    seed: int,
    licences: Mapping[str, Any],
) -> None:
    """Add unanswerable questions to data and write all of them.

    Args:
        source: the data.
        out: the .jsonl, or SQuAD v2 .json, to write.
        say: called with lines about what was made.
        siblings: the most questions of other documents of its title that a document is asked.
        altered: the most questions of a document that are asked once more, altered by rule.
        seed: random seed.
        licences: those of the data, as far as they are known.

    Raises:
        RunError: a file cannot be written.
    """
    documents = with_negatives(source.data.documents, siblings=siblings, altered=altered, seed=seed)
    total = write_questions(documents, out)
    old = {question.id for document in source.data.documents for question in document.questions}
    new = [(document, one) for document in documents for one in document.questions if one.id not in old]
    kinds = Counter(added_kind(one.id) for _, one in new)
    told = ", ".join(f"{number:,} {kind}" for kind, number in sorted(kinds.items())) or "none"
    settings = {"siblings": siblings, "altered": altered, "seed": seed}
    record = {
        "settings": settings,
        "licences": licences,
        **source.as_record(),
        "questions": total,
        "added": dict(kinds),
    }
    run.write_json(report_of(out), {**run.environment(), **record})
    write_page_of(
        out,
        {**record, "sources": [source.data.describe()]},
        conclusion=f"{counted(total, 'question')}. Added as unanswerable: {told}.",
        dropped={"documents": source.dropped},
        kept=[
            {"question": one.text, "kind": added_kind(one.id), "asked about": document.text} for document, one in new
        ],
    )
    say_unknown(licences, say)
    say(f"{counted(total, 'question')} in {out}. Added as unanswerable: {told}. {page_of(out)} shows samples.")
