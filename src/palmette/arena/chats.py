"""Free conversations with two models at once, whose names nobody knows before the vote.

Somebody writes a message, and both models reply to it. Each of them sees its own replies. Both replies are shown
together when the slower one is there, so the time that they take tells nothing. Which two models somebody talks with is
drawn when the conversation begins (`drawing.py`), and so are their sides. Every exchange is stored as something that
was shown, with the whole conversation in it. A vote is on what was shown last.

A reply in which a model names itself is shown all the same, since it is written while somebody waits. Its vote is
marked as not blind.

Not covered: replies do not come word by word, and a message that nobody has replied to yet is lost with the server.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from palmette.arena.drawing import DrawnPair, draw_pair
from palmette.arena.events import Chat, Event, Shown
from palmette.arena.folder import answer_hash
from palmette.arena.ledger import Ledger
from palmette.arena.naming import named
from palmette.data.records import check_unicode
from palmette.errors import DataError, PalmetteError, RunError

LONGEST = 8000  # characters of a message
MOST_TURNS = 20
# The reply to a message, after messages and replies so far.
Reply = Callable[[Sequence[tuple[str, str]], str], str]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Speaker:
    """A model that people can talk with.

    Attributes:
        model: its name.
        names: what it may call itself, as `names_of` gives it.
        reply: writes its reply. Threads may call it at the same time.
    """

    model: str
    names: tuple[str, ...]
    reply: Reply


@dataclass(frozen=True, slots=True)
class Talk:
    """Where somebody's conversation is.

    Attributes:
        key: what a vote on it names. None before the first replies.
        chat: what was said. None before the first replies.
        writing: the message to which replies are being written. None if there is none.
        failed: whether the last message got no replies.
    """

    key: int | None
    chat: Chat | None
    writing: str | None
    failed: bool


def check_models(models: Sequence[str]) -> None:
    """Check the names of models that people are to talk with.

    Raises:
        DataError: there are fewer than two, or two of one name.
    """
    if len(models) < 2:
        raise DataError(f"a free chat needs two models, and has {len(models)}", "Give --chat twice or more often.")
    for model in models:
        if models.count(model) > 1:
            raise DataError(f"two models of the free chat are called {model}", "Name each once, or rename one.")


class Chats:
    """The conversations of all people. Threads may share it.

    Args:
        ledger: the events of the arena, and what holds by them.
        speakers: the models.
        source: random numbers. By default those of the operating system.

    Raises:
        DataError: there are fewer than two models, or two of one name.
    """

    def __init__(self, ledger: Ledger, speakers: Sequence[Speaker], source: random.Random | None = None) -> None:
        self._ledger, self._source = ledger, source or random.SystemRandom()
        check_models([one.model for one in speakers])
        self._speakers = {one.model: one for one in speakers}
        self._pairs = [frozenset(pair) for pair in itertools.combinations(self._speakers, 2)]
        self._writing: dict[str, str] = {}
        self._failed: dict[str, int | None] = {}  # the conversation whose last message got no replies

    def talk(self, voter: str) -> Talk:
        """Where somebody's conversation is."""
        with self._ledger.lock:
            self._ledger.catch_up()
            event = self._ledger.state.chat(voter)
            key, chat = (None, None) if event is None else (event.id, event.chat)
            failed = voter in self._failed and self._failed[voter] == key
            return Talk(key, chat, self._writing.get(voter), failed)

    def say(self, voter: str, session: str, key: int | None, text: str) -> None:
        """Send a message to both models. Their replies are written in a thread of its own (`talk` has them then).

        Args:
            voter: the person.
            session: the person's session, for the events.
            key: the conversation, as `talk` gave it. None begins one.
            text: the message.

        Raises:
            DataError: the message is empty or too long, the conversation went on elsewhere or is long enough, or
                replies are being written.
        """
        check_unicode(text, "the message")
        if not text.strip() or len(text) > LONGEST:
            raise DataError(f"the message has {len(text)} characters", f"Write 1 to {LONGEST:,}.")
        with self._ledger.lock:
            self._ledger.catch_up()
            event = self._ledger.state.chat(voter)
            if (None if event is None else event.id) != key or voter in self._writing:
                raise DataError("this conversation went on elsewhere", "Reload the page.")
            before = Chat((), (), ()) if event is None or event.chat is None else event.chat
            if len(before.turns) >= MOST_TURNS:
                raise DataError(f"a conversation has {MOST_TURNS} messages at most", "Vote, and begin another one.")
            begun = self._begun() if event is None or event.shown is None else event.shown
            self._writing[voter] = text
            self._failed.pop(voter, None)
        threading.Thread(
            target=self._exchange, args=(voter, session, key, begun, before, text), name="chat", daemon=True
        ).start()

    def _begun(self) -> Shown:
        """A conversation in which nothing was said yet."""
        drawn = draw_pair(self._pairs, self._ledger.state.tally, (), self._source)
        assert drawn is not None
        return _empty(drawn, swapped=self._source.random() < 0.5)

    def _exchange(self, voter: str, session: str, key: int | None, begun: Shown, before: Chat, text: str) -> None:
        """Let both models reply, and store the exchange."""
        with contextlib.ExitStack() as held:
            try:
                chat, shown = self._replied(begun, before, text)
                held.enter_context(self._ledger.lock)  # so nobody sees them while they are being written
                self._ledger.catch_up()
                event = self._ledger.state.chat(voter)
                if (None if event is None else event.id) == key:  # else there was a vote meanwhile
                    self._ledger.append([Event("shown", datetime.now(UTC), voter, session, shown=shown, chat=chat)])
            except PalmetteError as error:
                _log.error("a message in the free chat got no replies: %s", error)
                self._failed[voter] = key
            except Exception:  # whatever a model fails with, the page must not wait for it
                _log.exception("a message in the free chat got no replies")
                self._failed[voter] = key
            finally:
                del self._writing[voter]

    def _replied(self, begun: Shown, before: Chat, text: str) -> tuple[Chat, Shown]:
        speakers = [self._speakers.get(model) for model in (begun.left, begun.right)]
        if None in speakers:
            raise RunError(f"{begun.left} and {begun.right} do not both chat here any more", "Begin another one.")
        sides = (before.left, before.right)
        with ThreadPoolExecutor(2) as pool:
            waiting = [
                pool.submit(one.reply, list(zip(before.turns, side, strict=True)), text)
                for one, side in zip(speakers, sides, strict=True)
                if one is not None
            ]
            left, right = ((*side, future.result()) for side, future in zip(sides, waiting, strict=True))
        chat = Chat((*before.turns, text), left, right)
        tells = any(
            named(replies, chat.turns, one.names)
            for one, replies in zip(speakers, (left, right), strict=True)
            if one is not None
        )
        shown = Shown(
            begun.prompt,
            begun.left,
            begun.right,
            answer_hash(left),
            answer_hash(right),
            begun.sampling_probability,
            tells,
            begun.weight,
        )
        return chat, shown


def _empty(drawn: DrawnPair, *, swapped: bool) -> Shown:
    left, right = sorted(drawn.models, reverse=swapped)
    return Shown(f"chat-{secrets.token_hex(8)}", left, right, "", "", drawn.probability, weight=drawn.weight)
