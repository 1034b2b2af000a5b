"""Data of one kind where another is needed: each pair is refused with what it is, and what takes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palmette.arena.votes import read_votes
from palmette.corpus.sources import open_source
from palmette.data.chat import read_chat
from palmette.data.kinds import KINDS, Kind, kind_of
from palmette.data.preference_sets import read_comparisons, read_verdicts
from palmette.data.source import read_source
from palmette.data.stream import read_rows
from palmette.errors import DataError
from palmette.synth.verdicts import read_judged
from palmette.tasks.qa_prompt import load_prompt

TEXT = "The ferry leaves at 7:40."
ASKED = {"role": "user", "content": "When?"}
ROWS: dict[Kind, list[dict[str, Any]]] = {
    "questions": [
        {"question": "When?", "context": TEXT, "answers": ["7:40"]},
        {"question": "When?", "document": TEXT, "answers": [], "id": "a"},
    ],
    "texts": [{"text": TEXT}, {"text": TEXT, "id": "a", "meta": {"source": "b"}}],
    "conversations": [
        {"messages": [ASKED, {"role": "assistant", "content": "At 7:40."}]},
        {"conversations": [{"from": "human", "value": "When?"}, {"from": "gpt", "value": "At 7:40."}]},
        {"prompt": "When?", "completion": "At 7:40."},
    ],
    "preferences": [
        {"prompt": "When?", "chosen": "At 7:40.", "rejected": "Go!"},
        {"prompt": "When?", "ranked": ["At 7:40.", "Go!"]},
        {"prompt": "When?", "completions": ["At 7:40.", "Go!"], "scores": [1.0, 0.0]},
    ],
    "verdicts": [
        {"prompt": "When?", "completion": "At 7:40.", "label": True},
        {"prompt": [ASKED], "completion": "Go!", "label": False},
    ],
    "votes": [
        {
            "model_a": "elm",
            "model_b": "fir",
            "winner": "model_a",
            "conversation_a": [ASKED, {"role": "assistant", "content": "At 7:40."}],
            "conversation_b": [ASKED, {"role": "assistant", "content": "Go!"}],
        },
        {"left": "elm", "right": "fir", "winner": "fir", "prompt": "When?", "answer_a": "Go!", "answer_b": "At 7:40."},
    ],
    "judged answers": [
        {"question": "q1", "answer": "7:40", "label": True},
        {"id": "q1", "prediction": {"text": "7:40"}, "label": False},
    ],
}
READERS: dict[Kind, Callable[[str], object]] = {
    "questions": read_source,
    "conversations": read_chat,
    "preferences": read_comparisons,
    "verdicts": read_verdicts,
    "votes": read_votes,
    "texts": lambda source: list(open_source(source).open()),
    "judged answers": lambda source: read_judged(source, (), load_prompt("plain")),
}
# Verdicts may name the prompt instead of the question, and votes become pairs and verdicts.
TAKEN = {("judged answers", "verdicts"), ("preferences", "votes"), ("verdicts", "votes")}
PAIRS = [
    (needed, given, index)
    for needed in READERS
    for given, rows in ROWS.items()
    for index in range(len(rows))
    if given != needed and (needed, given) not in TAKEN
]


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_every_kind_has_rows_and_a_reader() -> None:
    assert set(ROWS) == set(READERS) == set(KINDS)
    assert len(PAIRS) > 40


@pytest.mark.parametrize(("kind", "row"), [(kind, row) for kind, rows in ROWS.items() for row in rows])
def test_a_row_shows_its_kind(kind: Kind, row: dict[str, Any]) -> None:
    assert kind_of(row) == kind
    assert kind_of({**row, "id": "x", "chosen": row.get("chosen"), "messages": row.get("messages")}) == kind


@pytest.mark.parametrize("kind", ["questions", "texts", "conversations", "preferences", "verdicts", "votes"])
def test_a_reader_takes_every_form_of_its_own_kind(kind: Kind, tmp_path: Path) -> None:
    for row in ROWS[kind]:
        READERS[kind](written(tmp_path / "rows.jsonl", [row]))


@pytest.mark.parametrize(("needed", "given", "index"), PAIRS)
def test_another_kind_is_refused_with_what_it_is_and_what_takes_it(
    needed: Kind, given: Kind, index: int, tmp_path: Path
) -> None:
    source = written(tmp_path / "rows.jsonl", [ROWS[given][index]] * 2)
    with pytest.raises(DataError) as caught:
        READERS[needed](source)
    assert caught.value.problem.startswith(f"{source} holds {KINDS[given].title}, and {KINDS[needed].title}")
    assert KINDS[given].uses in caught.value.way_out
    assert KINDS[needed].columns in caught.value.way_out
    assert "palmette " in KINDS[given].uses


@pytest.mark.parametrize("given", [kind for kind in ROWS if kind != "questions"])
def test_a_row_to_predict_that_is_of_another_kind_says_so(given: Kind) -> None:
    (row,) = read_rows([json.dumps(ROWS[given][0]).encode()])
    assert f"the input: line 1 is data of another kind, {KINDS[given].title}." in row.error
    assert KINDS[given].uses in row.error


@pytest.mark.parametrize("needed", ["conversations", "preferences", "verdicts"])
@pytest.mark.parametrize("source", ["builtin:dev", "squad.json"])
def test_squad_data_where_rows_are_needed(needed: Kind, source: str, tmp_path: Path) -> None:
    if source == "squad.json":
        paragraphs = [{"context": TEXT, "qas": []}]
        path = tmp_path / source
        path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "", "paragraphs": paragraphs}]}, indent=1))
        source = str(path)
    with pytest.raises(DataError, match="holds questions about documents, and other data are needed here"):
        READERS[needed](source)


def test_one_stray_row_does_not_make_a_file_another_kind(tmp_path: Path) -> None:
    source = written(tmp_path / "rows.jsonl", [ROWS["questions"][0], *ROWS["preferences"][:2]])
    kept = read_comparisons(source, on_bad_record="drop")
    assert (len(kept.records), len(kept.dropped)) == (2, 1)


def test_rows_that_lack_a_column_are_told_what_they_lack(tmp_path: Path) -> None:
    """A record that may be meant as what is needed is checked as that, and no kind is guessed."""
    bare = written(tmp_path / "bare.jsonl", [{"question": "When?"}])
    with pytest.raises(DataError, match="no 'context'"):
        read_source(bare)
    unlabelled = written(tmp_path / "label.jsonl", [{"prompt": "When?", "completion": "At 7:40.", "label": 1}])
    with pytest.raises(DataError, match="'label' is 1, not true or false"):
        read_verdicts(unlabelled)


def test_a_table_of_another_kind_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "p.csv"
    table.write_text("prompt,chosen,rejected\nWhen?,At 7:40.,Go!\n")
    with pytest.raises(DataError, match="holds preferences, and questions about documents are needed here"):
        read_source(str(table))
    read_comparisons(str(table))
