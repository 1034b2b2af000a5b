"""Magpie (Xu et al., 2024): an aligned model writes what a user would say where its template lets the user speak.

The tasks are drawn at temperature 1 from the model's own distribution, and the model replies to each as to any user.
We deviate in one point: a task may have several lines, where the paper's scripts end some at the first. *Not* covered:
the paper's grades of quality and difficulty by a model, and its reward model.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from palmette.synth.instruct.replies import add_replies
from palmette.synth.instruct.rounds import Known, Listing
from palmette.synth.instruct.settings import InstructSettings
from palmette.synth.instruct.text import Turns
from palmette.synth.leaks import IsLeaked
from palmette.synth.work import Line
from palmette.synth.writers import LocalWriter, Written, tokens_of

DRAWN = 16  # tasks of a round
LONGEST = 256  # tokens of a task
_TYPICAL = "word " * 20


@dataclass(frozen=True)
class Magpie:
    """Rounds of tasks that a local model thinks up without being asked.

    Attributes:
        writer: the model.
        settings: how many tasks are made.
        is_leaked: whether a text shares words with an evaluation set.
    """

    writer: LocalWriter
    settings: InstructSettings
    is_leaked: IsLeaked

    def __call__(self, name: str, kept: Sequence[str], known: Known) -> Line:
        """See `Round`."""
        keys = [zlib.crc32(f"{self.settings.seed} {name} {number}".encode()) for number in range(DRAWN)]
        drawn = self.writer.imagine(keys, LONGEST)
        listing = Listing(name, self.settings.max_alike, self.is_leaked, known)
        for one in drawn:
            if listing.num_fresh == self.settings.number - len(kept):
                break
            text = one.text.strip()
            listing.add(text, self._fault(one, text))["classification"] = False
        fresh = [task for task in listing.tasks if not task["reason"]]
        replies = add_replies(fresh, self.writer, self.is_leaked)
        return {"id": name, "lists": [], "tasks": listing.tasks, **tokens_of([*drawn, *replies])}

    def _fault(self, written: Written, text: str) -> str:
        """Why a task is dropped for what only a task that was drawn can have."""
        if written.finish == "length":
            return "cut off"
        if text.endswith(":"):
            return "ends with a colon"
        return "" if self.writer.takes((("user", text),)) else "not for the template"

    def typical(self) -> Iterator[Turns]:
        """Requests as long as those that so many tasks take, if none is dropped."""
        return ((("user", _TYPICAL),) for _ in range(2 * self.settings.number))
