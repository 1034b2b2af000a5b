"""The desk: what it asks, what becomes of a verdict that is sent twice, late or by somebody else, and undo."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palmette.data.records import Document
from palmette.errors import DataError, ModelError, RunError
from palmette.review.answers import Answers
from palmette.review.desk import Desk
from palmette.review.events import Event, Span, Verdict, document_hash
from palmette.review.keys import Judged
from palmette.review.showing import Choosing, Run, ShownQuestion
from palmette.review.store import Store
from tests.support.review_page import RUN, StubDecoder, question, reviewed

FERRY = "The ferry leaves at 7:40 from pier 3."
TOWER = "The tower is granite, and white."
DOCUMENTS = (
    Document("ferry", FERRY, (question("when", "When?", FERRY, "7:40", "pier 3"), question("who", "Who?", FERRY))),
    Document("tower", TOWER, (question("what", "Of what?", TOWER, "granite", "white"),)),
)
SEEN = Choosing("random", overlap_share=0.0, blind_share=0.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "review.db") as opened:
        yield opened


def desk_of(store: Store, *, choosing: Choosing = SEEN, run: Run = RUN, decoder: StubDecoder | None = None) -> Desk:
    answers = Answers(decoder or StubDecoder(), DOCUMENTS)
    desk = Desk(store, DOCUMENTS, answers, run, choosing)
    answers.start()
    if decoder is None:
        assert answers.wait()
    return desk


def ask(desk: Desk, annotator: str = "ann") -> ShownQuestion:
    asked = desk.ask(annotator, "session")
    assert asked is not None
    return asked


def accept(desk: Desk, asked: ShownQuestion, annotator: str = "ann") -> Judged:
    return desk.judge(annotator, "session", asked.key, Verdict("accept", asked.shown.span, 2.0))


def kinds(store: Store) -> list[str]:
    return [event.kind for event in store.events()]


def test_every_question_is_asked_once_and_shown_as_the_model_answers_it(store: Store) -> None:
    desk, seen = desk_of(store), {}
    while (asked := desk.ask("ann", "session")) is not None:
        seen[asked.question.id] = asked
        accept(desk, asked)
    assert set(seen) == {"when", "who", "what"}
    assert seen["when"].shown.span == Span("7:40", 20, 24)
    assert [one.text for one in seen["when"].shown.candidates] == ["7:40", "pier 3"]
    assert (seen["when"].shown.probability, seen["when"].shown.no_answer_probability) == (0.6, 0.1)
    assert seen["who"].shown.span is None
    assert seen["who"].document == document_hash(FERRY)
    assert kinds(store) == ["shown", "verdict"] * 3
    stored = [event for event in store.events() if event.kind == "verdict"]
    assert {(one.run, one.run_sha256, one.prompt_sha256) for one in stored} == {(RUN.name, "1" * 64, "2" * 64)}
    assert not desk.waiting


def test_a_question_stays_until_it_is_judged_also_for_another_desk(store: Store) -> None:
    """Reloading the page, or starting the server again, shows it again, and adds nothing."""
    first = ask(desk_of(store))
    assert ask(desk_of(store)) == first
    assert kinds(store) == ["shown"]
    # What another model said is not shown as the word of this one.
    other = ask(desk_of(store, run=replace(RUN, name="runs/other")))
    assert other.key != first.key


def test_a_verdict_that_is_sent_twice_is_stored_once(store: Store) -> None:
    desk = desk_of(store)
    asked = ask(desk)
    assert [accept(desk, asked), accept(desk, asked)] == [Judged.STORED, Judged.STORED]
    assert accept(desk_of(store), asked) is Judged.STORED  # by a server that was started since
    assert kinds(store) == ["shown", "verdict"]
    assert desk.judge("ann", "session", asked.key, Verdict("skip")) is Judged.OTHERWISE
    assert kinds(store) == ["shown", "verdict"]


def test_threads_that_send_the_same_verdict_store_it_once(store: Store) -> None:
    desk = desk_of(store)
    asked, found = ask(desk), []
    threads = [threading.Thread(target=lambda: found.append(accept(desk, asked))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [Judged.STORED] * 8
    assert kinds(store) == ["shown", "verdict"]


def test_a_verdict_that_comes_after_a_restart_is_taken(store: Store) -> None:
    asked = ask(desk_of(store))
    desk = desk_of(store)
    assert accept(desk, asked) is Judged.STORED
    assert kinds(store) == ["shown", "verdict"]


def test_nobody_judges_what_somebody_else_was_shown(store: Store) -> None:
    desk = desk_of(store)
    asked = ask(desk)
    assert accept(desk, asked, "bob") is Judged.UNKNOWN
    assert desk.judge("ann", "session", 999, Verdict("skip")) is Judged.UNKNOWN
    assert kinds(store) == ["shown"]


def test_two_people_get_different_questions_unless_they_overlap(store: Store) -> None:
    desk = desk_of(store)
    assert ask(desk, "ann").question != ask(desk, "bob").question
    both = desk_of(store, choosing=Choosing("random", overlap_share=1.0, blind_share=0.0))
    seen: dict[str, set[str]] = {"ann": set(), "bob": set()}
    for name, asked_before in seen.items():
        while (asked := both.ask(name, "session")) is not None:
            asked_before.add(asked.question.id)
            accept(both, asked, name)
    assert seen == {"ann": {"when", "who", "what"}, "bob": {"when", "who", "what"}}


def test_an_edit_that_gives_what_was_seen_is_an_accept(store: Store) -> None:
    desk = desk_of(store)
    asked = next(one for one in iter(lambda: ask(desk), None) if one.shown.span or accept(desk, one) is None)
    assert desk.judge("ann", "session", asked.key, Verdict("edit", asked.shown.span, 1.0)) is Judged.STORED
    *_, last = store.events()
    assert last.verdict == Verdict("accept", asked.shown.span, 1.0)


def test_what_was_hidden_is_neither_accepted_nor_rejected(store: Store) -> None:
    desk = desk_of(store, choosing=Choosing("random", overlap_share=0.0, blind_share=1.0))
    asked = ask(desk)
    assert asked.shown.blind
    for verdict in (Verdict("accept", asked.shown.span), Verdict("reject")):
        with pytest.raises(DataError, match="hidden"):
            desk.judge("ann", "session", asked.key, verdict)
    text = DOCUMENTS[0 if asked.document == document_hash(FERRY) else 1].text
    own = asked.shown.span or Span(text[:3], 0, 3)
    desk.judge("ann", "session", asked.key, Verdict("edit", own))
    *_, last = store.events()
    assert last.verdict is not None
    assert last.verdict.kind == "edit"  # found by oneself, not accepted
    assert last.shown is not None
    assert last.shown.blind


@pytest.mark.parametrize("span", [Span("ferry", 3, 8), Span("Tower", 4, 9), Span("x", 0, 1), Span("ferry", 500, 505)])
def test_a_slice_that_is_not_there_is_refused_and_the_question_stays(store: Store, span: Span) -> None:
    desk = desk_of(store)
    asked = ask(desk)
    with pytest.raises(DataError, match="does not stand at"):
        desk.judge("ann", "session", asked.key, Verdict("edit", span))
    with pytest.raises(DataError, match="not what was shown"):
        desk.judge("ann", "session", asked.key, Verdict("accept", Span("x", 0, 1)))
    assert ask(desk) == asked


def test_undo_goes_back_step_by_step_and_then_on_as_before(store: Store) -> None:
    """Two verdicts, and a third question open. Undone are the second, then the first. Then all three are asked."""
    desk = desk_of(store)
    first = ask(desk)
    accept(desk, first)
    second = ask(desk)
    accept(desk, second)
    third = ask(desk)
    for expected in (second, first):
        undoable = desk.undoable("ann")
        assert undoable is not None
        desk.undo("ann", "session", undoable)
        desk.undo("ann", "session", undoable)  # sent twice
        again = ask(desk)
        assert (again.question, again.shown) == (expected.question, expected.shown)
        assert again.key != expected.key
    assert desk.undoable("ann") is None
    order = []
    while (asked := desk.ask("ann", "session")) is not None:
        order.append(asked.question)
        accept(desk, asked)
    assert order == [first.question, second.question, third.question]
    assert kinds(store).count("undo") == 2
    assert desk.progress("ann").judged == 3


def test_only_the_last_verdict_of_oneself_is_undone(store: Store) -> None:
    desk = desk_of(store)
    accept(desk, ask(desk))
    accept(desk, ask(desk))
    [first, second] = [event.id for event in store.events() if event.kind == "verdict"]
    assert first is not None
    assert second is not None
    for name, number in (("ann", first), ("bob", second), ("ann", 999)):
        with pytest.raises(DataError, match="not your last verdict"):
            desk.undo(name, "session", number)
    # After a restart it still can be.
    desk_of(store).undo("ann", "session", second)
    assert kinds(store)[-2:] == ["undo", "shown"]


def test_progress_counts_by_hand(store: Store) -> None:
    """Of three questions one is accepted and one rejected, so half of the answers are right, and one is left."""
    desk = desk_of(store)
    accept(desk, ask(desk))
    desk.judge("ann", "session", ask(desk).key, Verdict("reject", None, 1.0))
    progress = desk.progress("ann")
    assert (progress.judged, progress.total, progress.accept_rate) == (2, 3, 0.5)
    assert (progress.strategies, progress.read, progress.questions) == ({"random": 2}, 3, 3)
    assert progress.per_minute is not None
    assert progress.minutes_left == pytest.approx(1 / progress.per_minute)


def test_people_judge_while_the_model_reads(store: Store) -> None:
    decoder = StubDecoder()
    decoder.hold.clear()
    desk = desk_of(store, decoder=decoder)
    assert desk.ask("ann", "session") is None
    assert desk.waiting
    decoder.hold.set()
    assert desk._answers.wait()
    assert not desk.waiting
    assert desk.ask("ann", "session") is not None


def test_a_document_that_the_model_cannot_read_is_left_out(store: Store) -> None:
    class Picky(StubDecoder):
        def predict(self, documents):  # type: ignore[no-untyped-def]
            if documents[0].id == "ferry":
                raise ModelError("it is too long", "Cut it.")
            return super().predict(documents)

    answers = Answers(Picky(), DOCUMENTS)
    desk = Desk(store, DOCUMENTS, answers, RUN, SEEN)
    answers.start()
    assert answers.wait()
    assert ask(desk).question.id == "what"
    assert set(answers.failures) == {"when", "who"}
    assert desk.progress("ann").read == 3


def test_a_model_that_breaks_is_said_once_nothing_is_left(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    decoder = StubDecoder()
    decoder.broken = MemoryError("no room")
    desk = desk_of(store, decoder=decoder)
    assert desk._answers.wait()
    with pytest.raises(RunError, match=r"the model failed .*: no room"):
        desk.ask("ann", "session")
    assert "the model failed" in caplog.text


def test_an_audit_set_is_frozen_before_the_first_verdict(tmp_path: Path) -> None:
    documents = [reviewed(number) for number in range(10)]
    with Store.open(tmp_path / "review.db") as store:
        for seed in (1, 2):  # the second desk finds it there
            answers = Answers(StubDecoder(), documents)
            desk = Desk(store, documents, answers, RUN, replace(SEEN, seed=seed))
            answers.start()
            assert answers.wait()
            audit = store.audit()
            assert audit is not None
            assert len(audit.questions) == 2  # a fifth of ten documents with one question each
            drawn = set(audit.questions)
        shown = {}
        while (asked := desk.ask("ann", "session")) is not None:
            shown[asked.question.id] = asked.shown.strategy
            accept(desk, asked)
        assert {name for name, strategy in shown.items() if strategy == "audit"} == drawn
        assert len(shown) == 10


def test_two_desks_at_one_store_see_each_other(store: Store) -> None:
    here, there = desk_of(store), desk_of(store)
    mine = ask(here, "ann")
    assert ask(there, "bob").question != mine.question
    accept(here, mine)
    ask(there, "bob")
    assert there.progress("ann").judged == 1
    events: list[Event] = list(store.events())
    assert [event.annotator for event in events] == ["ann", "bob", "ann"]


def disagreeing(store: Store) -> tuple[Desk, str]:
    """A question on which Ann and Bob disagree: Ann accepts the model's answer, and Bob says that there is none."""
    desk = desk_of(store, choosing=Choosing("random", overlap_share=1.0, blind_share=0.0))
    for name in ("ann", "bob"):
        while (asked := desk.ask(name, "session")) is not None:
            kind = "no_answer" if name == "bob" and asked.question.id == "when" else "accept"
            span = asked.shown.span if kind == "accept" else None
            desk.judge(name, "session", asked.key, Verdict(kind, span, 1.0))  # type: ignore[arg-type]
    return desk, "when"


def test_what_people_disagree_on_is_decided_once(store: Store) -> None:
    desk, name = disagreeing(store)
    assert {question: set(judged) for question, judged in desk.conflicts().items()} == {name: {"ann", "bob"}}
    right = Verdict("edit", Span("7:40 from pier 3", 20, 36), 3.0)
    for kind in ("skip", "reject"):
        with pytest.raises(DataError, match="decides nothing"):
            desk.decide("cid", "session", name, Verdict(kind))  # type: ignore[arg-type]
    assert desk.decide("cid", "session", name, right) is Judged.STORED
    assert desk.decide("cid", "session", name, right) is Judged.STORED  # sent twice
    assert desk.decide("cid", "session", name, Verdict("no_answer")) is Judged.OTHERWISE
    assert desk.decide("cid", "session", "who", Verdict("no_answer")) is Judged.UNKNOWN
    assert desk.conflicts() == {}
    *_, last = store.events()
    assert (last.kind, last.annotator, last.verdict) == ("adjudicated", "cid", right)
    assert kinds(store).count("adjudicated") == 1


def test_a_decision_is_taken_back_by_whoever_made_it_last(store: Store) -> None:
    """Ann decides after her verdicts, so her first undo takes back the decision, and the second one a verdict."""
    desk, name = disagreeing(store)
    verdicts = desk.undoable("ann")
    desk.decide("ann", "session", name, Verdict("no_answer", None, 2.0))
    decision = desk.undoable("ann")
    assert decision is not None
    assert decision != verdicts
    assert desk.undoable("ann", decision=True) == decision
    with pytest.raises(DataError, match="not your last verdict"):
        desk.undo("bob", "session", decision)
    assert desk.undo("ann", "session", decision) == name
    *_, last = store.events()
    assert (last.kind, last.question, last.undoes, last.shown) == ("undo", name, decision, None)
    assert set(desk.conflicts()) == {name}
    assert desk.undo("ann", "session", decision) is None  # sent twice
    assert kinds(store)[-1:] == ["undo"]
    assert desk.decide("ann", "session", name, Verdict("edit", Span("7:40", 20, 24), 2.0)) is Judged.STORED
    again = desk_of(store)  # after a restart
    decision = again.undoable("ann")
    assert decision is not None
    assert again.undo("ann", "session", decision) == name
    assert again.undoable("ann") == verdicts
    assert again.undoable("ann", decision=True) is None
    assert verdicts is not None
    assert again.undo("ann", "session", verdicts) is None
    assert kinds(store)[-2:] == ["undo", "shown"]


def test_another_run_takes_over_and_what_was_judged_stays(store: Store) -> None:
    desk = desk_of(store)
    accept(desk, ask(desk))
    answers = Answers(StubDecoder(), DOCUMENTS)
    answers.start()
    assert answers.wait()
    newer = replace(RUN, name="runs/newer", sha256="9" * 64)
    desk.replace(newer, answers)
    while (asked := desk.ask("ann", "session")) is not None:
        accept(desk, asked)
    assert [event.run for event in store.events() if event.kind == "verdict"] == [RUN.name, newer.name, newer.name]
    assert desk.progress("ann").judged == 3


def test_the_end_waits_for_the_document_that_is_being_read() -> None:
    """A thread inside the model when the interpreter goes away aborts the process."""
    begun, going_on, left = threading.Event(), threading.Event(), []

    class Slow(StubDecoder):
        def predict(self, documents: Any) -> Any:
            begun.set()
            going_on.wait(60)
            found = list(super().predict(documents))
            left.append(len(found))
            return iter(found)

    answers = Answers(Slow(), DOCUMENTS)
    answers.join()  # nothing was begun, so there is nothing to wait for
    answers.start()
    assert begun.wait(60)
    answers.stop()
    threading.Timer(0.2, going_on.set).start()
    answers.join()
    assert len(left) == 1
