"""Prompts of files and our own, and answers that tell their model."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from palmette.arena.folder import write_prompts
from palmette.arena.naming import named, names_of
from palmette.arena.prompts import Prompt, read_prompts
from palmette.errors import DataError


def test_our_own_prompts_are_thirty_in_each_language() -> None:
    prompts = read_prompts("builtin")
    assert Counter(one.language for one in prompts) == {"English": 30, "Russian": 30}
    assert len({one.turns for one in prompts}) == 60
    assert len({one.category for one in prompts}) == 8
    for one in prompts:
        cyrillic = sum("\u0430" <= letter <= "\u044f" for letter in one.turns[0].lower())
        assert (cyrillic > len(one.turns[0]) / 4) == (one.language == "Russian"), one.id
        assert len(one.turns[0]) <= 200


def test_prompts_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "Why?", "language": "English"}, {"question_id": 81, "turns": ["One.", "Two."], "category": "a"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    first, second = read_prompts(str(path))
    assert (first.turns, first.language) == (("Why?",), "English")
    assert second == Prompt("81", ("One.", "Two."), "", "a")


def test_a_prompt_with_a_document(tmp_path: Path) -> None:
    """The columns of SQuAD. What is written into an arena's folder is read from it again."""
    path = tmp_path / "prompts.jsonl"
    row = {
        "id": "5733be28",
        "question": "Why?",
        "context": "Since it rains.",
        "answers": {"text": [], "answer_start": []},
    }
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    [prompt] = read_prompts(str(path))
    assert prompt == Prompt("5733be28", ("Why?",), document="Since it rains.")
    assert prompt.messages == ("Since it rains.\n\nWhy?",)
    write_prompts(tmp_path, [prompt, Prompt("b", ("How?",))])
    assert read_prompts(str(tmp_path / "prompts.jsonl")) == [prompt, Prompt("b", ("How?",))]
    assert "document" not in Prompt("b", ("How?",)).record()


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"text": "Why?"}], "row 1: 'prompt' is null, not a text"),
        ([{"prompt": "Why?"}, {"turns": ["One.", " "]}], "row 2: 'turns' is"),
        ([{"prompt": "Why?", "id": ["a"]}], "row 1 has the id"),
        ([{"prompt": "Why?", "category": ["a"]}], "row 1: 'category' is"),
        ([{"prompt": "Why?", "category": "\ud800"}], "row 1: 'category'"),
        ([{"question": "Why?", "context": " "}], "row 1: 'context' is"),
        ([{"turns": ["One.", "Two."], "context": "A text."}], "row 1 has a document and 2 messages"),
        ([{"prompt": "Why?", "id": "a"}, {"prompt": "How?", "id": "a"}], 'two prompts with the id "a"'),
    ],
)
def test_a_row_that_is_no_prompt_is_named(tmp_path: Path, rows: list[dict[str, object]], problem: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_prompts(str(path))
    assert problem.replace('"', "'") in caught.value.problem.replace('"', "'")


@pytest.mark.parametrize(
    ("reply", "model", "base", "found"),
    [
        ("I am SmolLM2 135M Instruct.", "HuggingFaceTB/SmolLM2-135M-Instruct", "", "SmolLM2 135M Instruct"),
        ("My name is Qwen.", "runs/a", "Qwen/Qwen2.5-0.5B-Instruct", "Qwen"),
        ("As an AI made by OpenAI, I cannot.", "runs/a", "", "OpenAI"),
        ("Hi! I'm Claude, an assistant.", "runs/a", "", "I'm Claude"),
        ("Я — ГигаЧат.", "runs/a", "", "ГигаЧат"),
        ("Ask horsetail.", "runs/horsetail", "", "horsetail"),
        ("Claude Monet painted it.", "runs/a", "", None),
        ("The horsetails grow.", "runs/horsetail", "", None),
        ("This is the final test of a base model.", "runs/final", "", None),
        ("Reading runs in the family.", "runs/a", "", None),
    ],
)
def test_answers_that_tell_their_model(reply: str, model: str, base: str, found: str | None) -> None:
    assert named([reply], ["Who are you?"], names_of(model, base)) == found


def test_a_name_that_the_prompt_holds_is_no_sign() -> None:
    assert named(["OpenAI made ChatGPT."], ["Who made ChatGPT, OpenAI or others?"], ()) is None
    assert named(["OpenAI made it."], ["Who made it?"], ()) == "OpenAI"
