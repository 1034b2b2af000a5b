"""The benchmark of contracts: which are learned and tested, what is learned, and what the figures say."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from palmette.data.records import Answer, Document, Question
from palmette.decode.posterior import Decision, WindowScores
from palmette.decode.spans import words
from palmette.extraction.labels import read_labels
from palmette.extraction.schema import read_schema
from tests.support.scripts import benchmark_scripts

NAMES = ("cuad", "extraction_rules", "extraction")
LAW = "This Agreement is governed by the laws of the State of Delaware."


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """The modules."""
    with benchmark_scripts(NAMES) as modules:
        yield modules


@pytest.fixture
def folder(bench: SimpleNamespace, tmp_path: Path) -> Path:
    """Six contracts as CUAD has them. In one the name of the file is written otherwise, and one has no labels."""
    texts = tmp_path / "full_contract_txt"
    texts.mkdir()
    columns = ["Filename", *bench.cuad.COLUMNS.values(), "Governing Law-Answer"]
    clause = "Neither party may assign " + "this Agreement " * 20 + "without consent."
    with (tmp_path / "master_clauses.csv").open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        for number in range(6):
            row = dict.fromkeys(columns, "[]") | {"Filename": f"C{number} A&B.pdf", "Parties": "['Mill', 'Ferry']"}
            row |= {"Governing Law": str([LAW]), "Governing Law-Answer": "Delaware", "Anti-Assignment": str([clause])}
            writer.writerow(row)
    for number in range(7):
        text = f"Delaware sends greetings. Mill and Ferry agree. {clause} {LAW}" + "x" * (6 - number)
        (texts / f"C{number} A_B.txt").write_text(text, encoding="utf-8")
    return tmp_path


def test_contracts_are_parted_so_that_none_is_in_two_parts(bench: SimpleNamespace, folder: Path) -> None:
    """0, 2 and 4 are not tested, and of them the third is kept. The shorter ones have the higher numbers."""
    known = bench.cuad.contracts(folder)
    assert [one.name for one in known] == [f"C{number} A_B" for number in range(6)]
    names = {name: [one.name[1] for one in bench.cuad.part(known, name)] for name in ("learn", "calibrate", "test")}
    assert names == {"learn": ["2", "0"], "calibrate": ["4"], "test": ["5", "3", "1"]}
    shortest = len(known[5].text)
    assert [one.name[1] for one in bench.cuad.part(known, "test", shortest)] == ["5"]


def test_labels_can_be_learned(bench: SimpleNamespace, folder: Path) -> None:
    """The law is that of the marked sentence, a long clause is cut to 30 words, and absent fields are absent."""
    chosen = bench.cuad.part(bench.cuad.contracts(folder), "calibrate")
    file = folder / "labels.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in bench.cuad.labels(chosen)))
    (document,) = read_labels(str(file), read_schema(bench.cuad.SCHEMA)).documents
    learned = {question.id.rpartition("/")[2]: question.answers for question in document.questions}
    assert [one.text for one in learned["parties"]] == ["Mill", "Ferry"]
    (law,) = learned["governing_law"]
    assert law.start == document.text.index(LAW) + LAW.index("Delaware") > document.text.index("Delaware")
    (clause,) = learned["anti_assignment"]
    assert len(words(clause.text)) == 30
    assert clause.text.startswith("Neither party may assign this Agreement")
    assert {field for field, answers in learned.items() if not answers} == {
        *("document_name", "agreement_date", "effective_date", "expiration", "notice_period"),
        *("cap_on_liability", "audit_rights"),
    }


@pytest.mark.parametrize(
    ("found", "known", "right"),
    [
        ("State of Delaware", [LAW], True),
        ("the Delaware", [LAW], True),  # articles do not count
        ("Delawar", [LAW], False),
        ("Iowa", [LAW], False),
        ("", [LAW], False),
        ("the", [LAW], False),
    ],
)
def test_what_a_person_would_accept(bench: SimpleNamespace, found: str, known: list[str], right: bool) -> None:
    assert bench.cuad.accepted(found, known) is right


def test_figures_count_values_of_what_is_there_and_refusals_of_what_is_not(bench: SimpleNamespace) -> None:
    """Of three known values one is exact, and one has one of its two words: F1 is 2/3. Half of the absent are empty."""
    pairs = [("Mill", ["Mill"]), ("Mill Ferry", ["Mill"]), ("", ["Mill"]), ("", []), ("Iowa", [])]
    assert bench.extraction_rules.figures(pairs) == {
        "present": 3,
        "given": 2,
        "exact": 1,
        "inside": 1,
        "F1": f"{100 * (1 + 2 / 3) / 3:.1f}",
        "absent": 2,
        "left empty": "50 %",
    }


def test_scores_of_windows_come_back_from_a_file(bench: SimpleNamespace) -> None:
    """Two windows: "Mill" has odds of 3 in the first alone, so 1.5 in both, and stands in the second's neighbour."""
    contract = bench.cuad.Contract("c", Path("c.txt"), "Mill and Ferry. It rains in Iowa.", {"parties": ["Iowa"]})
    windows = [WindowScores({"Mill": (0, 1.0986)}, -50.0, -60.0, 4), WindowScores({"Iowa": (28, 0.5)}, -50.0, -60.0, 4)]
    scores = {"parties": [bench.extraction.line_of(one) for one in windows]}
    line = {"contract": "c", "seconds": 1.0, "windows": [0, 16], "scores": scores}
    reading = bench.extraction_rules.Reading.of(json.loads(json.dumps(line)), {"c": contract})
    assert [text for text, _, _ in reading.posterior("parties").spans] == ["Mill", "Iowa"]
    assert reading.window_of("parties") == 1
    (only,) = reading.posterior("parties", 1).spans
    assert only == ("Iowa", 28, 0.5)
    field = next(one for one in read_schema(bench.cuad.SCHEMA).fields if one.name == "governing_law")
    forced = Decision(always_answer=True)
    assert bench.extraction_rules.value(forced, field, reading.posterior("parties")) == "Mill"


def test_a_case_is_right_where_a_person_would_accept_it(bench: SimpleNamespace) -> None:
    question = Question("q", "Which law?", (Answer(LAW, 0),))
    case = bench.extraction_rules.Accepted(Document("c", LAW, ()), question, None)
    assert case.right("Delaware")
    assert not case.right("")
    assert case.cost("Iowa", 2.0) == 2.0
    assert case.cost("", 2.0) == 1.0
