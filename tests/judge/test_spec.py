"""What a judge's name means, and its prompts."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from palmette.endpoint.settings import Endpoint
from palmette.errors import DataError
from palmette.judge.pairs import read_pairs
from palmette.judge.spec import read_endpoint, read_judge
from palmette.judge.wording import load_judge_prompt

PROMPT = {
    "system": "",
    "turn": "Q {question} A {answer} ",
    "pair": "{conversation_a} or {conversation_b}?",
    "single": "{conversation}{reference}",
    "reference": "right: {conversation}",
}


def test_a_name_or_a_file(tmp_path: Path) -> None:
    assert (read_judge("runs/a").kind, read_judge("runs/a").model) == ("model", "runs/a")
    prompt = tmp_path / "words.yaml"
    prompt.write_text(json.dumps(PROMPT))
    path = tmp_path / "judge.yaml"
    path.write_text(f"reward: runs/reward\nprompt: {prompt}\n")
    found = read_judge(str(path))
    assert (found.kind, found.model, found.prompt.pair) == ("reward", "runs/reward", PROMPT["pair"])
    assert found.prompt.sha256 != load_judge_prompt().sha256


def test_every_setting_of_an_endpoint_is_taken(tmp_path: Path) -> None:
    """A setting that the checks forgot would be refused."""
    given = {
        "url": "http://localhost/v1",
        "model": "m",
        "key_variable": None,
        "parameters": {"stop": ["x"], "top_p": 0.5, "seed": None},
        "concurrency": 2,
        "requests_per_minute": None,
        "timeout": 5,
        "max_retries": 0,
        "first_backoff": 0,
        "price_in": 0,
        "price_out": 0.4,
    }
    assert given.keys() == {field.name for field in fields(Endpoint)}
    path = tmp_path / "judge.yaml"
    path.write_text(json.dumps({"endpoint": given}))
    assert read_judge(str(path)).endpoint == Endpoint(**given)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prompt: plain", "describes no judge"),
        ("{model: a, reward: b}", "describes no judge"),
        ("{model: a, temperature: 1}", "unknown key 'temperature'"),
        ("model: 3", "'model' is 3"),
        ("endpoint: http://localhost", "no 'url' or no 'model'"),
        ("endpoint: {url: a, model: b, key: c}", "unknown key 'key'"),
        ("{model: a, 1: b, x: c}", "unknown key 1"),
        ("endpoint: {url: a, model: b, 1: c, x: d}", "unknown key 1"),
        ("endpoint: {url: a, model: b, price_in: '0.1'}", "'price_in' is '0.1', not a number"),
        ("endpoint: {url: a, model: b, price_out: -1}", "'price_out' is -1"),
        ("endpoint: {url: a, model: b, parameters: [1]}", r"'parameters' is \[1\], not a map"),
        ("endpoint: {url: a, model: b, parameters: {since: 2026-01-01}}", "'parameters' is .*date.*not a map"),
        ("endpoint: {url: a, model: b, parameters: {stop: [{1: x}]}}", "'parameters' is .*not a map"),
        ("endpoint: {url: a, model: b, concurrency: many}", "'concurrency' is 'many', not a whole number from 1"),
        ("endpoint: {url: a, model: b, concurrency: 0}", "'concurrency' is 0"),
        ("endpoint: {url: a, model: b, concurrency: true}", "'concurrency' is true"),
        ("endpoint: {url: a, model: b, timeout: fast}", "'timeout' is 'fast'"),
        ("endpoint: {url: a, model: b, timeout: .inf}", "'timeout' is inf"),
        ("endpoint: {url: a, model: b, max_retries: 1.5}", "'max_retries' is 1.5"),
        ("endpoint: {url: a, model: b, requests_per_minute: 0}", "'requests_per_minute' is 0"),
        ("endpoint: {url: a, model: b, key_variable: 5}", "'key_variable' is 5"),
        ("{model: a, prompt: nowhere}", "cannot read the judge's prompt 'nowhere'"),
        ("model: [", "cannot read the judge"),
    ],
)
def test_bad_judges_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "judge.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_judge(str(path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[model", "cannot read the endpoint"),
        ("{url: a, model: b}", "describes no endpoint. It needs the key 'endpoint'"),
        ("{endpoint: {url: a, model: b}, reward: c}", "unknown key 'reward'. Known are endpoint and prompt"),
        ("endpoint: {url: a}", "no 'url' or no 'model'"),
    ],
)
def test_bad_endpoints_are_named_as_such(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "server.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=said) as refused:
        read_endpoint(str(path))
    assert "judge" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pair": "{conversation_a}?"}, "'pair'.*other places"),
        ({"single": "{conversation} {answer}"}, "'single'.*other places"),
        ({"tone": "kind"}, "unknown key 'tone'"),
        ({"turn": 3}, "no text 'turn'"),
    ],
)
def test_bad_prompts_are_named(tmp_path: Path, change: dict, said: str) -> None:
    path = tmp_path / "words.yaml"
    path.write_text(json.dumps({**PROMPT, **change}))
    with pytest.raises(DataError, match=said):
        load_judge_prompt(str(path))


def test_pairs_of_one_and_of_two_turns(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"question": "When?", "answer_a": "nine", "answer_b": "ten"},
        {
            "question_id": 7,
            "prompt": ["a", "b"],
            "answer_a": ["c", "d"],
            "answer_b": ["e", "f"],
            "reference": ["g", "h"],
        },
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    one, two = read_pairs(str(path))
    assert (one.question, one.models, one.case.answers) == ("1", ("a", "b"), (("nine",), ("ten",)))
    assert (two.question, two.case.turns, two.case.references) == ("7", ("a", "b"), ("g", "h"))


def _said(*texts: str) -> list[dict]:
    return [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]


def test_votes_on_the_same_answers_are_one_pair_whichever_stood_on_the_left(tmp_path: Path) -> None:
    """`turn` cuts a conversation: the first reply alone and both replies are two pairs."""
    nine, ten = ("elm", _said("When?", "nine", "Sure?", "yes")), ("fir", _said("When?", "ten", "Sure?", "no"))
    votes = [(nine, ten, 2, "model_a"), (ten, nine, 2, "model_a"), (nine, ten, 1, "tie")]
    path = tmp_path / "votes.jsonl"
    with path.open("w") as out:
        for left, right, turn, winner in votes:
            row = {"question_id": "q", "model_a": left[0], "model_b": right[0], "winner": winner, "turn": turn}
            print(json.dumps({**row, "conversation_a": left[1], "conversation_b": right[1]}), file=out)
    both, first = read_pairs(str(path))
    assert (both.question, both.models, both.case.turns) == ("q", ("elm", "fir"), ("When?", "Sure?"))
    assert both.case.answers == (("nine", "yes"), ("ten", "no"))
    assert (first.case.turns, first.case.answers) == (("When?",), (("nine",), ("ten",)))


@pytest.mark.parametrize(
    "other",
    [
        _said("Where?", "ten"),
        [{"role": "system", "content": "Be short."}, *_said("When?", "ten")],
        [*_said("When?")[:1], *_said("When?", "ten")],
    ],
    ids=["another message", "a system message", "a message without a reply"],
)
def test_conversations_that_cannot_be_shown_side_by_side_are_named(tmp_path: Path, other: list[dict]) -> None:
    path = tmp_path / "votes.jsonl"
    row = {"model_a": "elm", "model_b": "fir", "winner": "tie", "conversation_a": _said("When?", "nine")}
    path.write_text(json.dumps({**row, "conversation_b": other}) + "\n")
    with pytest.raises(DataError, match=r"row 1 has two conversations of different messages"):
        read_pairs(str(path))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"answer_a": "a", "answer_b": "b"}, "'question' is null"),
        ({"question": "q", "answer_a": "a", "answer_b": 3}, "'answer_b' is 3"),
        ({"question": ["q", "r"], "answer_a": ["a", "b"], "answer_b": ["c"]}, "2 messages and 1 replies"),
        ({"question": "q", "answer_a": "a", "answer_b": "b", "model_a": "x", "model_b": "x"}, "with itself"),
    ],
)
def test_bad_pairs_are_named(tmp_path: Path, row: dict, said: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=f"row 1.*{said}"):
        read_pairs(str(path))
