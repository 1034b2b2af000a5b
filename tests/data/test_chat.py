"""Conversations are read in the usual conventions; every bad one is named with its turn, value and way out, or
counted.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from palmette.data.chat import Conversation, Part, Turn, parse_chat, read_chat
from palmette.data.kinds import kind_of
from palmette.errors import DataError
from tests.support.data import chat_file

ASKED = {"role": "user", "content": "When does the ferry leave?"}
SAID = {"role": "assistant", "content": "At 7:40."}
GOOD = {"messages": [ASKED, SAID]}
ASKED_TURN = Turn("user", (Part("When does the ferry leave?"),))
SAID_TURN = Turn("assistant", (Part("At 7:40."),))


def turns_of(row: dict[str, Any]) -> tuple[Turn, ...]:
    (found,) = parse_chat([row], "test")
    assert isinstance(found, Conversation), found
    return found.turns


@pytest.mark.parametrize(
    ("row", "prompt_turns"),
    [
        (GOOD, 0),
        (
            {
                "conversations": [
                    {"from": "human", "value": ASKED["content"]},
                    {"from": "gpt", "value": SAID["content"]},
                ]
            },
            0,
        ),
        ({"conversations": [ASKED, SAID], "id": None, "source": "harbour"}, 0),
        ({"prompt": ASKED["content"], "completion": SAID["content"]}, 1),
        ({"prompt": [ASKED], "completion": [SAID]}, 1),
        ({"prompt": [{"text": ASKED["content"]}], "completion": [SAID["content"]]}, 1),
        ({"messages": [{**ASKED, "tool_calls": None, "name": ""}, SAID], "prompt": "as in UltraChat", "system": ""}, 0),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": ASKED["content"]}]}, SAID]}, 0),
    ],
)
def test_one_conversation_in_every_convention(row: dict[str, Any], prompt_turns: int) -> None:
    (found,) = parse_chat([row], "test")
    assert found == Conversation("row-1", (ASKED_TURN, SAID_TURN), prompt_turns)
    assert kind_of(row) == "conversations"


def test_parts_carry_weights_and_masks() -> None:
    content = ["At ", {"text": "7:40", "learn": 2}, {"text": " or so", "learn": 0.0, "attend": False}, {"text": "."}]
    turns = turns_of({"messages": [ASKED, {"role": "assistant", "content": content}]})
    assert turns[1].parts == (Part("At "), Part("7:40", 2.0), Part(" or so", 0.0, False), Part("."))
    whole = {
        "role": "assistant",
        "learn": 0.5,
        "attend": False,
        "content": ["At ", {"text": "7:40", "learn": 1, "attend": True}],
    }
    assert turns_of({"messages": [ASKED, whole]})[1].parts == (Part("At ", 0.5, False), Part("7:40", 1.0))
    whole = {"role": "assistant", "learn": 0, "content": "At 7:40."}
    assert turns_of({"messages": [ASKED, whole]})[1].parts == (Part("At 7:40.", 0.0),)


def test_a_prompt_may_be_a_conversation_whose_completions_are_given() -> None:
    (found,) = parse_chat([{"prompt": [ASKED, SAID, ASKED], "completion": "At 7:40."}], "test")
    assert found == Conversation("row-1", (ASKED_TURN, SAID_TURN, ASKED_TURN, SAID_TURN), 3)


def test_a_file_is_read_with_its_hash_and_lines_for_ids(tmp_path: Path) -> None:
    path = chat_file(tmp_path / "chat.jsonl", GOOD, "", {**GOOD, "id": "b"}, {**GOOD, "id": 7})
    data = read_chat(str(path))
    assert [conversation.id for conversation in data.conversations] == ["line-1", "b", "7"]
    assert data.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (data.source, data.dropped) == (str(path), ())
    assert len(read_chat(str(path), limit=2).conversations) == 2


def with_turn(**changes: Any) -> dict[str, Any]:
    return {"messages": [ASKED, {**SAID, **changes}]}


def with_part(**changes: Any) -> dict[str, Any]:
    return with_turn(content=["At ", {"text": "7:40", **changes}])


BAD: dict[str, tuple[Any, str]] = {
    "not json": ("{", r"line 2 is not JSON: .* line 1, column 2"),
    "not an object": ("[1]", "line 2 is a list, not an object"),
    "another format": (
        {"question": "When?", "text": "x"},
        "'line-2' has only 'question', 'text'. Each row needs 'messages'",
    ),
    "nothing": ({}, "'line-2' has only an id"),
    "messages": ({"messages": "Hello"}, "'line-2', 'messages' is text, not a list of turns"),
    "no turns": ({"messages": []}, "'messages' is an empty list"),
    "a turn": ({"messages": ["Hello"]}, "'messages', turn 1 is text, not an object"),
    "role": (
        with_turn(role="tool"),
        r"turn 2 has the role 'tool'. Roles are system, user \(human\) and assistant \(gpt\)",
    ),
    "no role": ({"messages": [{"content": "x"}]}, "turn 1 has the role null"),
    "sharegpt role": ({"conversations": [{"from": "observation", "value": "x"}]}, "turn 1 has the role 'observation'"),
    "no content": (with_turn(content=None), "turn 2 has the content null. Content is text, or a list of parts"),
    "empty": (with_turn(content=" \n"), r"turn 2 \(assistant\) is empty. Take the turn out"),
    "empty list": (with_turn(content=[]), r"turn 2 \(assistant\) is empty"),
    "empty part": (with_part(text=""), "turn 2, part 2 is empty. Take it out"),
    "empty prompt": ({"prompt": "", "completion": "x"}, r"'prompt' \(user\) is empty"),
    "completion": ({"prompt": "x", "completion": 3}, "'completion' has the content 3"),
    "part": (with_turn(content=["At ", 7]), "turn 2, part 2 is 7, which has no text"),
    "image": (with_part(type="image_url"), "part 2 is of the type 'image_url'. Only text"),
    "no assistant": ({"messages": [ASKED]}, "'line-2' has no turn of the assistant, so there is nothing to learn"),
    "user last": (
        {"messages": [ASKED, SAID, ASKED]},
        "'line-2' ends with a turn of the user. End it with the assistant's",
    ),
    "negative": (with_part(learn=-0.5), r"part 2 has learn = -0.5. Give a weight of 0 or more"),
    "nan": (with_part(learn=float("nan")), "part 2 has learn = nan"),
    "infinite": (with_part(learn=float("inf")), "part 2 has learn = inf"),
    "true": (with_part(learn=True), "part 2 has learn = true"),
    "words": (with_turn(learn="no"), "turn 2 has learn = 'no'"),
    "attend": (with_part(attend=0), "part 2 has attend = 0. Write true, or false"),
    "part typo": (with_part(lern=0.0), "part 2 has the unknown key 'lern'. Did you mean 'learn'"),
    "turn typo": (with_turn(wheight=0), "turn 2 has the unknown key 'wheight'. Known: role, from, content"),
    "tools": ({**GOOD, "tools": [{"name": "f"}]}, "'line-2' has 'tools' beside its turns"),
    "system": (
        {"messages": [{"role": "system", "content": "Be kind."}, ASKED, SAID], "system": "Be brief."},
        "'line-2' has 'system' beside its turns.* role system",
    ),
    "surrogate": (with_part(text="7\ud83d"), r"turn 2 \(assistant\) has half a surrogate pair, .*, at 1"),
    "surrogate id": ({**GOOD, "id": "\ud83d"}, "row 2, in its id, has half a surrogate pair"),
    "id": ({**GOOD, "id": [1]}, r"row 2 has the id \[1\], which is neither text nor a whole number"),
    "twice": ({**GOOD, "id": "a"}, "the conversation id 'a' stands twice"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_conversations_are_named_or_counted(tmp_path: Path, case: str) -> None:
    row, message = BAD[case]
    path = chat_file(tmp_path / "bad.jsonl", {**GOOD, "id": "a"}, row, {**GOOD, "id": "c"})
    with pytest.raises(DataError, match=message) as caught:
        read_chat(str(path))
    assert str(path) in str(caught.value)
    left = read_chat(str(path), on_bad_record="drop")
    assert [conversation.id for conversation in left.conversations] == ["a", "c"]
    (reason,) = left.dropped
    assert str(path) in reason


def test_nothing_left_and_no_file_are_errors(tmp_path: Path) -> None:
    path = chat_file(tmp_path / "bad.jsonl", {"messages": [ASKED]})
    with pytest.raises(DataError, match=r"no conversation \(1 dropped\)"):
        read_chat(str(path), on_bad_record="drop")
    with pytest.raises(DataError, match=r"no data file .*none\.jsonl"):
        read_chat(str(tmp_path / "none.jsonl"))
