"""The contracts of CUAD v1 (Contract Understanding Atticus Dataset, CC BY 4.0), which is not part of the project.

A folder has master_clauses.csv and full_contract_txt/. A field of a contract is known by the passages that CUAD marks.
For the governing law, the law alone that CUAD names in the marked sentence counts as well.

    python benchmarks/cuad.py CUAD labels.jsonl     # labels of contracts to learn from, for `palmette extract --learn`
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from palmette.decode.spans import words
from palmette.tasks.answer_match import exact_match, normalize_answer, token_f1

SCHEMA = Path(__file__).with_name("extraction.yaml")
COLUMNS = {
    "document_name": "Document Name",
    "parties": "Parties",
    "agreement_date": "Agreement Date",
    "effective_date": "Effective Date",
    "expiration": "Expiration Date",
    "governing_law": "Governing Law",
    "notice_period": "Notice Period To Terminate Renewal",
    "anti_assignment": "Anti-Assignment",
    "cap_on_liability": "Cap On Liability",
    "audit_rights": "Audit Rights",
}
CLAUSES = ("expiration", "governing_law", "notice_period", "anti_assignment", "cap_on_liability", "audit_rights")
LONGEST = 30  # words of a value that is learned, as the decoder counts them, and of one that it gives
Part = Literal["learn", "calibrate", "test"]


@dataclass(frozen=True)
class Contract:
    """A contract.

    Attributes:
        name: its file without the ending.
        path: its file.
        text: its text.
        known: the marked passages of each field. Empty where the contract does not hold it.
    """

    name: str
    path: Path
    text: str
    known: dict[str, list[str]]


def contracts(folder: Path) -> list[Contract]:
    """All contracts for which there are labels, in the order of their names."""
    with (folder / "master_clauses.csv").open(encoding="utf-8-sig") as stream:
        rows = {_stem(row["Filename"]): row for row in csv.DictReader(stream)}
    found = []
    for path in sorted((folder / "full_contract_txt").iterdir()):
        if (row := rows.get(_stem(path.name))) is not None:
            known = {field: ast.literal_eval(row[column]) for field, column in COLUMNS.items()}
            known["governing_law"] += _law(row["Governing Law-Answer"], known["governing_law"])
            found.append(Contract(path.stem, path, path.read_text(encoding="utf-8", errors="replace"), known))
    return found


def _stem(name: str) -> str:
    return Path(name).stem.replace("&", "_")


def _law(named: str, marked: Sequence[str]) -> list[str]:
    """The law as it stands in a marked sentence: "Delaware"."""
    return [named] if named.strip() and any(named in sentence for sentence in marked) else []


def part(known: Sequence[Contract], name: Part, most_characters: int | None = None) -> list[Contract]:
    """The contracts of a part, the shortest first.

    Every second contract is tested. Of the others, every third is kept to calibrate on, and the rest is learned.

    Args:
        known: all contracts.
        name: the part.
        most_characters: leave out longer ones.
    """
    rest = known[0::2]
    parts = {
        "test": known[1::2],
        "calibrate": rest[2::3],
        "learn": [one for index, one in enumerate(rest) if index % 3 != 2],
    }
    chosen = [one for one in parts[name] if most_characters is None or len(one.text) <= most_characters]
    return sorted(chosen, key=lambda one: (len(one.text), one.name))


def accepted(found: str, known: Sequence[str]) -> bool:
    """Whether a person would accept a value: it is a marked passage, or every word of it stands in one."""
    words_of = f" {normalize_answer(found)} "
    return bool(words_of.strip()) and any(words_of in f" {normalize_answer(one)} " for one in known)


def exact(found: str, known: Sequence[str]) -> float:
    """SQuAD's exact match against the nearest marked passage. 0 for no value."""
    return exact_match(found, known) if found else 0.0


def f1(found: str, known: Sequence[str]) -> float:
    """SQuAD's F1 against the nearest marked passage. 0 for no value."""
    return token_f1(found, known) if found else 0.0


def labels(known: Sequence[Contract]) -> Iterator[dict[str, Any]]:
    """The rows of a file of labels.

    A passage that is longer than a value may be is cut to its first words. Of the governing law, the law alone is
    learned where it is known. Of a field without `many`, the passage that stands first.
    """
    for contract in known:
        for field, passages in contract.known.items():
            values = passages[-1:] if field == "governing_law" else passages
            places = sorted((contract.text.find(one), one) for one in values)
            if field == "governing_law" and places and len(passages) > 1:  # within the marked sentence
                sentence = contract.text.find(passages[0])
                places = [(contract.text.find(values[0], max(sentence, 0)), values[0])]
            places = [(start, one) for start, one in places if start >= 0]
            for start, one in places if field == "parties" else places[:1]:
                row = {"document": str(contract.path), "field": field, "value": cut(one), "start": start}
                yield row
            if not passages:
                yield {"document": str(contract.path), "field": field}


def cut(passage: str) -> str:
    """A passage, or its first words."""
    ends = [end for _, end in (word[:1] + word[-1:] for word in words(passage))]
    return passage[: ends[LONGEST - 1]] if len(ends) > LONGEST else passage


def main() -> None:
    """Write labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder of CUAD")
    parser.add_argument("out", type=Path)
    parser.add_argument("--most-characters", type=int, help="leave out longer contracts")
    options = parser.parse_args()
    chosen = part(contracts(options.folder.resolve()), "learn", options.most_characters)
    rows = list(labels(chosen))
    options.out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{len(rows)} labels of {len(chosen)} contracts with {sum(len(one.text) for one in chosen):,} characters")


if __name__ == "__main__":
    main()
