"""The forms that people have: each is understood as the conversation that it stands for, with what is learned of it."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from palmette.data.chat import Conversation, read_chat
from palmette.data.forms import form_of
from palmette.data.preference_sets import read_comparisons, read_verdicts
from palmette.data.showing import show_data
from palmette.errors import DataError
from palmette.tasks.chat import Chat
from palmette.tree.chat import ChatTemplate
from tests.support.data import arrow_file

SAID = [("user", "When?"), ("assistant", "At 7:40.")]
ASKED = [{"role": "user", "content": "When?"}]


def turns(conversation: Conversation) -> list[tuple[str, str]]:
    return [(turn.role, "".join(part.text for part in turn.parts)) for turn in conversation.turns]


def weights(conversation: Conversation) -> list[float | None]:
    return [turn.parts[0].learn for turn in conversation.turns]


def written(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


FORMS: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "Alpaca": ({"instruction": "When?", "input": "", "output": "At 7:40."}, SAID),
    "Alpaca with input": (
        {"instruction": "Add.", "input": "1 + 1", "output": "2"},
        [("user", "Add.\n\n1 + 1"), ("assistant", "2")],
    ),
    "Alpaca with system and history": (
        {"instruction": "When?", "output": "At 7:40.", "system": "Be brief.", "history": [["Hi", "Hello"]]},
        [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), *SAID],
    ),
    "MathInstruct": ({"source": "x.json", "instruction": "When?", "output": "At 7:40."}, SAID),
    "Dolly": (
        {"instruction": "When?", "context": "It leaves.", "response": "At 7:40.", "category": "qa"},
        [("user", "When?\n\nIt leaves."), ("assistant", "At 7:40.")],
    ),
    "ShareGPT": ({"conversations": [{"from": "human", "value": "When?"}, {"from": "gpt", "value": "At 7:40."}]}, SAID),
    "ShareGPT by other names": (
        {"conversation": [{"from": "user", "value": "When?"}, {"from": "chatgpt", "value": "At 7:40."}]},
        SAID,
    ),
    "ShareGPT with system": (
        {
            "system": "Be brief.",
            "conversations": [{"from": "human", "value": "When?"}, {"from": "gpt", "value": "At 7:40."}],
        },
        [("system", "Be brief."), *SAID],
    ),
    "OpenAI": ({"messages": [*ASKED, {"role": "assistant", "content": "At 7:40.", "weight": 1}]}, SAID),
    "UltraChat": ({"id": "0", "data": ["When?", "At 7:40."]}, SAID),
    "UltraChat 200k": (
        {"prompt": "When?", "prompt_id": "x", "messages": [*ASKED, {"role": "assistant", "content": "At 7:40."}]},
        SAID,
    ),
    "No Robots": (
        {"prompt": "When?", "category": "Open QA", "messages": [*ASKED, {"role": "assistant", "content": "At 7:40."}]},
        SAID,
    ),
    "TRL": ({"prompt": ASKED, "completion": [{"role": "assistant", "content": "At 7:40."}]}, SAID),
    "prompt and response": ({"prompt": "When?", "response": "At 7:40."}, SAID),
}


@pytest.mark.parametrize("name", FORMS)
def test_each_form_is_understood(name: str, tmp_path: Path) -> None:
    row, expected = FORMS[name]
    (found,) = read_chat(written(tmp_path / "a.jsonl", row)).conversations
    assert turns(found) == expected


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.jsonl.gz", "a.json.gz", "a.parquet", "a.arrow"])
def test_each_kind_of_file_holds_them(name: str, tmp_path: Path) -> None:
    rows = [FORMS["Alpaca"][0], FORMS["Alpaca with input"][0]]
    path, table = tmp_path / name, pa.Table.from_pylist(rows)
    if name.endswith("parquet"):
        pa.parquet.write_table(table, path)
    elif name.endswith("arrow"):
        arrow_file(path, rows)
    else:
        text = json.dumps(rows) if ".json" in path.suffixes else "".join(json.dumps(row) + "\n" for row in rows)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    found = read_chat(str(path)).conversations
    assert [turns(one) for one in found] == [SAID, FORMS["Alpaca with input"][1]]


def test_self_instruct_gives_a_conversation_for_each_instance(tmp_path: Path) -> None:
    instances = [{"input": "1 + 1", "output": "2"}, {"input": "", "output": "3"}]
    row = {"id": "seed_1", "name": "x", "instruction": "Add.", "instances": instances, "is_classification": False}
    found = read_chat(written(tmp_path / "a.jsonl", row)).conversations
    assert [one.id for one in found] == ["seed_1/1", "seed_1/2"]
    assert [turns(one)[0][1] for one in found] == ["Add.\n\n1 + 1", "Add."]


def test_weights_of_openai_s_files_are_weights_of_the_loss(tmp_path: Path) -> None:
    answers = [{"role": "assistant", "content": "At 7:40.", "weight": weight} for weight in (0, 1)]
    row = {"messages": [*ASKED, answers[0], *ASKED, answers[1]]}
    (found,) = read_chat(written(tmp_path / "a.jsonl", row)).conversations
    assert weights(found) == [None, 0.0, None, 1.0]


@pytest.mark.parametrize("weight", [10**400, True, "heavy", -1])
def test_weights_that_are_none_are_refused(weight: Any, tmp_path: Path) -> None:
    row = {"messages": [*ASKED, {"role": "assistant", "content": "At 7:40.", "weight": weight}]}
    with pytest.raises(DataError, match="Give a weight of 0 or more"):
        read_chat(written(tmp_path / "a.jsonl", row))


def message(name: str, role: str, *replies: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"message_id": name, "text": f"text {name}", "role": role, "replies": list(replies), **more}


def test_an_openassistant_tree_is_learned_as_a_tree(tmp_path: Path, tokenizer: Any) -> None:
    """Every reply of the assistant is learned once, though several conversations hold it. What was deleted is left out,
    with what follows it, and a question that nobody answered is not learned. The tree holds each message once.
    """
    deep = message("c", "prompter", message("d", "assistant"), message("e", "assistant", deleted=True))
    other = message("f", "prompter", message("g", "assistant", message("h", "prompter")))
    root = message("a", "prompter", message("b", "assistant", deep, other), message("i", "assistant"))
    source = written(tmp_path / "a.jsonl", {"message_tree_id": "a", "tree_state": "ready", "prompt": root})
    found = read_chat(source).conversations
    assert [one.id for one in found] == ["d", "g", "i"]
    names = [[text.removeprefix("text ") for _, text in turns(one)] for one in found]
    assert names == [["a", "b", "c", "d"], ["a", "b", "f", "g"], ["a", "i"]]
    assert [weights(one) for one in found] == [[None] * 4, [None, 0.0, None, None], [None, None]]
    task = Chat(ChatTemplate(tokenizer))
    (tree,) = task.trees(found)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    learned = dict.fromkeys("bdgi", 0.0)
    for node in tree.nodes():
        for segment in node.segments:
            for name in learned:
                if segment.text == f"text {name}":
                    learned[name] += segment.learn
    assert set(learned.values()) == {1.0}
    ends = sum(s.learn * s.tokens.count(end) for node in tree.nodes() for s in node.segments if s.tag == "end")
    assert ends == 4.0


def test_messages_that_name_their_parents_become_trees(tmp_path: Path) -> None:
    rows = [
        {"message_id": "b", "parent_id": "a", "text": "At 7:40.", "role": "assistant"},
        {"message_id": "a", "parent_id": None, "text": "When?", "role": "prompter"},
        {"message_id": "c", "parent_id": "a", "text": "At eight.", "role": "assistant"},
    ]
    found = read_chat(written(tmp_path / "a.jsonl", *rows)).conversations
    assert [turns(one)[1][1] for one in found] == ["At 7:40.", "At eight."]


def test_preferences_of_every_form(tmp_path: Path) -> None:
    answers = ({"from": "gpt", "value": "At 7:40."}, {"from": "gpt", "value": "No."})
    said = [[{"role": "assistant", "content": text}] for text in ("At 7:40.", "No.")]
    rows = [
        {"conversations": [{"from": "human", "value": "When?"}], "chosen": answers[0], "rejected": answers[1]},
        {"instruction": "When?", "input": "", "chosen": "At 7:40.", "rejected": "No."},
        {"input": {"messages": ASKED}, "preferred_output": said[0], "non_preferred_output": said[1]},
        {"prompt": ASKED, "chosen": said[0], "rejected": said[1]},
    ]
    for row in rows:
        (found,) = read_comparisons(written(tmp_path / "a.jsonl", row)).records
        assert found.completions == ("At 7:40.", "No.")
        assert found.prompt[-1].parts[0].text == "When?"


def test_conversations_with_a_label_are_verdicts(tmp_path: Path) -> None:
    row = {"messages": [*ASKED, {"role": "assistant", "content": "No."}], "label": False}
    source = written(tmp_path / "a.jsonl", row)
    (found,) = read_verdicts(source).records
    assert (found.completion, found.label) == ("No.", False)
    with pytest.raises(DataError, match="holds verdicts on completions"):
        read_chat(source)


def test_columns_are_mapped(tmp_path: Path) -> None:
    """A question with its answer, and the better half of a pair, as conversations."""
    source = written(tmp_path / "a.jsonl", {"question": "When?", "answer": "At 7:40."})
    (found,) = read_chat(source, columns={"prompt": "question", "completion": "answer"}).conversations
    assert turns(found) == SAID
    pair = {
        "conversations": [{"from": "human", "value": "When?"}],
        "chosen": {"from": "gpt", "value": "At 7:40."},
        "rejected": {"from": "gpt", "value": "No."},
    }
    source = written(tmp_path / "b.jsonl", pair)
    (found,) = read_chat(source, columns={"prompt": "conversations", "completion": "chosen"}).conversations
    assert turns(found) == SAID


def test_a_row_that_only_looks_like_a_form_is_refused_by_its_reader(tmp_path: Path) -> None:
    source = written(tmp_path / "a.jsonl", {"instruction": 3, "output": "x"})
    with pytest.raises(DataError, match="'line-1'"):
        read_chat(source)
    assert form_of({"messages": [*ASKED]}) is None


OWN = [
    {"messages": [*ASKED, {"role": "assistant", "content": "At 7:40."}]},
    {"conversations": [{"from": "human", "value": "When?"}, {"from": "gpt", "value": "At 7:40."}]},
    {"prompt": "When?", "completion": "At 7:40."},
]
OTHER = [
    {"response": "wrong", "prompt": "When?"},
    {"instruction": "Wrong.", "output": "wrong"},
    {"instruction": "Wrong.", "response": "wrong"},
    {"data": ["Wrong?", "wrong"]},
    {"conversation": [{"from": "human", "value": "Wrong?"}, {"from": "gpt", "value": "wrong"}]},
    {"items": [{"role": "user", "content": "Wrong?"}, {"role": "assistant", "content": "wrong"}]},
]


@pytest.mark.parametrize("other", OTHER)
@pytest.mark.parametrize("own", OWN)
def test_a_row_with_our_columns_is_read_by_them(own: dict[str, Any], other: dict[str, Any], tmp_path: Path) -> None:
    """Whatever else it has. Each of the others is a form by itself."""
    assert form_of(other) is not None
    for row in ({**own, **other}, {**other, **own}):
        (found,) = read_chat(written(tmp_path / "a.jsonl", row)).conversations
        assert turns(found) == SAID


@pytest.mark.parametrize("other", [{"instruction": "Wrong."}, {"response": "wrong"}, {"messages": OWN[0]["messages"]}])
def test_a_preference_with_our_columns_is_read_by_them(other: dict[str, Any], tmp_path: Path) -> None:
    """Data sets of preferences often have the better conversation as `messages` too."""
    row = {"prompt": "When?", "chosen": "At 7:40.", "rejected": "No.", **other}
    (found,) = read_comparisons(written(tmp_path / "a.jsonl", row)).records
    assert found.completions == ("At 7:40.", "No.")
    assert [turn.parts[0].text for turn in found.prompt] == ["When?"]
    verdict = {"prompt": "When?", "completion": "No.", "label": False, **other}
    (judged,) = read_verdicts(written(tmp_path / "b.jsonl", verdict)).records
    assert (judged.completion, [turn.parts[0].text for turn in judged.prompt]) == ("No.", ["When?"])


@pytest.mark.parametrize("role", [["user"], {"name": "user"}, 3])
def test_a_role_that_is_no_text_is_named(role: Any, tmp_path: Path) -> None:
    row = {"messages": [{"role": role, "content": "When?"}, {"role": "assistant", "content": "At 7:40."}]}
    with pytest.raises(DataError, match="turn 1 has the role"):
        read_chat(written(tmp_path / "a.jsonl", row))


def thread(name: str, parent: str | None, role: str = "assistant") -> dict[str, Any]:
    return {"message_id": name, "parent_id": parent, "text": f"text {name}", "role": role}


def test_a_thread_may_be_longer_than_python_calls_functions(tmp_path: Path) -> None:
    roles = ("prompter", "assistant")
    rows = [thread(str(number), str(number - 1) if number else None, roles[number % 2]) for number in range(3000)]
    assert len(rows) > sys.getrecursionlimit()
    (found,) = read_chat(written(tmp_path / "a.jsonl", *rows)).conversations
    assert [text for _, text in turns(found)] == [f"text {number}" for number in range(3000)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([thread("a", "b"), thread("b", "a")], "the parents of the message 'a' lead back to it: 'a', 'b'"),
        ([thread("a", "a")], "the parents of the message 'a' lead back to it: 'a'"),
        ([thread("a", "b"), thread("b", "c"), thread("c", "b")], "message 'b' lead back to it: 'b', 'c'"),
        ([thread("b", "a"), thread("b", "a")], "the message id 'b' stands twice"),
        ([{"text": "No.", "role": "assistant", "parent_id": "a"}], "line-3 has no 'message_id'"),
    ],
)
def test_messages_without_a_place_in_a_thread_are_named(rows: list[Any], message: str, tmp_path: Path) -> None:
    """The others are read."""
    good = [thread("x", None, "prompter"), thread("y", "x")]
    source = written(tmp_path / "a.jsonl", *good, *rows)
    with pytest.raises(DataError, match=message):
        read_chat(source)
    found = read_chat(source, on_bad_record="drop")
    assert [text for _, text in turns(found.conversations[0])] == ["text x", "text y"]
    assert len(found.dropped) == 1


def test_a_tree_without_ids_is_read_alike_each_time(tmp_path: Path) -> None:
    replies = [{"text": text, "role": "assistant"} for text in ("At 7:40.", "At eight.")]
    source = written(tmp_path / "a.jsonl", {"prompt": {"text": "When?", "role": "prompter", "replies": replies}})
    assert [one.id for one in read_chat(source).conversations] == ["row-1", "row-2"]


def test_columns_that_no_reader_has_are_refused(tmp_path: Path) -> None:
    source = written(tmp_path / "a.jsonl", {"question": "When?", "answer": "At 7:40."})
    with pytest.raises(DataError, match=r"no reader has a column 'promt', .* Did you mean 'prompt'\?"):
        read_chat(source, columns={"promt": "question", "completion": "answer"})


def test_what_is_shown_stops_at_a_broken_row(tmp_path: Path) -> None:
    """Of the first records. A later one is shown when so many are asked for."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "When?", "completion": "At 7:40."}\nnonsense\n')
    assert len(show_data(str(path), 1).records) == 1
    with pytest.raises(DataError, match="line 2 is not JSON"):
        show_data(str(path), 2)
    path.write_text('nonsense\n{"text": "Pier 3"}\n')
    with pytest.raises(DataError, match="line 1 is not JSON"):
        show_data(str(path), 1)
    squad = tmp_path / "a.json"
    asked = {"id": "q", "question": "When?", "answers": [{"text": "no", "answer_start": 0}]}
    squad.write_text(json.dumps({"data": [{"title": "t", "paragraphs": [{"context": "At 7:40.", "qas": [asked]}]}]}))
    with pytest.raises(DataError, match="'q'"):
        show_data(str(squad), 1)
