"""A document that stays open for questions: what it answers, what it says it did not read, and its progress."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palmette.decode.effort import Effort
from palmette.decode.long_document import FirstLook
from palmette.decode.posterior import Decision
from palmette.decode.prediction import Prediction
from palmette.errors import DataError
from palmette.inference.answerer import Answerer, asked_document, load_answerer
from palmette.inference.session import Session, unread_note

TEXT = " ".join(f"The ferry {i} leaves at {i * 7 % 60}." for i in range(30))
EFFORT = Effort(window_tokens=60, overlap_tokens=20, max_words=3, tokens_per_batch=800)
QUESTIONS = ["When does ferry 28 leave?", "Who?"]


@pytest.fixture(scope="module")
def answerer(tiny_folder: Path) -> Answerer:
    return load_answerer(tiny_folder)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path))


class Bar:
    """A progress bar that only notes what it is told."""

    def __init__(self, total: int, what: str, unit: str) -> None:
        self.total, self.what, self.unit, self.n, self.closed = total, what, unit, 0, False

    def update(self, by: int) -> None:
        assert by >= 0
        self.n += by

    def close(self) -> None:
        self.closed = True


def test_everything_read_agrees_with_one_reading(answerer: Answerer) -> None:
    """Up to the rounding of bfloat16, in which the tiny model computes. In float64 the two agree to its digits."""
    document = asked_document(TEXT, QUESTIONS, "text")
    want = dict(answerer.span_decoder(EFFORT).predict([document]))
    session = answerer.open_document(TEXT, read_all=True, effort=EFFORT)
    found = session.ask(QUESTIONS)
    assert session.unread is None
    assert session.num_windows == found[0].num_windows == found[0].num_read > 4
    for index, prediction in enumerate(found, start=1):
        expected = want[str(index)]
        assert (prediction.text, prediction.refusal) == (expected.text, expected.refusal)
        assert prediction.no_answer_probability == pytest.approx(expected.no_answer_probability, rel=0.02)


def test_a_long_document_gets_a_first_look_and_says_so(answerer: Answerer) -> None:
    session = Session(answerer, asked_document(TEXT, (), "text"), effort=EFFORT, first_look=FirstLook(2, 3, 3, 0.0))
    (first,) = session.ask(QUESTIONS[:1])
    total = session.num_windows
    assert first.num_read == 3 < total
    assert session.unread == (
        f"Read 3 of {total} parts of the document, those whose words are nearest to the question. "
        "--read-all reads everything."
    )
    session.ask(QUESTIONS)
    assert session.unread is not None
    assert "for each question" in session.unread
    assert session.ask(QUESTIONS[:1]) == (first,)


def test_an_absence_that_is_not_firm_names_what_came_nearest(
    answerer: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pass bounds the odds of all answers by those of their first tokens. A `window_power` brings this bound to
    0.4, so that the pass proves the absence and says that it has a probability of 1 / 1.4. The passages are those that
    a session finds which scores every span.
    """
    document = asked_document(TEXT, QUESTIONS[:1], "text")

    def predicted(**effort: int | None) -> Prediction:
        return dict(answerer.span_decoder(replace(EFFORT, **effort)).predict([document]))["1"]

    first = predicted(max_passes=1)
    assert first.no_answer_probability is not None
    bound = 1.0 / first.no_answer_probability - 1.0
    power = math.log(0.4 / bound) / math.log(first.num_windows)
    monkeypatch.setattr(Answerer, "decision", Decision(window_power=power))
    bare = predicted()
    assert (bare.refusal, bare.certified, bare.candidates, bare.num_passes) == ("absent", True, (), 1)
    assert bare.no_answer_probability == pytest.approx(1 / 1.4, rel=0.02)  # bfloat16

    monkeypatch.setattr("palmette.inference.session._LEAST_NEAR", 1e-9)
    searched, exhaustive = replace(EFFORT, max_passes=None), replace(EFFORT, max_passes=None, tokens_per_pass=None)
    found, every = (answerer.open_document(TEXT, effort=one).ask(QUESTIONS[:1])[0] for one in (searched, exhaustive))
    assert (found.refusal, found.certified) == ("absent", True)
    assert len(found.candidates) == 5
    assert found.candidates[0].text == every.candidates[0].text
    assert found.candidates[0].probability == pytest.approx(every.candidates[0].probability, rel=0.05)  # bfloat16


def test_the_note_names_the_least_and_the_most_that_was_read() -> None:
    read_in_part = [Prediction("", num_windows=240, num_read=count) for count in (12, 4, 8)]
    note = unread_note([*read_in_part, Prediction("", num_windows=240, num_read=240)])
    assert note is not None
    assert note.startswith("Read 4 to 12 of 240 parts of the document for each question")
    assert unread_note([Prediction("", num_windows=3, num_read=3)]) is None
    assert unread_note([]) is None


def test_a_bar_is_drawn_where_there_is_something_to_wait_for(answerer: Answerer) -> None:
    bars: list[Bar] = []

    def bar(total: int, what: str, unit: str) -> Any:
        bars.append(Bar(total, what, unit))
        return bars[-1]

    session = answerer.open_document(TEXT, read_all=True, effort=EFFORT, progress=bar)
    session.ask(QUESTIONS)
    assert [(one.total, one.n, one.closed) for one in bars] == [(session.num_windows,) * 2 + (True,)]
    short = answerer.open_document("The ferry leaves at 7.", progress=bar)
    short.ask(QUESTIONS)
    assert len(bars) == 1


def test_ctrl_c_closes_the_bar_and_leaves_the_session_usable(answerer: Answerer) -> None:
    class Interrupted(Bar):
        def update(self, by: int) -> None:
            super().update(by)
            if self.n == 2:
                raise KeyboardInterrupt

    bars: list[Bar] = []

    def bar(total: int, what: str, unit: str) -> Any:
        bars.append((Interrupted if not bars else Bar)(total, what, unit))
        return bars[-1]

    session = answerer.open_document(TEXT, read_all=True, effort=EFFORT, progress=bar)
    with pytest.raises(KeyboardInterrupt):
        session.ask(QUESTIONS)
    assert bars[0].closed
    assert session.ask(QUESTIONS) == answerer.open_document(TEXT, read_all=True, effort=EFFORT).ask(QUESTIONS)


def test_bad_input_is_refused_by_name(answerer: Answerer) -> None:
    with pytest.raises(DataError, match=r"contract\.txt: document 'contract\.txt' is empty"):
        answerer.open_document(" ", name="contract.txt")
    session = answerer.open_document("The ferry leaves at 7.", name="contract.txt")
    with pytest.raises(DataError, match="has no text"):
        session.ask(["  "])
    with pytest.raises(DataError, match="Give a list"):
        session.ask("Who?")
    assert session.ask([]) == ()
