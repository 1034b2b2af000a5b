"""Preference records: the usual conventions, every bad record named and counted."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from palmette.data.chat import Part, Turn
from palmette.data.pairs import unpaired
from palmette.data.preference import Comparison, Verdict, parse_comparisons, turn_text
from palmette.data.preference_sets import read_comparisons, read_verdicts
from palmette.errors import DataError

ASKED = {"role": "user", "content": "When?"}
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello."},
    {"role": "assistant", "content": "Hi."},
    ASKED,
]
PAIR = {"prompt": "When?", "chosen": "At 7:40.", "rejected": "Never."}
VERDICT = {"prompt": "When?", "completion": "At 7:40.", "label": True}


def completion(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def lines(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def said(prompt: tuple[Turn, ...]) -> list[tuple[str, str]]:
    return [(turn.role, turn_text(turn)) for turn in prompt]


WAYS = {
    "text": PAIR,
    "messages": {"prompt": [ASKED], "chosen": [completion("At 7:40.")], "rejected": [completion("Never.")]},
    "implicit prompt": {"chosen": [ASKED, completion("At 7:40.")], "rejected": [ASKED, completion("Never.")]},
    "prompt said twice": {
        "prompt": "When?",
        "chosen": [ASKED, completion("At 7:40.")],
        "rejected": [completion("Never.")],
    },
    "null columns": {**PAIR, "ranked": None, "margin": None, "id": None},
    "ranked": {"prompt": "When?", "ranked": ["At 7:40.", "Never."]},
    "ranks": {"prompt": "When?", "completions": ["Never.", "At 7:40."], "ranks": [2, 1]},
    "scores": {"prompt": "When?", "completions": ["Never.", [completion("At 7:40.")]], "scores": [-0.5, 3]},
    "ShareGPT": {
        "prompt": [{"from": "human", "value": "When?"}],
        "chosen": [{"from": "gpt", "value": "At 7:40."}],
        "rejected": "Never.",
    },
    "parts": {**PAIR, "prompt": [{"role": "user", "content": [{"type": "text", "text": "When?"}]}]},
}


@pytest.mark.parametrize("way", sorted(WAYS))
def test_every_convention_says_the_same(tmp_path: Path, way: str) -> None:
    (record,) = read_comparisons(lines(tmp_path / "a.jsonl", WAYS[way])).records
    expected = Comparison(record.id, (Turn("user", (Part("When?"),)),), ("At 7:40.", "Never."))
    assert record == expected
    assert record.id == "line-1"


def test_long_prompts_lists_and_margins_are_kept(tmp_path: Path) -> None:
    rows = [
        {"id": "talk", "prompt": TALK, "ranked": ["a", "b", "c", "d"]},
        {"id": 7, "chosen": [*TALK, completion(" a\n")], "rejected": [*TALK, completion("b")], "margin": 2},
        {"id": "ties are far apart", "prompt": "x", "completions": ["a", "b", "c"], "ranks": [3, 1, 2]},
    ]
    path = lines(tmp_path / "a.jsonl", *rows)
    read = read_comparisons(path)
    first, second, third = read.records
    assert said(first.prompt) == [(turn["role"], turn["content"]) for turn in TALK] == said(second.prompt)
    assert (first.completions, first.margin) == (("a", "b", "c", "d"), None)
    assert (second.id, second.completions, second.margin) == ("7", (" a\n", "b"), 2.0)
    assert third.completions == ("b", "c", "a")
    assert read.sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert read.dropped == ()
    assert read.counts == {}
    assert [record.id for record in read_comparisons(path, limit=2).records] == ["talk", "7"]


def test_the_implicit_prompt_is_that_of_trl() -> None:
    trl = pytest.importorskip("trl.data_utils")
    row = {"chosen": [*TALK, completion("At 7:40.")], "rejected": [*TALK, completion("Never.")]}
    expected = trl.extract_prompt(row)
    (record,) = parse_comparisons([row], "memory")
    assert isinstance(record, Comparison)
    assert said(record.prompt) == [(turn["role"], turn["content"]) for turn in expected["prompt"]]
    assert record.completions == (expected["chosen"][0]["content"], expected["rejected"][0]["content"])


@pytest.mark.parametrize("completion", ["At 7:40.", [completion("At 7:40.")], [ASKED, completion("At 7:40.")]])
@pytest.mark.parametrize("label", [True, False])
def test_verdicts_are_read(tmp_path: Path, completion: Any, label: bool) -> None:
    path = lines(tmp_path / "a.jsonl", {"prompt": [ASKED], "completion": completion, "label": label})
    assert read_verdicts(path).records == (Verdict("line-1", (Turn("user", (Part("When?"),)),), "At 7:40.", label),)


def test_a_pair_gives_the_verdicts_that_trl_makes_of_it() -> None:
    trl = pytest.importorskip("trl.data_utils")
    (record,) = parse_comparisons([{"id": "x", **PAIR}], "memory")
    assert isinstance(record, Comparison)
    found = unpaired(record)
    rows = trl.unpair_preference_dataset(datasets.Dataset.from_list([PAIR]))
    assert [(v.completion, v.label) for v in found] == [(row["completion"], row["label"]) for row in rows]
    assert [v.id for v in found] == ["x/0", "x/1"]
    assert all(v.prompt == record.prompt for v in found)
    (longer,) = parse_comparisons([{"id": "y", "prompt": "x", "ranked": ["a", "b", "c"]}], "memory")
    assert isinstance(longer, Comparison)
    with pytest.raises(DataError, match=r"'y' ranks 3 completions, so good ones are not known.* Give pairs"):
        unpaired(longer)


def test_hub_rows_go_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = {"chosen": [ASKED, completion("At 7:40.")], "rejected": [ASKED, completion("Never.")], "score_chosen": 8.0}
    made = datasets.Dataset.from_list([talk, {**talk, "rejected": [ASKED, completion("At 7:40.")]}])
    asked = []

    def load(name: str, split: str) -> datasets.Dataset:
        asked.append((name, split))
        return made

    monkeypatch.setattr(datasets, "load_dataset", load)
    read = read_comparisons("some/pairs:test", on_bad_record="drop")
    assert asked == [("some/pairs", "test")]
    assert [(record.id, record.completions) for record in read.records] == [("row-1", ("At 7:40.", "Never."))]
    assert (read.sha256, read.counts) == (made._fingerprint, {"identical": 1})


MANY = ["a", "b", "c"]
# row, reason, what the message says
BAD = {
    "identical": ({**PAIR, "rejected": "At 7:40."}, "identical", "'chosen' and 'rejected' are the same, 'At 7:40.'"),
    "identical but for blanks": ({**PAIR, "rejected": "\nAt 7:40. "}, "identical", "are the same"),
    "identical in a list": (
        {"prompt": "x", "ranked": ["a", "b", "a"]},
        "identical",
        r"'ranked 1' and 'ranked 3' are the same",
    ),
    "empty side": ({**PAIR, "rejected": " \n"}, "empty", "in 'rejected' is empty"),
    "empty message": ({**PAIR, "chosen": [completion("")]}, "empty", "in 'chosen' is empty"),
    "no messages": ({**PAIR, "chosen": []}, "empty", "in 'chosen' is an empty list"),
    "empty prompt": ({**PAIR, "prompt": ""}, "empty", "in 'prompt' is empty"),
    "empty in a list": ({"prompt": "x", "ranked": ["a", ""]}, "empty", r"in 'ranked 2' is empty"),
    "prompt differs": (
        {"chosen": [ASKED, completion("a")], "rejected": [{"role": "user", "content": "Where?"}, completion("b")]},
        "prompt differs",
        r"the prompt of 'rejected' is not that of 'chosen': message 1 is 'Where\?' \(user\) and 'When\?' \(user\)",
    ),
    "prompt differs in length": (
        {"chosen": [ASKED, completion("a")], "rejected": [ASKED, completion("b"), ASKED, completion("c")]},
        "prompt differs",
        "3 messages and 1.* each side has one completion",
    ),
    "prompt differs from the given one": (
        {"prompt": "Where?", "chosen": [ASKED, completion("a")], "rejected": "b"},
        "prompt differs",
        "the prompt of 'chosen' is not that of 'prompt'",
    ),
    "prompt on one side": (
        {"chosen": [ASKED, completion("a")], "rejected": "b"},
        "prompt differs",
        "'rejected' .* 'chosen': 0 messages and 1",
    ),
    "no prompt": ({"chosen": "a", "rejected": "b"}, "format", "the prompt is missing.* Give a 'prompt'"),
    "prompt ends with a completion": (
        {**PAIR, "prompt": [ASKED, completion("No.")]},
        "format",
        "the prompt ends with the message of the assistant",
    ),
    "side ends with the user": ({**PAIR, "chosen": [ASKED]}, "format", "'chosen' ends with the message of the user"),
    "no rejected": ({"prompt": "x", "chosen": "a"}, "format", "in 'rejected'.* null"),
    "two forms": ({**PAIR, "ranked": MANY}, "format", "has both 'chosen' and 'ranked'"),
    "no form": ({"prompt": "x", "label": True}, "format", "none of 'chosen', 'ranked' and 'completions'"),
    "list of one": ({"prompt": "x", "ranked": ["a"]}, "format", "'ranked' is 1 in a list, not a list of two or more"),
    "not a list": ({"prompt": "x", "ranked": "a"}, "format", "'ranked' is text, not a list"),
    "no ranks": ({"prompt": "x", "completions": MANY}, "format", "neither ranks nor scores"),
    "ranks and scores": (
        {"prompt": "x", "completions": MANY, "ranks": [1, 2, 3], "scores": [1, 2, 3]},
        "format",
        "'ranks' and 'scores'",
    ),
    "too few ranks": ({"prompt": "x", "completions": MANY, "ranks": [1, 2]}, "format", r"\[1, 2\], not a list of 3"),
    "no number": ({"prompt": "x", "completions": MANY, "scores": [1, None, 2]}, "format", "finite numbers"),
    "not finite": ({"prompt": "x", "completions": MANY, "scores": [1, float("nan"), 2]}, "format", "finite numbers"),
    "true is no rank": ({"prompt": "x", "completions": MANY, "ranks": [True, 2, 3]}, "format", "finite numbers"),
    "tied": (
        {"prompt": "x", "completions": MANY, "scores": [0.5, 2, 0.5]},
        "tied",
        "completions 1 and 3 are tied, 'scores' 0.5.* Keep one",
    ),
    "margin of a list": ({"prompt": "x", "ranked": MANY, "margin": 1}, "format", "a 'margin' and 3 completions"),
    "negative margin": ({**PAIR, "margin": -1}, "format", "'margin' is -1"),
    "margin in words": ({**PAIR, "margin": "much"}, "format", "'margin' is 'much'"),
    "role": (
        {**PAIR, "prompt": [{"role": "tool", "content": "x"}]},
        "format",
        "in 'prompt', turn 1 has the role 'tool'",
    ),
    "number": ({**PAIR, "chosen": 7}, "format", "in 'chosen'.* 7"),
    "masks": (
        {**PAIR, "prompt": [{"role": "user", "content": [{"text": "When?", "attend": False}]}]},
        "format",
        "'learn' or 'attend'",
    ),
    "half a surrogate": ({**PAIR, "chosen": "\ud83d"}, "format", "half a surrogate pair"),
    "same id": ({**PAIR, "id": "good"}, "same id", "has the id of row 1.* an id of its own"),
    "id that cannot be saved": ({**PAIR, "id": "\ud83d"}, "format", "half a surrogate pair"),
    "list as id": ({**PAIR, "id": [1]}, "format", "which is neither text nor a whole number"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_records_are_named_or_counted(tmp_path: Path, case: str) -> None:
    row, reason, message = BAD[case]
    path = lines(tmp_path / "bad.jsonl", {**PAIR, "id": "good"}, row, {**PAIR, "id": "last"})
    with pytest.raises(DataError, match=message) as caught:
        read_comparisons(path)
    assert f"{path}: row 2" in str(caught.value)
    assert f"(bad records in all: 1 {reason}, good ones: 2)" in str(caught.value)
    assert str(caught.value).endswith("Or set data.on_bad_record: drop.")
    left = read_comparisons(path, on_bad_record="drop")
    assert [record.id for record in left.records] == ["good", "last"]
    assert left.counts == {reason: 1}


BAD_VERDICTS = {
    "number": ({**VERDICT, "label": 1}, "'label' is 1, not true or false"),
    "no label": ({"prompt": "x", "completion": "a"}, "'label' is null"),
    "no completion": ({"prompt": "x", "label": True}, "no 'completion'"),
    "empty": ({**VERDICT, "completion": ""}, "in 'completion' is empty"),
    "prompt differs": (
        {**VERDICT, "completion": [{"role": "user", "content": "Where?"}, completion("a")]},
        "the prompt of 'completion' is not that of 'prompt'",
    ),
}


@pytest.mark.parametrize("case", sorted(BAD_VERDICTS))
def test_bad_verdicts_are_named(tmp_path: Path, case: str) -> None:
    row, message = BAD_VERDICTS[case]
    with pytest.raises(DataError, match=message):
        read_verdicts(lines(tmp_path / "bad.jsonl", VERDICT, row))


def test_every_reason_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    rows = [PAIR, {**PAIR, "chosen": ""}, {**PAIR, "chosen": "Never."}, {**PAIR, "rejected": ""}]
    path.write_text("\n".join([*map(json.dumps, rows), "{", "[]", ""]), encoding="utf-8")
    read = read_comparisons(str(path), on_bad_record="drop")
    assert (len(read.records), read.counts) == (1, {"empty": 2, "format": 2, "identical": 1})
    assert len(read.dropped) == 5
    assert "line 5 is not JSON" in read.dropped[3].problem
    assert "line 6 is a list" in read.dropped[4].problem
    with pytest.raises(DataError, match=r"\(bad records in all: 2 empty, 2 format, 1 identical, good ones: 1\)"):
        read_comparisons(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no record is left: it has no row"),
        (
            json.dumps({**PAIR, "chosen": ""}),
            "no record is left: all were dropped \\(1 empty\\), first .*'chosen' is empty",
        ),
    ],
)
def test_nothing_left_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_comparisons(str(path), on_bad_record="drop")


def test_a_missing_file_is_an_error_that_says_what_would_do() -> None:
    with pytest.raises(
        DataError, match=r"no data file 'nowhere\.jsonl'.*ultrafeedback_binarized.*'chosen' and 'rejected'"
    ):
        read_comparisons("nowhere.jsonl")
