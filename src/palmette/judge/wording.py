"""The words around what a judge is asked, one YAML file in `prompts/` each."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import resources
from itertools import zip_longest

from palmette.errors import DataError, reason_of
from palmette.files import expand, parse_yaml
from palmette.judge.text import Choice
from palmette.tree.chat import Message, Piece

CHOICES: tuple[Choice, ...] = ("A", "B", "tie")
GRADES = tuple(str(grade) for grade in range(1, 11))
DEFAULT = "plain"
_PLACE = re.compile(r"\{(\w+)\}")
_PLACES = {
    "system": set(),
    "turn": {"question", "answer"},
    "pair": {"conversation_a", "conversation_b", "reference"},
    "single": {"conversation", "reference"},
    "reference": {"conversation"},
}


@dataclass(frozen=True, slots=True)
class Case:
    """What a judge is shown at once.

    Attributes:
        turns: the user's messages. The answer to the last one is judged.
        answers: one or two conversations, in the order in which they are shown. Each has a reply to every message.
        references: right replies to the messages. () if they are not known.
    """

    turns: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...]
    references: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The possible verdicts."""
        return CHOICES if len(self.answers) == 2 else GRADES

    def exchanged(self) -> Case:
        """The same with the answers in the other order."""
        return Case(self.turns, self.answers[::-1], self.references)


@dataclass(frozen=True, slots=True)
class JudgePrompt:
    """The words of a judge. `{name}` stands for what is put there.

    Attributes:
        system: the system message. "" for none.
        turn: one message of the user and its reply: {question} and {answer}.
        pair: what is asked about two conversations: {conversation_a} and {conversation_b}, and {reference}.
        single: what is asked about one: {conversation}, and {reference}.
        reference: what stands at {reference} where right answers are known: {conversation}.
    """

    system: str
    turn: str
    pair: str
    single: str
    reference: str

    @property
    def sha256(self) -> str:
        """Hash of the words."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def messages(self, case: Case) -> tuple[Message, ...]:
        """The messages that ask for a verdict. Each piece of what people or models wrote is tokenised by itself."""
        reference: list[Piece] = []
        if case.references:
            reference = _filled(self.reference, {"conversation": self._conversation(case.turns, case.references)})
        shown = [self._conversation(case.turns, answers) for answers in case.answers]
        if len(shown) == 2:
            values = {"conversation_a": shown[0], "conversation_b": shown[1], "reference": reference}
            asked = _filled(self.pair, values)
        else:
            asked = _filled(self.single, {"conversation": shown[0], "reference": reference})
        system = (Message("system", (Piece(self.system),)),) if self.system else ()
        return (*system, Message("user", tuple(asked)))

    def _conversation(self, turns: Sequence[str], replies: Sequence[str]) -> list[Piece]:
        pieces: list[Piece] = []
        for question, answer in zip_longest(turns, replies, fillvalue=""):
            pieces += _filled(self.turn, {"question": [Piece(question)], "answer": [Piece(answer)]})
        return pieces


def _filled(template: str, values: Mapping[str, Sequence[Piece]]) -> list[Piece]:
    """A template as pieces, with values at its places."""
    pieces: list[Piece] = []
    for index, part in enumerate(_PLACE.split(template)):
        pieces += values[part] if index % 2 else [Piece(part)]
    return [piece for piece in pieces if piece.text]


def as_messages(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Messages as an endpoint takes them."""
    return [{"role": message.role, "content": "".join(piece.text for piece in message.pieces)} for message in messages]


def load_judge_prompt(name: str = DEFAULT) -> JudgePrompt:
    """A judge's prompt by its name, or from a YAML file.

    Raises:
        DataError: there is no such prompt, or its file lacks a text or a place.
    """
    values = {key: value for key, value in _values(name).items() if key != "about"}
    known = [field.name for field in fields(JudgePrompt)]
    for key in [*values, *known]:
        if key not in known:
            raise DataError(f"the judge's prompt {name!r} has the unknown key {key!r}", f"Known: {', '.join(known)}.")
        if not isinstance(values.get(key), str):
            raise DataError(f"the judge's prompt {name!r} has no text {key!r}", "Give every text in quotes.")
    prompt = JudgePrompt(**values)
    for key, places in _PLACES.items():
        found = set(_PLACE.findall(getattr(prompt, key)))
        if found - places or places - found - {"reference"}:
            wanted = ", ".join(f"{{{place}}}" for place in sorted(places)) or "no places"
            raise DataError(f"the text {key!r} of the judge's prompt {name!r} has other places", f"It needs {wanted}.")
    return prompt


def _values(name: str) -> dict[str, str]:
    try:
        if re.fullmatch(r"\w+", name):
            text = resources.files("palmette.judge").joinpath("prompts", f"{name}.yaml").read_text(encoding="utf-8")
        else:
            text = expand(name).read_text(encoding="utf-8")
        values = parse_yaml(text)
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read the judge's prompt {name!r}: {reason_of(error)}", f"Give {DEFAULT}, or a YAML file."
        ) from error
    if not isinstance(values, dict):
        raise DataError(f"the judge's prompt {name!r} is no map of texts", f"Needed: {', '.join(_PLACES)}.")
    return values
