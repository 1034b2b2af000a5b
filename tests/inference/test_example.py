"""An example to look at: packed as training packs it, and counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palmette.errors import DataError
from palmette.inference.example import training_example


def test_a_document_with_its_questions(tiny_folder: Path) -> None:
    """With n questions, rows of their own would hold the trunk n - 1 times more than the packed row does."""
    example = training_example(str(tiny_folder), None, 1, 3)
    row = example.batch.rows[0]
    trunk = sum(node == row.node[0] for node in row.node)
    assert example.kind == "question"
    assert len(set(row.node)) == 4
    assert example.num_unpacked - len(row) == 2 * trunk > 0
    assert example.num_learned == sum(weight == 1.0 for weight in row.learn) > 0


def test_one_question_gains_nothing(tiny_folder: Path) -> None:
    example = training_example(str(tiny_folder), "builtin:dev", 2, 1)
    assert example.num_unpacked == len(example.batch.rows[0])


def test_a_conversation_is_told_by_its_file(tiny_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "chat.jsonl"
    turns = [{"role": "user", "content": "When does it leave?"}, {"role": "assistant", "content": "At noon."}]
    data.write_text(json.dumps({"messages": turns}) + "\n")
    assert training_example(str(tiny_folder), str(data), 1, 2).kind == "conversation"
    with pytest.raises(DataError, match="has 1 conversations, no number 2"):
        training_example(str(tiny_folder), str(data), 2, 2)


def test_a_document_that_is_not_there_is_told_before_a_model_is_looked_for() -> None:
    with pytest.raises(DataError, match="has 70 documents, no number 71"):
        training_example("no/such-model", "builtin:train", 71, 1)
