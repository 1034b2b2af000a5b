"""Trees of messages, as OpenAssistant publishes them (Koepf et al., 2023): every reply may have several replies.

A tree becomes conversations that begin alike. They are joined into one prefix tree when they are learned, and each
reply of the assistant is learned once: in the first conversation that holds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    found: list[Row] = []
    learned: set[int] = set()

    def walk(message: Row, above: list[Row]) -> bool:
        """Follow a message. Returns whether the assistant says anything from here on."""
        if message.get("deleted") or message.get("review_result") is False:
            return False
        path = [*above, message]
        speaks = [walk(reply, path) for reply in message.get("replies") or ()]
        if message["role"] != "assistant":
            return any(speaks)
        if not any(speaks):
            found.append(_conversation(path, learned))
        return True

    walk(row["prompt"], [])
    return found


def _conversation(path: list[Row], learned: set[int]) -> Row:
    """The messages of a path. A reply that an earlier path has is not learned again."""
    turns = []
    for message in path:
        turn = {"role": _ROLES[message["role"]], "content": message["text"]}
        if message["role"] == "assistant" and id(message) in learned:
            turn["learn"] = 0.0
        learned.add(id(message))
        turns.append(turn)
    return {"id": str(path[-1].get("message_id", id(path[-1]))), "messages": turns}


def trees_of_messages(rows: Iterable[Row | DataError]) -> Iterator[Row | DataError]:
    """Rows, in which messages that name their parents have become trees. Then all rows are read first.

    >>> rows = [{"message_id": "a", "text": "When?", "role": "prompter"}]
    >>> rows.append({"message_id": "b", "parent_id": "a", "text": "At 7:40.", "role": "assistant"})
    >>> [row["prompt"]["replies"][0]["text"] for row in trees_of_messages(rows)]
    ['At 7:40.']
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
        if isinstance(row, DataError):
            yield row
        else:
            messages[str(row.get("message_id"))] = {**row, "replies": []}
    for message in messages.values():
        parent = messages.get(str(message.get("parent_id")))
        if parent is not None:
            parent["replies"].append(message)
    for message in messages.values():
        if str(message.get("parent_id")) not in messages:
            yield {"prompt": message}
