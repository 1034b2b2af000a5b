"""Trees of messages, as OpenAssistant publishes them (Koepf et al., 2023): every reply may have several replies.

A tree becomes conversations that begin alike. They are joined into one prefix tree when they are learned, and each
reply of the assistant is learned once: in the first conversation that holds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from palmette.errors import DataError

Row = dict[str, Any]
_ROLES = {"prompter": "user", "assistant": "assistant", "user": "user"}


def is_tree(row: Row) -> bool:
    """Whether a row holds a tree of messages."""
    prompt = row.get("prompt")
    return isinstance(prompt, dict) and isinstance(prompt.get("text"), str) and "role" in prompt


def tree_rows(row: Row) -> list[Row]:
    """The conversations of a tree: one for each reply of the assistant that no later one follows.

    Messages that were deleted or rejected in review are left out, with all that follows them.
    """
    messages: list[tuple[Row, int]] = []  # from the first one down, each with the place of its parent
    waiting: list[tuple[Row, int]] = [(row["prompt"], -1)]
    while waiting:
        message, parent = waiting.pop()
        if message.get("deleted") or message.get("review_result") is False:
            continue
        waiting += [(reply, len(messages)) for reply in reversed(message.get("replies") or ())]
        messages.append((message, parent))
    answered = [False] * len(messages)  # whether the assistant says anything further down
    ends = []
    for index in range(len(messages) - 1, -1, -1):
        message, parent = messages[index]
        speaks = message["role"] == "assistant"
        if speaks and not answered[index]:
            ends.append(index)
        if parent >= 0 and (speaks or answered[index]):
            answered[parent] = True
    learned: set[int] = set()
    return [_conversation(_path(messages, index), learned) for index in reversed(ends)]


def _path(messages: list[tuple[Row, int]], index: int) -> list[Row]:
    """A message with all above it, from the first one down."""
    path = []
    while index >= 0:
        message, index = messages[index]
        path.append(message)
    return path[::-1]


def _conversation(path: list[Row], learned: set[int]) -> Row:
    """The messages of a path. A reply that an earlier path has is not learned again."""
    turns = []
    for message in path:
        turn = {"role": _ROLES[message["role"]], "content": message["text"]}
        if message["role"] == "assistant" and id(message) in learned:
            turn["learn"] = 0.0
        learned.add(id(message))
        turns.append(turn)
    name = path[-1].get("message_id")
    return {"messages": turns} if name is None else {"id": str(name), "messages": turns}


def trees_of_messages(rows: Iterable[Row | DataError]) -> Iterator[Row | DataError]:
    """Rows, in which messages that name their parents have become trees. Then all rows are read first.

    >>> rows = [{"message_id": "a", "text": "When?", "role": "prompter"}]
    >>> rows.append({"message_id": "b", "parent_id": "a", "text": "At 7:40.", "role": "assistant"})
    >>> [row["prompt"]["replies"][0]["text"] for row in trees_of_messages(rows)]
    ['At 7:40.']

    A message without an id or with that of an earlier one, and messages whose parents lead back to them, are errors.
    """
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return
    every = chain([first], rows)
    if isinstance(first, DataError) or not {"message_id", "text", "role"} <= first.keys():
        yield from every
        return
    messages: dict[str, Row] = {}
    for row in every:
        name = None if isinstance(row, DataError) else row.get("message_id")
        if isinstance(row, DataError):
            yield row
        elif name is None:
            yield DataError(f"{row.get('id', 'a row')} has no 'message_id', and others have", "Give every message one.")
        elif str(name) in messages:
            yield DataError(f"the message id {str(name)!r} stands twice", "Give every message its own id.")
        else:
            messages[str(name)] = {**row, "replies": []}
    yield from _in_circles(messages)
    for message in messages.values():
        parent = messages.get(str(message.get("parent_id")))
        if parent is not None:
            parent["replies"].append(message)
    for message in messages.values():
        if str(message.get("parent_id")) not in messages:
            yield {"prompt": message}


def _in_circles(messages: Mapping[str, Row]) -> Iterator[DataError]:
    """An error for each circle of messages that are each other's parents. What follows them has no beginning either."""
    known: set[str] = set()
    for name in messages:
        path: list[str] = []
        while name in messages and name not in known:
            known.add(name)
            path.append(name)
            name = str(messages[name].get("parent_id"))
        if name in path:
            circle = path[path.index(name) :]
            shown = ", ".join(map(repr, circle[:5])) + (", ..." if len(circle) > 5 else "")
            yield DataError(
                f"the parents of the message {name!r} lead back to it: {shown}",
                "Correct their parent_id. Only the first message of a thread has none.",
            )
