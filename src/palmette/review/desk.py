"""The desk of a review: who is asked what, and what becomes of a verdict.

It keeps one promise for pages: a verdict that is sent twice is stored once. Each question gets a key when it is shown,
the id of its "shown" event, and a verdict names the key. Keys are read from the store, so the promise also holds for a
page that sends its verdict after the server was started again.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

from palmette.data.records import Document, Question
from palmette.decode.prediction import Decoder
from palmette.errors import DataError
from palmette.review.answers import Answers
from palmette.review.events import Event, EventKind, Shown, Verdict, document_hash
from palmette.review.keys import Judged, Keys, meant, same
from palmette.review.queue import Item, LiveQueue, Queue, make_queue
from palmette.review.sampling import draw_audit
from palmette.review.showing import Choosing, Progress, Run, ShownQuestion, to_show
from palmette.review.state import Judgement, State, disagree
from palmette.review.store import Store

_GROWTH = 1.25  # by which the number of answers grows before the queue is made again


class Desk:
    """Asks questions, and takes verdicts. Threads may share it, and several desks may share a store.

    What other desks stored is seen with the next question or verdict. The rest tells what was known then.

    Args:
        store: where everything is kept.
        documents: the documents under review, with their questions.
        answers: the model's answers, which may still be coming.
        run: the model.
        choosing: how questions are chosen.

    Attributes:
        run: the model.

    Raises:
        DataError: the store has other questions under the same ids.
        RunError: the store cannot be written.
    """

    def __init__(
        self, store: Store, documents: Sequence[Document], answers: Answers, run: Run, choosing: Choosing | None = None
    ) -> None:
        self._store, self._answers, self.run = store, answers, run
        self._choosing = choosing or Choosing()
        self._documents = {document_hash(one.text): one for one in documents}
        self._questions = {
            question.id: (question, document_hash(one.text)) for one in documents for question in one.questions
        }
        store.add_documents(documents)
        self._queue, self._queued = LiveQueue(Queue(())), 0
        self._lock = threading.RLock()
        self._state, self._keys = State(), Keys()
        self._again: dict[str, list[Event]] = defaultdict(list)
        self._judges: dict[str, set[str]] = defaultdict(set)
        self._conflicts: dict[str, dict[str, Judgement]] = {}
        self._catch_up()
        if store.audit() is None and not self._state.judgements:
            drawn, probability = draw_audit(store.questions(), self._choosing.seed)
            store.freeze_audit(drawn, probability)

    def document(self, sha256: str) -> Document | None:
        """A document under review, by its hash."""
        return self._documents.get(sha256)

    @property
    def waiting(self) -> bool:
        """Whether more questions will come, since the model is still reading."""
        return not self._answers.finished

    def ask(self, annotator: str, session: str) -> ShownQuestion | None:
        """The question that a person is to judge now. It stays the same until it is judged.

        Args:
            annotator: the person.
            session: the person's session, for the events.

        Returns:
            The question. None if there is none now: see `waiting`.

        Raises:
            RunError: the store cannot be written, or the model failed.
        """
        with self._lock:
            self._catch_up()
            event = self._open(annotator) or self._new(annotator, session)
            if event is None:
                self._answers.check()
                return None
            assert event.id is not None
            assert event.shown is not None
            question, sha256 = self._questions[event.question]
            return ShownQuestion(event.id, question, sha256, event.shown)

    def judge(self, annotator: str, session: str, key: int, verdict: Verdict) -> Judged:
        """Take a verdict. It is on the disk when this returns.

        Args:
            annotator: the person.
            session: the person's session, for the events.
            key: the question, as it was shown.
            verdict: the verdict. An edit that gives the suggestion that was seen is an accept.

        Raises:
            DataError: the span is no slice of the document, or a suggestion that nobody saw is accepted or rejected.
            RunError: the store cannot be written. Nothing was stored then.
        """
        with self._lock:
            self._catch_up()
            event = self._keys.shown.get(key)
            if event is None or event.annotator != annotator or event.shown is None:
                return Judged.UNKNOWN
            taken = meant(verdict, event.shown)
            before = self._keys.verdicts.get(key)
            if before is not None:
                return Judged.STORED if same(before, taken) else Judged.OTHERWISE
            given = replace(
                event,
                kind="verdict",
                time=datetime.now(UTC),
                session=session,
                shown=event.shown,
                verdict=taken,
                id=None,
            )
            self._store.append([given])
            self._catch_up()
            self._keys.verdicts[key] = taken  # also if the question was shown again since
            return Judged.STORED

    def undo(self, annotator: str, session: str, verdict: int) -> str | None:
        """Take back a person's last verdict or decision.

        The question of a verdict is asked again, and then the one that was open.

        Args:
            annotator: the person.
            session: the person's session, for the events.
            verdict: the id of the event. If it was taken back before, nothing happens.

        Returns:
            The question whose decision was taken back. None if it was a verdict.

        Raises:
            DataError: it is not the last verdict of this person.
            RunError: the store cannot be written. Nothing has changed then.
        """
        with self._lock:
            self._catch_up()
            if verdict in self._keys.undone:
                return None
            last = self._state.latest(annotator)
            if last is None or last.event.id != verdict:
                raise DataError("this is not your last verdict any more", "Reload the page, and undo again.")
            opened, question = self._open(annotator), last.event.question
            undo = replace(
                last.event,
                kind="undo",
                time=datetime.now(UTC),
                session=session,
                shown=None,
                verdict=None,
                undoes=verdict,
                id=None,
            )
            decision = last.event.kind == "adjudicated"
            again = last.shown if question in self._questions and not decision else None
            self._store.append([undo, *([self._event(annotator, session, question, again)] if again else [])])
            if again and opened:
                self._again[annotator].append(opened)
            self._catch_up()
            return question if decision else None

    def undoable(self, annotator: str, *, decision: bool = False) -> int | None:
        """The id of the verdict or decision that an undo takes back. None if there is none.

        Args:
            annotator: the person.
            decision: whether only a decision counts.
        """
        with self._lock:
            last = self._state.latest(annotator)
            return None if last is None or (decision and last.event.kind != "adjudicated") else last.event.id

    def conflicts(self) -> dict[str, dict[str, Judgement]]:
        """The questions on which people disagree and that nobody has decided: {question: {annotator: judgement}}."""
        with self._lock:
            return dict(self._conflicts)

    def question(self, name: str) -> tuple[Question, str]:
        """A question under review by its id, and the hash of its document."""
        return self._questions[name]

    def decide(self, annotator: str, session: str, question: str, verdict: Verdict) -> Judged:
        """Decide a question on which people disagree. It is on the disk when this returns.

        Args:
            annotator: who decides.
            session: the person's session, for the events.
            question: the id of the question.
            verdict: an edit with the right span, or that there is no answer.

        Raises:
            DataError: the verdict decides nothing, or the span is no slice of the document.
            RunError: the store cannot be written. Nothing was stored then.
        """
        if verdict.kind not in ("edit", "no_answer"):
            raise DataError(f"{verdict.kind} decides nothing", "Give the right span, or say that there is none.")
        with self._lock:
            self._catch_up()
            if question not in self._conflicts:
                decided = self._state.adjudications.get(question)
                if decided is None:
                    return Judged.UNKNOWN
                return Judged.STORED if same(decided.verdict, verdict) else Judged.OTHERWISE
            self._store.append([self._event(annotator, session, question, verdict=verdict)])
            self._catch_up()
            return Judged.STORED

    def answers_of(self, decoder: Decoder) -> Answers:
        """The answers of another model to the questions under review, to be found as those of this one."""
        return self._answers.of(decoder)

    def replace(self, run: Run, answers: Answers) -> None:
        """Review another run from now on. What was judged stays judged.

        Args:
            run: the run.
            answers: its answers, which may still be coming.
        """
        with self._lock:
            self._answers.stop()
            self.run, self._answers, self._queued = run, answers, 0
            self._queue.replace(Queue(()))

    def progress(self, annotator: str) -> Progress:
        """How far a person is."""
        with self._lock:
            own, state = list(self._state.of(annotator)), self._state
            read, questions = self._answers.num_read, self._answers.questions
            left = self._queue.current.num_left(annotator, state) + questions - read
            chosen = Counter(one.shown.strategy for one in own if one.shown is not None)
            rate = state.rate(annotator)
            accepted = state.accept_rate(annotator)
        return Progress(len(own), len(own) + left, rate, accepted, dict(chosen.most_common()), read, questions)

    def _catch_up(self) -> None:
        """Take the events that came since, from here and from other servers at the same store."""
        for event in self._store.events(self._state.last):
            self._state.add(event)
            self._keys.add(event)
            if event.kind != "shown" and event.question in self._questions:
                self._judges[event.question].add(event.annotator)
                self._look_at(event.question)

    def _look_at(self, question: str) -> None:
        """See whether people disagree on a question, after one of them said something."""
        state = self._state
        judged = {name: state.judgements.get((name, question)) for name in sorted(self._judges[question])}
        said = {name: one for name, one in judged.items() if one is not None and one.verdict.kind != "skip"}
        if question not in state.adjudications and disagree(said.values()):
            self._conflicts[question] = said
        else:
            self._conflicts.pop(question, None)

    def _open(self, annotator: str) -> Event | None:
        """What a person was shown last by this run, and has not judged."""
        shown = max(
            (one for (name, _), one in self._state.shown.items() if name == annotator),
            key=lambda one: one.id or 0,
            default=None,
        )
        if shown is None or shown.id in self._keys.verdicts or shown.question not in self._questions:
            return None
        return shown if shown.run_sha256 == self.run.sha256 and shown.run == self.run.name else None

    def _new(self, annotator: str, session: str) -> Event | None:
        """Show another question: first one that an undo brought back, then that of the queue."""
        if self._again[annotator]:
            before = self._again[annotator].pop()
            question, shown = before.question, before.shown
        else:
            self._update_queue()
            chosen = self._queue.current.next_for(annotator, self._state, datetime.now(UTC))
            if chosen is None:
                return None
            question = chosen.place.question
            shown = to_show(self._answers.found()[question], chosen)
        assert shown is not None
        [key] = self._store.append([self._event(annotator, session, question, shown)])
        self._catch_up()
        return self._keys.shown[key]

    def _event(
        self, annotator: str, session: str, question: str, shown: Shown | None = None, verdict: Verdict | None = None
    ) -> Event:
        """That a person is shown a question now, or decides it."""
        run, kind = self.run, "adjudicated" if shown is None else "shown"
        return Event(
            cast("EventKind", kind),
            datetime.now(UTC),
            annotator,
            session,
            question,
            self._questions[question][1],
            run.prompt_sha256,
            run.name,
            run.sha256,
            shown=shown,
            verdict=verdict,
        )

    def _update_queue(self) -> None:
        """Make the queue again if the model has answered many more questions since, or all."""
        number = self._answers.num_found
        if number == self._queued or (number < _GROWTH * self._queued and not self._answers.finished):
            return
        found = self._answers.found()
        others, hidden = self._answers.others(), self._answers.hidden()
        items = [
            Item(name, sha256, (found[name], *others.get(name, ())), hidden.get(name))
            for name, (_, sha256) in self._questions.items()
            if name in found
        ]
        audit = self._store.audit()
        choosing = self._choosing
        queue = make_queue(
            items,
            choosing.strategy,
            seed=choosing.seed,
            run=self.run.name,
            audit=audit.questions if audit else (),
            audit_probability=audit.sampling_probability if audit else None,
            overlap_share=choosing.overlap_share,
            blind_share=choosing.blind_share,
            judged={question for _, question in self._state.judgements},
        )
        self._queue.replace(queue)
        self._queued = number
