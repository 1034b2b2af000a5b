"""Windows of an encoder: how they overlap, which answers they hold, and where their tokens stand."""

from __future__ import annotations

from typing import Any

import pytest

from palmette.baselines.span_scores import score_spans
from palmette.baselines.windows import Windowing, answer_tokens, learned_positions
from palmette.data.records import Answer, Question
from palmette.errors import DataError
from tests.support.encoders import TOWER, TOWER_PLACES, asked, byte_level, peaks, windows_of, word_piece


def test_windows_overlap_by_the_stride_and_label_whole_answers_only() -> None:
    """12 tokens less 3 control tokens less 4 of the question leave 5 of the document; each window begins 5 - 2 = 3
    further on.

    So the windows show tokens 0-4, 3-7 and 6-8, from index 6 on ([CLS], 4, [SEP]). "granite, and" is tokens 3-5: whole
    in the second window alone, at 6-8. "white" is token 6: in the second at 6 + 3, in the third at 6.
    """
    document = asked(TOWER, "Who built it?", "granite, and")
    windows = windows_of(document, Windowing(12, 2))
    shown = [[place for place in window.places if place is not None] for window in windows]
    assert shown == [TOWER_PLACES[0:5], TOWER_PLACES[3:8], TOWER_PLACES[6:9]]
    assert [window.places[6] for window in windows] == [TOWER_PLACES[0], TOWER_PLACES[3], TOWER_PLACES[6]]
    assert [window.cls for window in windows] == [0, 0, 0]
    assert windows[0].inputs["token_type_ids"] == [0] * 6 + [1] * 6
    assert learned_positions(windows, document.questions[0]) == [(0, 0), (6, 8), (0, 0)]
    assert answer_tokens(windows, Answer("white", 26)) == [(0, 0), (9, 9), (6, 6)]
    assert answer_tokens(windows, Answer(" white. ", 25)) == [(0, 0), (9, 10), (6, 7)]
    assert answer_tokens(windows, Answer("ran", 14)) == [(9, 9), (6, 6), (0, 0)], "part of a token stands for all of it"
    assert learned_positions(windows, Question("q", "Who built it?")) == [(0, 0)] * 3


def test_offsets_count_characters_and_not_bytes() -> None:
    """ "é" as e and a combining accent, an emoji that no vocabulary holds: tokens after them keep their characters."""
    text = "🙂 Cafe\u0301 costs 3, the tea 7."
    document = asked(text, "What?", "tea")
    (window,) = windows_of(document, Windowing(40, 8))
    ((first, last),) = learned_positions([window], document.questions[0])
    assert first == last
    assert window.places[first] == (text.index("tea"), text.index("tea") + 3)
    assert window.places[4] == (0, 1), "the emoji: one token, one character"
    answer = Answer("Cafe\u0301", 2)
    ((first, last),) = answer_tokens([window], answer)
    found = score_spans(text, [(window, *peaks(window, first, last))], max_answer_tokens=5)
    assert text[found.spans[0].start : found.spans[0].end] == "Cafe\u0301", (
        "the accent, which the tokenizer drops, stays"
    )


def test_a_letter_of_several_tokens_is_one_place() -> None:
    """The byte-level tokenizer has two tokens for "é": as an answer the first is its start, the second its end."""
    document = asked("a é b", "what", "é")
    (window,) = windows_of(document, Windowing(40, 8), byte_level())
    ((first, last),) = learned_positions([window], document.questions[0])
    assert last == first + 1
    assert window.places[first] == window.places[last] == (2, 3)


@pytest.mark.parametrize("tokenizer", [word_piece(), byte_level()], ids=["words", "bytes"])
def test_control_tokens_in_a_text_are_text(tokenizer: Any) -> None:
    names = f"{tokenizer.cls_token} {tokenizer.sep_token}"
    document = asked(f"The {names} tower", f"Who {names} built it?")
    (window,) = windows_of(document, Windowing(60, 8), tokenizer)
    pair = tokenizer("Who built it?", "The tower")["input_ids"]
    for control in (tokenizer.cls_token_id, tokenizer.sep_token_id):
        assert window.inputs["input_ids"].count(control) == pair.count(control) > 0
    shown = [place for place in window.places if place is not None]
    assert (shown[0][0], shown[-1][1]) == (0, len(document.text))


def test_a_question_that_leaves_no_room_is_named() -> None:
    with pytest.raises(DataError, match=r"question 'q' has 4 tokens; .* at most 3 are possible"):
        windows_of(asked(TOWER, "Who built it?"), Windowing(12, 5))


def test_an_answer_that_no_token_shows_is_named() -> None:
    document = asked("the \u200b tower", "Who?", "\u200b")
    with pytest.raises(DataError, match=r"question 'q' has the answer '\\u200b'"):
        learned_positions(windows_of(document, Windowing(40, 8)), document.questions[0])
