"""Progress: the pace and the time left, with a clock that the tests move."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import pytest

from palmette import progress as module
from palmette.progress import Bar, Pace, progress


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def paced(waits: Iterable[float], size: int = 1) -> Pace:
    """The pace of a job whose groups of units of this size come after these waits."""
    clock, done = Clock(), 0
    pace = Pace(clock)
    for wait in waits:
        clock.now += wait
        for _ in range(size):
            done += 1
            pace.note(done)
    return pace


def test_the_first_unit_does_not_count() -> None:
    """A step that compiles kernels takes a minute, the others two seconds. 0.5 a second by hand, from the second."""
    assert paced([60.0]).per_second is None
    assert paced([60.0, 2.0]).per_second == pytest.approx(0.5)
    assert paced([60.0, *[2.0] * 50]).per_second == pytest.approx(0.5)


def test_units_that_come_together_count_together() -> None:
    """Forty questions of a document are answered every ten seconds, the first forty after thirty. That is 4 a second.

    A rate by the first question of a document says 1 in 30 seconds: 120 times too slow.
    """
    assert paced([30.0], size=40).per_second is None
    at_the_second = paced([30.0], size=40)
    clock = at_the_second._clock
    assert isinstance(clock, Clock)
    clock.now += 10.0
    at_the_second.note(41)  # the other 39 come at once, but a bar is drawn now
    assert at_the_second.per_second == pytest.approx(40 / 30)
    assert paced([30.0, 10.0], size=40).per_second == pytest.approx(4.0)
    assert paced([30.0, 10.0, 10.0, 10.0], size=40).per_second == pytest.approx(4.0)


def test_a_quick_first_unit_does_not_set_the_pace() -> None:
    """Turns of 10 and 190 seconds. The four after the first took 580 s, and the last is a group that may go on."""
    assert paced([10.0, 190.0, 190.0, 10.0, 190.0, 190.0]).per_second == pytest.approx(4 / 580)


def test_a_steady_flow_has_a_pace_too() -> None:
    """A thousand units a second follow each other too fast to be told apart."""
    assert paced([5.0, *[0.001] * 4000]).per_second == pytest.approx(1000.0, rel=0.01)


def shown(clock: Clock, waits: Iterable[float], total: int, **options: Any) -> list[str]:
    """The lines of a bar, one for each unit."""
    stream = io.StringIO()
    bar = Bar(
        clock=clock, total=total, desc="answering", unit=" questions", file=stream, ncols=80, ascii=True, mininterval=0,
        miniters=1, **options,
    )  # fmt: skip
    lines = []
    for wait in waits:
        clock.now += wait
        bar.update()
        lines.append(str(bar))
    bar.close()
    return lines


def test_lines_say_the_pace_and_the_time_left() -> None:
    first, second, *_, last = shown(Clock(), [60.0, *[2.0] * 4], total=5)
    assert first == "answering |#6      | 1 of 5 questions"
    assert second == "answering |###2    | 2 of 5 questions, 30 a minute, about 6 s left"
    assert last == "answering |########| 5 of 5 questions in 68 s"


def test_a_terminal_shows_the_end_of_a_group() -> None:
    """Forty answers come at once, and then nothing for a while. The bar says forty and not one."""
    clock, stream = Clock(), io.StringIO()
    options: dict[str, Any] = {"desc": "answering", "unit": " questions", "ncols": 80, "ascii": True}
    bar = Bar(clock=clock, eager=True, total=200, file=stream, mininterval=1e9, miniters=1, **options)
    clock.now += 30.0
    for _ in range(40):
        bar.update()
    assert stream.getvalue().split("\r")[-1].strip() == "answering |#6      | 40 of 200 questions"
    bar.close()


def test_a_job_of_unknown_size_says_what_is_done() -> None:
    """The rows of a pipe are known once they are read. "3 of 0 rows" would be wrong."""
    stream = io.StringIO()
    bar = Bar(total=0, desc="predict", unit=" rows", file=stream, mininterval=0.0, miniters=1)
    bar.update(3)
    bar.close()
    assert "predict 3 rows" in stream.getvalue()
    assert " of " not in stream.getvalue()


def test_what_was_done_before_counts_for_nothing() -> None:
    """Ninety rows were answered yesterday. The rest takes two seconds each, after one of warm-up."""
    lines = shown(Clock(), [60.0, 2.0], total=100, initial=90)
    assert lines[-1].endswith("92 of 100 questions, 30 a minute, about 16 s left")


def test_a_line_with_other_figures_fits_a_terminal() -> None:
    clock = Clock()
    bar = Bar(clock=clock, total=1234, desc="training", unit=" steps", file=io.StringIO(), ncols=80, ascii=True)
    for wait in (60.0, 2.0, 2.0):
        clock.now += wait
        bar.set_postfix_str("loss 0.412, 5.1 questions/s", refresh=False)
        bar.update()
    assert str(bar) == "training |        | 3 of 1234 steps, 41 min left, loss 0.412, 5.1 questions/s"
    assert len(str(bar)) <= 80
    bar.close()


def test_a_line_that_would_be_cut_off_has_no_bar() -> None:
    """With a bar it would have 85 characters."""
    clock = Clock()
    words = {"desc": "untouched model, span decoder", "unit": " questions"}
    bar = Bar(clock=clock, total=100, file=io.StringIO(), ncols=80, ascii=True, **words)
    assert str(bar) == "untouched model, span decoder |        | 0 of 100 questions"
    for wait in (6.0, 2.0, 2.0):
        clock.now += wait
        bar.update(20)
    assert str(bar) == "untouched model, span decoder: 60 of 100 questions, 10 a second, about 4 s left"
    bar.close()


def test_without_a_terminal_every_drawing_has_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not module.sys.stderr.isatty()
    with progress(2, "reading", "pages", done=1) as bar:
        assert bar.n == 1
        bar.update()
    assert capsys.readouterr().err.splitlines()[-1].startswith("reading |########| 2 of 2 pages in ")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_passing_bar_is_seen_only_while_it_waits(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that is done at once shows nothing. A longer one shows its bar, and a terminal is empty again behind it."""

    def output(after: float) -> str:
        stream = io.StringIO()
        monkeypatch.setattr(stream, "isatty", lambda: terminal)
        monkeypatch.setattr(module.sys, "stderr", stream)
        monkeypatch.setattr(module, "_PASSING_AFTER", after)
        with progress(0, "counting", "texts", passing=True) as bar:
            bar.mininterval = 0.0
            bar.update()
            bar.update()
        return stream.getvalue()

    assert output(after=1e9) == ""
    seen = output(after=1e-9)
    assert "counting 2 texts" in seen
    if terminal:
        assert seen.rpartition("texts")[2].strip() == ""
        assert seen.endswith("\r")
