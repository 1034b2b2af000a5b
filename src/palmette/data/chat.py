"""Conversations to learn from: JSON Lines, JSON lists, tables, or data sets of the Hugging Face hub.

Rows of other forms, such as Alpaca's, become rows of this form first (`data/forms.py`).
A row has `messages` (or `conversations`), which is a list of turns. Or it has `prompt` and `completion`, each a text or
a list of turns. A turn is {"role": ..., "content": ...}, or {"from": ..., "value": ...} as in ShareGPT. Content is a
text, or a list of parts. Each part is a text, or

    {"text": ..., "learn": 0.0, "attend": true}

`learn` is the weight of the part's tokens in the loss. Without it the recipe decides. `attend` says whether later
tokens may attend to them. A turn may have both too, for all of its parts. A row may have an `id`. Other columns are
ignored, except those that would change the input of a model. A null means the same as a missing key.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from palmette.data.kinds import kind_of, of_kind
from palmette.data.records import check_unicode
from palmette.data.source import OnBad, open_rows
from palmette.data.text import short
from palmette.data.values import is_number, read_id, without_nulls
from palmette.errors import DataError, kind_of_value
from palmette.files import expand

Role = Literal["system", "user", "assistant"]
# The names of the roles in data sets.
_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
_TURN_KEYS = ("role", "from", "content", "value", "learn", "attend")
_PART_KEYS = ("text", "type", "learn", "attend")
_REFUSED = ("system", "tools", "functions")
_FORMAT = "Each row needs 'messages' (a list of {'role': ..., 'content': ...}), or 'prompt' and 'completion'."
_PARTS = "Content is text, or a list of parts, each text or {'text': ..., 'learn': ..., 'attend': ...}."
_EXAMPLE = "HuggingFaceTB/smoltalk:train"


@dataclass(frozen=True, slots=True)
class Part:
    """A run of characters of a turn.

    Attributes:
        text: the characters.
        learn: the weight of their tokens in the loss. None if the recipe decides.
        attend: whether later tokens may attend to theirs.
    """

    text: str
    learn: float | None = None
    attend: bool = True


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns, of which the assistant has the last.

    Attributes:
        id: an id that is unique in its data set.
        turns: one turn or more.
        prompt_turns: the number of turns at the beginning that are a prompt. The assistant's turns among them are not
            learned.
    """

    id: str
    turns: tuple[Turn, ...]
    prompt_turns: int = 0


@dataclass(frozen=True, slots=True)
class ChatSet:
    """Conversations read from one source.

    Attributes:
        source: where they came from, as the user named it.
        conversations: what was read.
        sha256: hash of the source's bytes, or the hub's fingerprint.
        dropped: records left out under the policy "drop", with the reason of each.
    """

    source: str
    conversations: tuple[Conversation, ...]
    sha256: str
    dropped: tuple[str, ...] = field(default=())

    @property
    def num_turns(self) -> int:
        """Turns of the assistant."""
        return sum(turn.role == "assistant" for conversation in self.conversations for turn in conversation.turns)

    def describe(self) -> dict[str, Any]:
        """The source, its hash and its size, for manifests. The assistant's turns count as questions."""
        counts = {"documents": len(self.conversations), "questions": self.num_turns}
        return {"source": self.source, "sha256": self.sha256, **counts}


def read_chat(
    source: str,
    *,
    default_split: str = "train",
    on_bad_record: OnBad = "error",
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
) -> ChatSet:
    """Read and check conversations.

    Args:
        source: a .jsonl file, or a hub data set.
        default_split: the split of a hub data set whose name gives none after a colon.
        on_bad_record: "error" stops at the first bad conversation. "drop" leaves it out and counts it.
        limit: read at most so many conversations.
        columns: the names of columns that the data call otherwise, as {ours: theirs}.

    Raises:
        DataError: there is no such source, a record is bad, an id occurs twice, or nothing is left.
    """
    digest, rows = open_rows(source, default_split=default_split, columns=_FORMAT, example=_EXAMPLE, names=columns)
    conversations: list[Conversation] = []
    dropped: list[str] = []
    seen: set[str] = set()
    for record in parse_chat(of_kind(rows, source, "conversations"), source):
        if limit is not None and len(conversations) >= limit:
            break
        error = record if isinstance(record, DataError) else None
        if isinstance(record, Conversation) and record.id in seen:
            error = DataError(f"{source}: the conversation id {record.id!r} stands twice", "Give every one its own id.")
        if error is not None and on_bad_record == "error":
            raise error
        if error is not None:
            dropped.append(error.problem)
        elif isinstance(record, Conversation):
            seen.add(record.id)
            conversations.append(record)
    if not conversations:
        raise DataError(f"{source}: no conversation ({len(dropped)} dropped)", _FORMAT)
    return ChatSet(source, tuple(conversations), digest, tuple(dropped))


def parse_chat(rows: Iterable[dict[str, Any] | DataError], source: str) -> Iterator[Conversation | DataError]:
    """Conversations from rows, in order. A row that breaks the format is given as its error."""
    for number, row in enumerate(rows, start=1):
        try:
            yield row if isinstance(row, DataError) else _conversation(without_nulls(row), number, source)
        except DataError as error:
            yield error


def holds_chat(source: str) -> bool:
    """Whether a source is a JSON Lines file whose first row is meant as a conversation."""
    path = expand(source)
    if path.suffix != ".jsonl" or not path.is_file():
        return False
    _, rows = open_rows(source, default_split="train", columns=_FORMAT, example=_EXAMPLE)
    return any(isinstance(row, dict) and kind_of(row) == "conversations" for row in islice(rows, 1))


def _conversation(row: dict[str, Any], number: int, source: str) -> Conversation:
    identifier = read_id(row.get("id", f"row-{number}"), f"{source}: row {number}")
    where = f"{source}: conversation {str(identifier)!r}"
    for key in _REFUSED:
        if row.get(key):
            raise DataError(
                f"{where} has {key!r} beside its turns, which would be left out",
                "Write it into a first turn with the role system, or take it out.",
            )
    for key in ("messages", "conversations"):
        if key in row:
            conversation = Conversation(str(identifier), _turns(row[key], f"{where}, {key!r}"))
            break
    else:
        if "prompt" not in row or "completion" not in row:
            raise DataError(f"{where} has only {', '.join(map(repr, sorted(row.keys() - {'id'}))) or 'an id'}", _FORMAT)
        prompt = turns_of(row["prompt"], "user", f"{where}, 'prompt'")
        completion = turns_of(row["completion"], "assistant", f"{where}, 'completion'")
        conversation = Conversation(str(identifier), (*prompt, *completion), len(prompt))
    _check_roles(conversation, where)
    return conversation


def turns_of(value: Any, role: Role, where: str) -> tuple[Turn, ...]:
    """A prompt or a completion: a list of turns, or the content of one.

    Args:
        value: the value of the row.
        role: the role of the turn, if it is the content of one.
        where: how messages name the place.

    Raises:
        DataError: it breaks the format, or a turn is empty.
    """
    if isinstance(value, list) and any(isinstance(part, dict) and {"role", "from"} & part.keys() for part in value):
        return _turns(value, where)
    turn = Turn(role, _parts({"content": value}, where))
    _check_text(turn, where)
    return (turn,)


def _turns(values: Any, where: str) -> tuple[Turn, ...]:
    if not isinstance(values, list) or not values:
        what = "an empty list" if values == [] else f"{kind_of_value(values)}, not a list of turns"
        raise DataError(f"{where} is {what}", _FORMAT)
    return tuple(_turn(value, f"{where}, turn {number}") for number, value in enumerate(values, start=1))


def _turn(value: Any, where: str) -> Turn:
    if not isinstance(value, dict):
        raise DataError(f"{where} is {kind_of_value(value)}, not an object", _FORMAT)
    _check_keys(value, _TURN_KEYS, where)
    name = value.get("role", value.get("from"))
    if not isinstance(name, str) or name not in _ROLES:
        raise DataError(
            f"{where} has the role {short(name)}",
            "Roles are system, user (human) and assistant (gpt). Leave others out.",
        )
    turn = Turn(_ROLES[name], _parts(value, where))
    _check_text(turn, where)
    return turn


def _parts(turn: dict[str, Any], where: str) -> tuple[Part, ...]:
    """The parts of a turn's content. A part that does not set `learn` or `attend` has those of the turn."""
    content = turn.get("content", turn.get("value"))
    if not isinstance(content, str | list):
        raise DataError(f"{where} has the content {short(content)}", _PARTS)
    given = Part("", _weight(turn, None, where), _attended(turn, True, where))
    if isinstance(content, str):
        return (Part(content, given.learn, given.attend),)
    return tuple(_part(part, given, f"{where}, part {number}") for number, part in enumerate(content, start=1))


def _part(value: Any, given: Part, where: str) -> Part:
    if isinstance(value, str):
        value = {"text": value}
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        raise DataError(f"{where} is {short(value)}, which has no text", _PARTS)
    _check_keys(value, _PART_KEYS, where)
    if value.get("type", "text") != "text":
        raise DataError(f"{where} is of the type {value['type']!r}", "Only text can be learned from.")
    if not value["text"]:
        raise DataError(f"{where} is empty", "Take it out.")
    return Part(value["text"], _weight(value, given.learn, where), _attended(value, given.attend, where))


def _weight(values: dict[str, Any], default: float | None, where: str) -> float | None:
    learn = values.get("learn")
    if learn is None:
        return default
    if not is_number(learn) or learn < 0:
        problem = f"{where} has learn = {short(learn)}"
        raise DataError(problem, "Give a weight of 0 or more. 0 = not learned, 1 = as usual.")
    return float(learn)


def _attended(values: dict[str, Any], default: bool, where: str) -> bool:
    attend = values.get("attend")
    if attend is None:
        return default
    if not isinstance(attend, bool):
        raise DataError(f"{where} has attend = {short(attend)}", "Write true, or false to hide it from later tokens.")
    return attend


def _check_keys(values: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    """Refuse keys that would be ignored although somebody meant them. Keys of empty columns do not count."""
    for key, value in values.items():
        if key not in known and value not in (None, "", [], {}):
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise DataError(f"{where} has the unknown key {key!r}", f"{hint}Known: {', '.join(known)}.")


def _check_text(turn: Turn, where: str) -> None:
    text = "".join(part.text for part in turn.parts)
    if not text.strip():
        raise DataError(f"{where} ({turn.role}) is empty", "Take the turn out, or write its text.")
    for part in turn.parts:
        check_unicode(part.text, f"{where} ({turn.role})")


def _check_roles(conversation: Conversation, where: str) -> None:
    roles = [turn.role for turn in conversation.turns]
    if "assistant" not in roles:
        raise DataError(f"{where} has no turn of the assistant, so there is nothing to learn", "Take it out.")
    if roles[-1] != "assistant":
        raise DataError(f"{where} ends with a turn of the {roles[-1]}", "End it with the assistant's.")
