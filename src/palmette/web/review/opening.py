"""A review, put together: its store, its desk, and the application that serves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from palmette.data.records import Document
from palmette.decode.prediction import Decoder
from palmette.review.answers import Answers, OtherRun
from palmette.review.desk import Desk
from palmette.review.showing import Choosing, Run
from palmette.review.store import Store
from palmette.review.succession import Find, Open, Succession
from palmette.web.application import build_application
from palmette.web.gate import Gate, host_names
from palmette.web.review.room import review_room
from palmette.web.sessions import Sessions


@dataclass(frozen=True)
class Review:
    """A review that can be served.

    Attributes:
        app: the application.
        sessions: the tokens of the annotators.
        desk: what asks questions and takes verdicts.
        answers: the model's answers, which are being found.
    """

    app: Gate
    sessions: Sessions
    desk: Desk
    answers: Answers


def open_review(
    store: Store,
    documents: Sequence[Document],
    decoder: Decoder,
    run: Run,
    *,
    data: str,
    annotators: Sequence[str],
    names: Sequence[str],
    port: int,
    choosing: Choosing | None = None,
    newer: tuple[Find, Open] | None = None,
    also: Sequence[OtherRun] = (),
) -> Review:
    """Put a review together, and begin to find the model's answers.

    Args:
        store: where everything is kept.
        documents: the documents, with their questions.
        decoder: the model.
        run: what is known of the model.
        data: the name of the data, for the page.
        annotators: the names of the people who judge.
        names: the names and addresses under which browsers reach the server.
        port: its port.
        choosing: how questions are chosen.
        newer: what looks for a newer run, and what loads it.
        also: runs that the model is compared with, for the strategy "disagreement".

    Raises:
        DataError: the store has other questions under the same ids.
        RunError: the store cannot be written.
    """
    answers = Answers(decoder, documents, in_full=choosing is not None and choosing.in_full, also=also)
    desk = Desk(store, documents, answers, run, choosing)
    sessions = Sessions(annotators)
    succession = Succession(desk, *newer) if newer is not None else None
    app = build_application([review_room(desk, data, succession)], sessions, host_names(names, port), port=port)
    answers.start()
    return Review(app, sessions, desk, answers)
