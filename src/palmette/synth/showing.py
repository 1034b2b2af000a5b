"""The page beside data that were made, from the record of the report."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from palmette.data.records import Document, Question
from palmette.numbers import NONE, fixed
from palmette.pages.made_data import Fact, Filter, MadeData, Table, write_made_data

MOST_SAMPLES = 20
_AROUND = 150  # characters


def page_of(out: Path) -> Path:
    """The page beside a file of data that were made."""
    return out.with_name(out.name + ".html")


def write_page_of(
    out: Path,
    record: Mapping[str, Any],
    *,
    conclusion: str,
    dropped: Mapping[str, Mapping[str, Mapping[str, Any]]],
    kept: Sequence[Mapping[str, Any]],
    tables: Iterable[Table] = (),
) -> None:
    """Write the page of a job.

    Args:
        out: the file of data.
        record: the report. Its writer, reader, teacher, sources, licences and tokens are shown where it has them.
        conclusion: what was kept, in a sentence.
        dropped: by what was dropped, then by reason, as `rationale_file.dropped` gives it.
        kept: everything that was kept, each as names and values to show.
        tables: further counts.

    Raises:
        RunError: the page cannot be written.
    """
    chosen = sorted(random.Random(0).sample(range(len(kept)), min(MOST_SAMPLES, len(kept))))
    effort = [_effort(record["before"], record["after"])] if "after" in record else []
    made = MadeData(
        title=f"Data made: {out.name}",
        conclusion=conclusion,
        facts=list(_facts(record)),
        tables=[*effort, *tables],
        filters={unit: [_filter(*item) for item in found.items()] for unit, found in dropped.items()},
        samples=[_texts(kept[index]) for index in chosen],
        kept=len(kept),
    )
    write_made_data(page_of(out), made)


def count_table(caption: str, counts: Mapping[str, int], head: tuple[str, str]) -> Table:
    """A table with a number for each name."""
    return Table(caption, head, [(name, f"{number:,}") for name, number in counts.items()])


def usage_table(used: Mapping[str, Any], cost: float | None) -> Table:
    """What a server was asked in a job, from the record of `Client.about`."""
    rows = [
        ("requests answered", f"{used['asked']:,}"),
        ("requests from the cache", f"{used['cached']:,}"),
        ("tokens read", f"{used['prompt_tokens']:,}"),
        ("tokens written", f"{used['completion_tokens']:,}"),
        ("cost", fixed(cost, 4)),
    ]
    return Table("What the teacher took", ("", "in this job"), rows)


def question_sample(document: Document, question: Question) -> dict[str, str]:
    """A question about a document for the page: the question, its answer, and the words around it."""
    if not question.answers:
        return {"document": document.title or document.id, "question": question.text, "answer": "(none)"}
    answer = question.answers[0]
    return {
        "document": document.title or document.id,
        "question": question.text,
        "answer": answer.text,
        "stands in": surroundings(document.text, answer.start, answer.start + len(answer.text)),
    }


def surroundings(text: str, start: int, end: int) -> str:
    """The words around a place of a text, on one line."""
    return f"… {' '.join(text[max(0, start - _AROUND) : end + _AROUND].split())} …"


def _facts(record: Mapping[str, Any]) -> Iterable[Fact]:
    for name in ("writer", "reader", "teacher"):
        if about := record.get(name):
            yield name.capitalize(), _who(about)
    licences = record.get("licences", {})
    if "writer" in licences:
        yield "Licence of the output", licences["writer"] or "not known"
    for one in record.get("sources", ()):
        licence = licences.get("sources", {}).get(one["source"])
        yield "Source", _identity({**one, "licence": licence or "not known"})
    yield from (("Kept clear of", _identity(one)) for one in record.get("against", ()))
    if settings := record.get("settings"):
        yield "Settings", [(name.replace("_", " "), str(value)) for name, value in settings.items()]


def _who(about: Any) -> str:
    if isinstance(about, str):
        return about
    where = f", at {about['endpoint']}" if "endpoint" in about else ""
    weights = f", weights {about['weights_sha256'][:12]}" if about.get("weights_sha256") else ""
    adapter = f", adapter {about['adapter_sha256'][:12]}" if about.get("adapter_sha256") else ""
    return f"{about.get('model', '')}{where}{weights}{adapter}"


def _identity(one: Mapping[str, Any]) -> str:
    """A source or an evaluation set, with its hash and what else is known of it."""
    known = {key: value for key, value in one.items() if key != "source"}
    if "sha256" in known:
        known["sha256"] = known["sha256"][:12]
    return f"{one['source']} ({', '.join(f'{key} {value}' for key, value in known.items())})"


def _effort(before: Mapping[str, Any], after: Mapping[str, Any]) -> Table:
    def money(value: float | None) -> str:
        return fixed(value, 4)

    def tokens(value: int | None) -> str:
        return NONE if value is None else f"{value:,}"

    rows = [
        ("tokens read", f"about {before['tokens_read']:,}", tokens(after["tokens_read"])),
        ("tokens written", f"at most {tokens(before['most_tokens_written'])}", tokens(after["tokens_written"])),
        ("cost", f"at most {money(before['most_cost'])}", money(after["cost"])),
    ]
    return Table("What the writer takes", ("", "before, if nothing is dropped", "after"), rows)


def _filter(reason: str, about: Mapping[str, Any]) -> Filter:
    return Filter(reason, about["meaning"], about["number"], [_texts(one) for one in about["examples"]])


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value not in (None, "")}
