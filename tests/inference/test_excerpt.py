"""Passages around answers: whole short lines, long lines cut at blanks, and nothing that a terminal would act on."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from palmette.inference.excerpt import ELLIPSIS, MAX_LINES, SHORT_LINE, Line, excerpt, printable, whole

TEXT = """\
SERVICES AGREEMENT

The Client pays a monthly fee of EUR 4,000, due
within 30 days of the invoice.

Either party may end it.
"""


def place(text: str, answer: str) -> tuple[int, int]:
    start = text.index(answer)
    return start, start + len(answer)


def shown(text: str, answer: str) -> list[str]:
    return [line.text for line in excerpt(text, *place(text, answer))]


def marked(lines: tuple[Line, ...]) -> str:
    return " ".join(line.text[a:b] for line in lines for a, b in line.marks)


def test_a_short_line_has_its_neighbour_on_the_nearer_side() -> None:
    assert shown(TEXT, "EUR 4,000") == [
        "The Client pays a monthly fee of EUR 4,000, due",
        "within 30 days of the invoice.",
    ]
    assert shown(TEXT, "within 30 days")[0].startswith("The Client")
    # Blank lines are no context, so the other side is taken, or none.
    assert shown(TEXT, "Either") == ["Either party may end it."]
    assert shown("only", "only") == ["only"]
    assert shown("a\nb\nc", "b") == ["a", "b"]


def test_offsets_lead_to_the_lines() -> None:
    lines = excerpt(TEXT, *place(TEXT, "EUR 4,000"))
    assert [TEXT[line.offset :].split()[0] for line in lines] == ["The", "within"]
    assert marked(lines) == "EUR 4,000"


def test_an_answer_over_a_line_break_is_marked_on_both_lines() -> None:
    lines = excerpt(TEXT, *place(TEXT, "due\nwithin 30 days"))
    assert [line.text[a:b] for line in lines for a, b in line.marks] == ["due", "within 30 days"]
    assert len(lines) == 2


def test_a_long_line_is_cut_around_the_answer() -> None:
    text = "first " * 40 + "the cap is EUR 50,000 in any year " + "last " * 40
    (line,) = excerpt(text, *place(text, "EUR 50,000"))
    assert line.text.startswith(f"{ELLIPSIS}first ")
    assert line.text.endswith(f"last{ELLIPSIS}")
    assert len(line.text) < 170
    assert marked((line,)) == "EUR 50,000"
    assert not text[line.offset - 1].strip()
    begins = excerpt(text, 0, 5)[0]
    assert begins.text.startswith("first first")
    assert begins.text.endswith(ELLIPSIS)


def test_a_word_without_blanks_is_cut_all_the_same() -> None:
    (line,) = excerpt("x" * 5000, 2000, 2010)
    assert len(line.text) < 200
    assert marked((line,)) == "x" * 10


def test_a_long_answer_shows_few_lines() -> None:
    text = "\n".join(f"word {number}" for number in range(30))
    assert len(excerpt(text, 0, len(text))) == MAX_LINES


def test_control_characters_become_blanks() -> None:
    """The escape sequence would colour the terminal, the override would turn the text around. Joiners stay."""
    assert printable("a\x1b[31mb\x07\x9b\u202e\u2066c\r\td\xa0e\u200d") == "a [31mb    c  d e\u200d"
    assert printable("a\nb", keep="\n") == "a\nb"


@given(
    text=st.text(st.characters(codec="utf-8") | st.sampled_from(" \n\x1b\u202e"), min_size=1, max_size=400),
    data=st.data(),
)
def test_every_excerpt_shows_its_answer_and_no_control_character(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    for lines in (excerpt(text, start, end), tuple(whole(text, ((start, end),)))):
        for line in lines:
            assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in line.text)
            assert 0 <= line.offset <= len(text)
            assert all(0 <= a <= b for a, b in line.marks)
    lines = excerpt(text, start, end)
    if "\n" not in text[start:end] and text[start:end].strip():
        assert marked(lines).rstrip() == printable(text[start:end]).rstrip()
        assert len(lines) <= 2
    assert all(len(line.text) <= max(SHORT_LINE, end - start + 150) for line in lines)


def test_the_whole_document_has_its_marks() -> None:
    spans = (place(TEXT, "30 days"), place(TEXT, "EUR 4,000"))
    lines = tuple(whole(TEXT, spans))
    assert [line.text for line in lines] == TEXT.splitlines()
    assert [line.text[a:b] for line in lines for a, b in line.marks] == ["EUR 4,000", "30 days"]
