"""Cloze questions by constructed passages: which spans are hidden, what stays, and what is counted as left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palmette.data.records import Document, check_question
from palmette.data.source import read_source
from palmette.synth.cloze import Cloze, ClozeSettings, make_cloze
from palmette.synth.recurring import chunks_of, recurring_spans
from tests.support.command import palmette

PLAIN = ClozeSettings(unanswerable=0.0)
HARBOUR = (
    "The harbour of Whitby Bay is ruled by Captain Ada Byrne. Each night the Gull Rock lighthouse is lit. "
    "Captain Ada Byrne keeps the key, and Gull Rock is closed to guests from 4 May 1906 on."
)


def spans(text: str, words: int = 10, times: int = 5) -> list[tuple[str, int]]:
    found = recurring_spans(text, most_words=words, most_times=times)
    return [(text[slice(*places[0])], len(places)) for places in found.spans]


def cloze(*texts: str, settings: ClozeSettings = PLAIN) -> Cloze:
    return make_cloze([Document(f"d{index}", text, ()) for index, text in enumerate(texts)], settings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ada Byrne met Ben. Ada Byrne left.", [("Ada Byrne", 2)]),  # Ada and Byrne are inside it
        ("Ada Byrne met Ada. Ada Byrne left Ada.", [("Ada Byrne", 2), ("Ada", 2)]),  # but Ada stands alone too
        ("He was of the sea. She was of the sea.", []),  # no word of four letters, and none alone with a capital
        ("They could have been there. They could have been there.", []),  # function words alone
        ("north of the harbour, and north of the harbour", [("north of the harbour", 2)]),  # but not at an end
        ("in the harbour, then in the harbour", [("harbour", 2)]),
        ("red, brick houses; red brick houses", [("brick houses", 2)]),  # a comma ends a span
        ("the keel\n\nof the boats: keel of the boats", [("keel", 2), ("boats", 2)]),  # and so does a blank line
        ("the white\nkeel, a white keel", [("white\nkeel", 2)]),  # a line end does not
        ("cost 3.50, then 1.50, then 3.50 again", [("3.50", 2)]),  # 50 is no whole word
        ("Keels and keels", []),  # letters count
        ("see [Terms](https://a.b/terms) and [Terms](https://a.b/terms)", []),
        ("**Effective Date** is the Effective Date.", [("Effective Date", 2)]),
        ("item 3 and item 3 and 3 and 3", [("item 3", 2)]),  # one character alone says nothing
    ],
)
def test_recurring_spans(text: str, expected: list[tuple[str, int]]) -> None:
    assert spans(text) == expected


def test_longer_spans_come_first_up_to_the_limit() -> None:
    text = "alpha beta gamma delta; alpha beta gamma delta; beta gamma"
    assert spans(text) == [("alpha beta gamma delta", 2)]
    assert spans(text, words=2) == [("alpha beta", 2), ("gamma delta", 2)]


def test_a_span_does_not_overlap_itself() -> None:
    assert spans("gull gull gull", words=2) == [("gull", 3)]


def test_a_span_that_occurs_too_often_is_left_out_and_counted() -> None:
    found = recurring_spans("gull. " * 6 + "tern. tern.", most_words=3, most_times=5)
    assert found.too_often == (("gull", 6),)
    assert len(found.spans) == 1


def test_one_place_stays_and_every_other_is_asked_for() -> None:
    """Captain Ada Byrne and Gull Rock stand twice, so each makes one blank. The text is the passage but for them."""
    (document,) = cloze(HARBOUR).documents
    assert [question.text for question in document.questions] == [
        "Which words stand at blank 1?",
        "Which words stand at blank 2?",
    ]
    assert Counter(question.answers[0].text for question in document.questions) == {
        "Captain Ada Byrne": 1,
        "Gull Rock": 1,
    }
    assert filled(document) == HARBOUR
    for question in document.questions:
        check_question(question, document, "test")
        assert document.text.count(question.answers[0].text) == 1


def filled(document: Document) -> str:
    """A passage with the answers put back into its blanks."""
    text = document.text
    for number, question in enumerate(document.questions, start=1):
        assert text.count(f"[blank {number}]") == 1
        text = text.replace(f"[blank {number}]", question.answers[0].text)
    return text


VOCABULARY = (
    "Ada",
    "Byrne",
    "harbour",
    "of",
    "the",
    "9:40",
    "keel,",
    "\n",
    "\n\n",
    "(pier)",
    "[x](y)",
    "tide\u2014mill",
)


@given(st.lists(st.sampled_from(VOCABULARY), max_size=60), st.integers(0, 3))
def test_filling_the_blanks_gives_the_passage(words: Iterable[str], seed: int) -> None:
    text = " ".join(words)
    for document in cloze(text, settings=replace(PLAIN, seed=seed)).documents:
        assert filled(document).split() == text.split()
        for question in document.questions:
            check_question(question, document, "test")


def test_where_there_is_no_room_the_longest_are_asked_for_and_the_rest_counted() -> None:
    done = cloze(HARBOUR, settings=replace(PLAIN, questions=1))
    assert [q.answers[0].text for q in done.documents[0].questions] == ["Captain Ada Byrne"]
    assert done.spans == {"no room": 1}
    assert done.examples["no room"] == ["'Gull Rock' in d0"]


def test_a_question_without_an_answer_hides_words_that_stand_nowhere_else() -> None:
    """With a share of 1/3 two answerable questions get one more: 2 * (1/3) / (2/3) = 1."""
    for seed in range(8):
        (document,) = cloze(HARBOUR, settings=ClozeSettings(unanswerable=1 / 3, seed=seed)).documents
        (hidden,) = [question for question in document.questions if not question.answers]
        assert len(document.questions) == 3
        number = hidden.text.removeprefix("Which words stand at blank ").removesuffix("?")
        before, after = document.text.split(f"[blank {number}]")
        gone = next(name for name in ("Whitby Bay", "4 May 1906") if name not in document.text)
        assert before.split()[-1] + " " + gone in HARBOUR
        assert gone.lower() not in (before + after).lower()


def test_what_is_hidden_once_is_not_given_away_in_other_letters() -> None:
    text = "Gulls nest near Whitby. The whitby gulls nest; it has gulls nest on gulls nest."
    done = cloze(text, settings=ClozeSettings(unanswerable=0.5))
    assert all(question.answers for question in done.documents[0].questions)
    assert done.spans["also elsewhere"] == 1


def test_the_seed_decides_and_a_passage_alone() -> None:
    texts = [HARBOUR.replace("Whitby", name) for name in ("Whitby", "Robin", "Runswick", "Saltwick", "Sandsend")]
    once, again = (cloze(*texts, settings=ClozeSettings(seed=3)).documents for _ in range(2))
    assert once == again
    assert once[4].text == cloze(texts[4], settings=ClozeSettings(seed=3)).documents[0].text
    assert {cloze(HARBOUR, settings=replace(PLAIN, seed=seed)).documents[0].text for seed in range(12)} > {once[0].text}


def test_there_is_room_for_an_answer_among_few_questions() -> None:
    done = cloze(HARBOUR, settings=replace(PLAIN, questions=2, unanswerable=0.9))
    assert (done.num_questions, done.num_answerable) == (2, 1)


def test_passages_without_questions_are_counted() -> None:
    done = cloze("Nothing is said twice here.", "Fill in [blank 1] and [blank 1].", HARBOUR)
    assert done.passages == {"nothing recurs": 1, "it holds blanks already": 1}
    assert done.examples["it holds blanks already"] == ["d1"]


def test_a_passage_whose_spans_were_all_left_out_is_not_said_to_repeat_nothing() -> None:
    done = cloze("Whitby here. Whitby there. Whitby again.", settings=replace(PLAIN, max_times=2))
    assert (done.passages, done.spans) == ({"all that recurs was left out": 1}, {"occurs too often": 1})


def test_words_keep_what_stands_inside_them() -> None:
    assert [chunk.text for chunk in chunks_of("At 7:40, the U.S. e-mail cost $3.50 (12%).")] == [
        "At", "7:40", "the", "U.S", "e-mail", "cost", "$3.50", "12%",
    ]  # fmt: skip


def test_the_command_writes_questions_that_training_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text(HARBOUR)
    (tmp_path / "docs" / "b.txt").write_text("Once only.")
    out = tmp_path / "new" / "cloze.jsonl"
    words = ("synth", "cloze", tmp_path / "docs", "--out", out, "--unanswerable-share", 0)
    assert palmette(monkeypatch, *words) == 0
    told = capsys.readouterr().out
    assert "2 questions about 1 passage of 2 documents, 1.0 a document" in told
    assert "left out: 1 passage: too short" in told
    read = read_source(str(out))
    assert [filled(document) for document in read.documents] == [HARBOUR]
    report = json.loads((tmp_path / "new" / "cloze.jsonl.report.json").read_text())
    assert (report["writer"], report["questions"], report["answerable"]) == ("cloze", 2, 2)
    assert report["sources"][0]["sha256"]
    assert report["licences"] == {"sources": {str(tmp_path / "docs"): None}}
    assert "Which words stand at blank 1?" in out.with_name("cloze.jsonl.html").read_text()
    first = out.read_bytes()
    out.unlink()
    assert palmette(monkeypatch, *words) == 0
    assert out.read_bytes() == first
    assert palmette(monkeypatch, *words) == 2
    assert "exists already" in capsys.readouterr().err


def test_documents_in_which_nothing_recurs_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text(" ".join(f"word{number}" for number in range(30)))
    assert palmette(monkeypatch, "synth", "cloze", tmp_path / "a.txt", "--out", tmp_path / "c.jsonl") == 2
    assert "1 passage gives no question: 1 because nothing recurs" in capsys.readouterr().err
    assert "no words that say something occur twice" in (tmp_path / "c.jsonl.html").read_text().lower()
    assert not (tmp_path / "c.jsonl").exists()
