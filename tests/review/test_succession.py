"""A newer run is offered, loaded while people judge, and takes over. One that cannot be loaded changes nothing."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from palmette.errors import DataError, ModelError
from palmette.review.answers import Answers
from palmette.review.desk import Desk
from palmette.review.events import Verdict
from palmette.review.showing import Choosing, Run
from palmette.review.store import Store
from palmette.review.succession import Succession
from tests.support.review_page import RUN, StubDecoder, reviewed

NEWER = replace(RUN, name="runs/tiny-review-1", sha256="3" * 64)


def offer(name: str) -> str | None:
    """What is newer than a run."""
    return NEWER.name if name == RUN.name else None


def test_a_newer_run_takes_over_while_people_judge(tmp_path: Path) -> None:
    documents = [reviewed(number) for number in range(3)]
    loading = threading.Event()

    def load(name: str) -> tuple[Run, StubDecoder]:
        assert name == NEWER.name
        assert loading.wait(60)
        return NEWER, StubDecoder()

    with Store.open(tmp_path / "review.db") as store:
        answers = Answers(StubDecoder(), documents)
        desk = Desk(store, documents, answers, RUN, Choosing("random", overlap_share=0.0, blind_share=0.0))
        answers.start()
        assert answers.wait()
        succession = Succession(desk, offer, load)
        assert succession.offered() == NEWER.name
        with pytest.raises(DataError, match="is not offered"):
            succession.begin("/etc")
        succession.begin(NEWER.name)
        assert (succession.preparing, succession.offered()) == (True, None)
        with pytest.raises(DataError, match="is not offered"):
            succession.begin(NEWER.name)  # it is on its way
        asked = desk.ask("ann", "session")  # nobody waits for it
        assert asked is not None
        desk.judge("ann", "session", asked.key, Verdict("skip"))
        loading.set()
        assert succession._thread is not None
        succession._thread.join()
        assert desk.run == NEWER
        assert (succession.preparing, succession.offered(), succession.failure) == (False, None, None)
        again = desk.ask("ann", "session")
        assert again is not None
        assert again.question != asked.question


def test_a_run_that_cannot_be_loaded_leaves_all_as_it_is(tmp_path: Path) -> None:
    def load(name: str) -> tuple[Run, StubDecoder]:
        raise ModelError("its base is gone", "Copy it.")

    with Store.open(tmp_path / "review.db") as store:
        desk = Desk(store, [reviewed(1)], Answers(StubDecoder(), [reviewed(1)]), RUN)
        succession = Succession(desk, offer, load)
        succession.begin(NEWER.name)
        assert succession._thread is not None
        succession._thread.join()
        assert desk.run == RUN
        assert str(succession.failure) == "its base is gone. Copy it."
        assert succession.offered() == NEWER.name  # it may be tried again
