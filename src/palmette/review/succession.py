"""A newer run takes the place of the one under review, while people go on judging."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

from palmette.decode.prediction import Decoder
from palmette.errors import DataError, PalmetteError
from palmette.review.desk import Desk
from palmette.review.showing import Run

_log = logging.getLogger(__name__)
_LOOK = 5.0  # seconds between two looks for a newer run

# Gives the name of the newest run that was made of a run, or None. Loads a run by its name.
Find = Callable[[str], str | None]
Open = Callable[[str], tuple[Run, Decoder]]


class Succession:
    """Looks for a newer run, and prepares it when somebody asks for it. Threads may share it.

    Args:
        desk: the desk, which goes on with the newer run.
        find: looks for a newer run.
        open_run: loads one.

    Attributes:
        failure: why the last run could not be loaded. None if it could, or if none was asked for.
    """

    def __init__(self, desk: Desk, find: Find, open_run: Open) -> None:
        self._desk = desk
        self._find, self._open_run = find, open_run
        self._lock = threading.Lock()
        self._looked = -math.inf
        self._offered: str | None = None
        self._thread: threading.Thread | None = None
        self.failure: PalmetteError | None = None

    @property
    def preparing(self) -> bool:
        """Whether a newer run is being loaded."""
        return self._thread is not None and self._thread.is_alive()

    def offered(self) -> str | None:
        """The name of a newer run that is ready. None if there is none, or if it is being loaded."""
        if self.preparing:
            return None
        with self._lock:
            if time.monotonic() - self._looked > _LOOK:
                self._offered, self._looked = self._find(self._desk.run.name), time.monotonic()
            return self._offered

    def begin(self, name: str) -> None:
        """Load a newer run in the background. The desk goes on with it once it has answered the first document.

        Args:
            name: the run, as it was offered.

        Raises:
            DataError: it is not offered.
        """
        if name != self.offered():
            raise DataError(f"{name} is not offered for review", "Reload the page.")
        with self._lock:
            self._thread = threading.Thread(target=self._prepare, args=(name,), name="succession", daemon=True)
            self._thread.start()

    def _prepare(self, name: str) -> None:
        self.failure = None
        try:
            run, decoder = self._open_run(name)
            answers = self._desk.answers_of(decoder)
            answers.start()
            answers.wait_first()
            answers.check()
        except PalmetteError as error:
            self.failure = error
            _log.error("the newer run %s cannot be reviewed: %s", name, error)
            return
        self._desk.replace(run, answers)
        with self._lock:
            self._offered, self._looked = None, -math.inf
