"""Who is asking: a token at the start, and a cookie from then on.

Each annotator gets a token, which stands in the link that is printed when the server starts, behind the `#`. Browsers
send that part to nobody. The page sends the token once, and gets a cookie that scripts cannot read and that is sent
with requests of our own pages only (`HttpOnly`, `SameSite=Strict`).
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass

MAX_SESSIONS = 1000  # the oldest ends when another begins


@dataclass(frozen=True, slots=True)
class Session:
    """A browser of an annotator.

    Attributes:
        annotator: the name of the annotator.
        id: what events call it. It opens nothing.
    """

    annotator: str
    id: str


class Sessions:
    """The tokens of annotators, and the sessions that began with them. It may be used by several threads.

    Args:
        annotators: the names of the annotators.

    Attributes:
        tokens: {name of an annotator: token}.
    """

    def __init__(self, annotators: Sequence[str]) -> None:
        self.tokens = {name: secrets.token_urlsafe(32) for name in annotators}
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def begin(self, token: str) -> tuple[str, Session] | None:
        """The cookie and the session of a new browser. None if nobody has this token."""
        given = token.encode("utf-8", "surrogatepass")
        # All are compared, so the time tells nothing about whose token was nearly right.
        found = [name for name, own in self.tokens.items() if hmac.compare_digest(own.encode(), given)]
        if not found:
            return None
        cookie, session = secrets.token_urlsafe(32), Session(found[0], secrets.token_hex(8))
        with self._lock:
            while len(self._sessions) >= MAX_SESSIONS:
                self._sessions.pop(next(iter(self._sessions)))
            self._sessions[cookie] = session
        return cookie, session

    def find(self, cookie: str | None) -> Session | None:
        """The session of a cookie, if there is one."""
        return self._sessions.get(cookie) if cookie else None
