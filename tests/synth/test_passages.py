"""Documents cut into passages: where they end, that nothing is lost, and what is left out and counted."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palmette.decode.spans import words
from palmette.errors import DataError
from palmette.synth.passages import cut_passages, read_passages

PARAGRAPH = "The kiln on the hill was fired at nine by Ada and Ben. It was opened the next day, when it was cold again."


def pieces(text: str, most: int) -> list[str]:
    return [text[start:end] for start, end in cut_passages(text, most)]


def test_a_passage_ends_with_a_paragraph_a_line_a_sentence_or_a_word() -> None:
    assert pieces("a b.\n\nc d.\n\ne f.", 6) == ["a b.\n\nc d.", "e f."]
    assert pieces("a b c d\ne f g h", 5) == ["a b c d", "e f g h"]
    assert pieces("Ab cd. Ef gh. Ij kl.", 6) == ["Ab cd. Ef gh.", "Ij kl."]
    assert pieces("a b c d e", 2) == ["a b", "c d", "e"]


def test_a_passage_that_is_half_full_ends_at_a_heading() -> None:
    """Signs count as words: 5, 3 and 6 of them."""
    text = "a b c d.\n\n## Next\n\ne f g h i."
    assert pieces(text, 10) == ["a b c d.", "## Next\n\ne f g h i."]
    assert pieces(text, 14) == [text]
    assert pieces(text + "\n\nj k.", 12) == ["a b c d.", "## Next\n\ne f g h i.\n\nj k."]  # none ends a passage
    assert pieces(text, 8) == ["a b c d.", "## Next", "e f g h i."]  # unless it fits with nothing


@given(st.text(alphabet="ab .\n#A", max_size=120), st.integers(1, 12))
def test_passages_hold_every_word_once_and_no_more_than_the_limit(text: str, most: int) -> None:
    cut = cut_passages(text, most)
    assert all(0 <= start < end <= len(text) for start, end in cut)
    assert all(before[1] <= after[0] for before, after in pairwise(cut))
    inside = [text[start:end] for start, end in cut]
    assert "".join("".join(inside).split()) == "".join(text.split())
    assert all(len(words(piece)) <= most and piece == piece.strip() for piece in inside)


def test_what_is_left_out_is_counted_with_its_reason(tmp_path: Path) -> None:
    texts = [
        PARAGRAPH,
        PARAGRAPH.upper(),
        "Too short.",
        "An evaluation set knows this: " + PARAGRAPH.replace("Ada", "Eve"),
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "eval.jsonl").write_text(json.dumps({"text": "the hill was fired at nine by Eve and Ben. It was"}))
    found = read_passages([str(tmp_path / "a.jsonl")], most_words=100, against=[str(tmp_path / "eval.jsonl")])
    assert [passage.text for passage in found.passages] == [PARAGRAPH]
    assert found.passages[0].title.endswith("a.jsonl, row 1")
    assert found.passages[0].id == found.passages[0].title + "#0"
    assert found.num_dropped == {
        "document: exact duplicate": 1,
        "document: in an evaluation set": 1,
        "passage: too short": 1,
    }
    with pytest.raises(DataError, match="no passage of 20 words or more"):
        read_passages([str(tmp_path / "eval.jsonl")], most_words=100)
