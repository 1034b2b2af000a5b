"""Fields of real contracts, by a schema: how many are found, how many are left empty rightly, and how long it takes.

The contracts are those of CUAD v1 (Contract Understanding Atticus Dataset, CC BY 4.0), which is not part of the
project: a folder with master_clauses.csv and full_contract_txt/. The first contracts by file name are read, and the
schema is extraction.yaml beside this script.

    python benchmarks/extraction.py CUAD --model reader --contracts 10 --json result.json

A value is *exact* if it equals one of CUAD's annotated spans after the normalisation of SQuAD (lower case, no
punctuation, no articles), and F1 counts the words it shares with the nearest of them. *Inside* counts values of which
every word stands in an annotated span, since CUAD marks a whole sentence where a schema asks for a word. *Candidate
inside* counts the same for the most probable span, whether or not it was given. A person sees it beside a refusal. For
a field with several values the most probable one counts, and *list F1* is the harmonic mean of precision and recall
over exact values. *Left empty* counts the fields that CUAD marks as absent and that got no value.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import palmette
from palmette.extraction.job import extract
from palmette.extraction.values import FieldResult
from palmette.tasks.answer_match import exact_match, normalize_answer, token_f1

SCHEMA = Path(__file__).with_name("extraction.yaml")
COLUMNS = {
    "document_name": "Document Name",
    "parties": "Parties",
    "agreement_date": "Agreement Date",
    "effective_date": "Effective Date",
    "expiration": "Expiration Date",
    "governing_law": "Governing Law",
}


@dataclass(frozen=True)
class Outcome:
    """What one field of one contract came to. Without known spans the field is absent."""

    contract: str
    field: str
    known: list[str]
    found: list[str]
    best: str
    candidate: str
    value: str | None
    reason: str
    probability: float | None
    absent_probability: float | None
    certified: bool


def contracts(folder: Path, number: int) -> Iterator[tuple[str, str, dict[str, list[str]]]]:
    """The first contracts by file name: the name, the text, and the annotated spans of each field."""
    with (folder / "master_clauses.csv").open(encoding="utf-8") as stream:
        rows = {Path(row["Filename"]).stem: row for row in csv.DictReader(stream)}
    files = sorted(path for path in (folder / "full_contract_txt").iterdir() if path.stem in rows)
    for path in files[:number]:
        row = rows[path.stem]
        known = {field: ast.literal_eval(row[column]) for field, column in COLUMNS.items()}
        yield path.stem, path.read_text(encoding="utf-8", errors="replace"), known


def outcome(contract: str, known: list[str], result: FieldResult) -> Outcome:
    """What a field came to."""
    best = max(result.values, key=lambda one: one.probability, default=None)
    return Outcome(
        contract,
        result.name,
        known,
        [one.text for one in result.values],
        best.text if best else "",
        result.candidates[0]["text"] if result.candidates else "",
        best.value if best else None,
        result.reason,
        best.probability if best else None,
        result.absent_probability,
        result.certified,
    )


def figures(outcomes: list[Outcome]) -> dict[str, Any]:
    """The figures of one field, or of all."""
    present = [one for one in outcomes if one.known]
    absent = [one for one in outcomes if not one.known]
    answered = [one for one in present if one.found]
    return {
        "present": len(present),
        "answered": len(answered),
        "exact": round(sum(exact_match(one.best, one.known) for one in present)),
        "inside": sum(_inside(one.best, one.known) for one in present),
        "candidate inside": sum(_inside(one.candidate, one.known) for one in present),
        "F1": round(100 * mean(token_f1(one.best, one.known) for one in present), 1) if present else None,
        "list F1": round(100 * mean(map(_list_f1, present)), 1) if present else None,
        "absent": len(absent),
        "left empty": sum(not one.found for one in absent),
        "certified": sum(one.certified for one in outcomes),
    }


def _inside(found: str, known: list[str]) -> bool:
    words = f" {normalize_answer(found)} "
    return bool(words.strip()) and any(words in f" {normalize_answer(one)} " for one in known)


def _list_f1(one: Outcome) -> float:
    known, found = ({normalize_answer(text) for text in texts} for texts in (one.known, one.found))
    return 2 * len(known & found) / (len(known) + len(found)) if known or found else 1.0


def main() -> None:
    """Read the contracts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the folder of CUAD")
    parser.add_argument("--model", default="reader")
    parser.add_argument("--contracts", type=int, default=10)
    parser.add_argument("--json", type=Path, help="write every outcome here")
    options = parser.parse_args()
    reader = palmette.load(options.model)
    outcomes: list[Outcome] = []
    seconds: list[tuple[int, float]] = []
    for name, text, known in contracts(options.folder, options.contracts):
        started = time.perf_counter()
        results = extract(reader, SCHEMA, text)
        seconds.append((len(text), time.perf_counter() - started))
        outcomes += [outcome(name, known[field], results[field]) for field in COLUMNS]
        print(f"{name[:60]}: {len(text):,} characters, {seconds[-1][1]:.1f} s", flush=True)
        if options.json:
            options.json.write_text(json.dumps([asdict(one) for one in outcomes], indent=1, ensure_ascii=False))
    table = {field: figures([one for one in outcomes if one.field == field]) for field in COLUMNS}
    table["all"] = figures(outcomes)
    print("| field | " + " | ".join(table["all"]) + " |\n|---|" + "---:|" * len(table["all"]))
    for field, row in table.items():
        print(f"| {field} | " + " | ".join(str(value) for value in row.values()) + " |")
    total = sum(second for _, second in seconds)
    print(
        f"{total / len(seconds):.1f} s a contract, {sum(size for size, _ in seconds) / total:,.0f} characters a second"
    )


if __name__ == "__main__":
    main()
