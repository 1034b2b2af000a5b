"""Token counts against what training itself packs or refuses, and against the tokenizer's own chat template."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from palmette.config.recipes import Recipe
from palmette.data.chat import Conversation, parse_chat
from palmette.data.preference import Comparison, parse_comparisons, parse_verdicts
from palmette.data.records import Answer, Document, Question
from palmette.data.source import read_source
from palmette.inference.task import recipe_task
from palmette.inference.token_counts import ROW_TOKENS, TokenCounts, count_tokens
from palmette.tasks.document_trees import document_trees

TEXT = "The ferry leaves at 7:40 from pier 3."
LONG = Question("long", "And when, " * 120 + "when?", (Answer("7:40", TEXT.index("7:40")),))


def documents() -> list[Document]:
    first, second = read_source("builtin:dev", limit_documents=2).documents
    return [first, Document("ferry", TEXT, (LONG, Question("short", "Who?"))), second]


def test_documents_have_the_trees_that_training_packs(tokenizer: Any) -> None:
    """Of three documents, two are split, and one question of the other fits into no row."""
    records, task = documents(), recipe_task(Recipe(output=""), tokenizer)
    whole = {one.id: document_trees(task, one, max_tokens=1 << 40)[0][0].num_tokens for one in records}
    limit = whole["ferry"] - 100
    counts = count_tokens(records, tokenizer, limit)
    packed = [document_trees(task, document, max_tokens=limit) for document in records]
    assert {name.replace("'", ""): size for name, size in counts.trees.items()} == {
        tree.name: tree.num_tokens for trees, _ in packed for tree in trees
    }
    assert len(counts.trees) > len(records), "some are split"
    (refused,) = [one.error.problem for _, left_out in packed for one in left_out]
    ((name, size),) = counts.too_long.items()
    assert name == "'long' of 'ferry'"
    assert refused.startswith(f"question 'long' of document 'ferry' needs a tree of {size} tokens")
    assert list(counts.trunks) == [repr(one.id) for one in records]
    facts = dict(counts.facts())
    assert facts["too long"] == f"1 of more than train.row_tokens = {limit:,}, the longest {size:,} in {name}"
    assert facts["trunks"].startswith("3, ")


def test_conversations_and_preferences_have_the_tokens_of_the_chat_template(tokenizer: Any) -> None:
    """The tokenizer renders and counts each branch. What is there twice, the prompt, is in a tree once."""
    prompt = [{"role": "user", "content": TEXT}]

    def length(messages: list[dict[str, str]], *, reply: bool = True) -> int:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=not reply)
        return len(tokenizer(text.removesuffix("\n") if reply else text, add_special_tokens=False).input_ids)

    def replied(text: str) -> list[dict[str, str]]:
        return [*prompt, {"role": "assistant", "content": text}]

    (chat,) = parse_chat([{"id": "c", "messages": replied("At 7:40.")}], "x")
    (pair,) = parse_comparisons(
        [{"id": "p", "prompt": TEXT, "chosen": "At 7:40.", "rejected": "No, never at all."}], "x"
    )
    (judged,) = parse_verdicts([{"id": "v", "prompt": TEXT, "completion": "At 7:40.", "label": True}], "x")
    assert isinstance(chat, Conversation)

    def counted(record: Any) -> TokenCounts:
        return count_tokens([record], tokenizer)

    branches, trunk = [length(replied(text)) for text in ("At 7:40.", "No, never at all.")], length(prompt, reply=False)
    assert [*counted(pair).trunks.values()] == [*counted(judged).trunks.values()]
    (shared,) = counted(pair).trunks.values()
    assert shared == trunk
    assert counted(pair).trees == {"'p'": sum(branches) - trunk}
    assert counted(judged).trees == {"'v'": branches[0]}
    assert counted(chat).trees == {"'c'": branches[0]}
    assert counted(chat).trunks == {}


def test_what_has_no_tree_is_counted(tokenizer: Any) -> None:
    """Two completions with the same tokens make no tree."""
    row = {"id": "p", "prompt": "Hm?", "chosen": "Yes.", "rejected": "No."}
    (good,) = parse_comparisons([row], "x")
    assert isinstance(good, Comparison)
    counts = count_tokens([good, replace(good, id="q", completions=("Yes.", "Yes."))], tokenizer)
    assert (list(counts.trees), len(counts.unusable), counts.row_tokens) == (["'p'"], 1, ROW_TOKENS)
    assert dict(counts.facts())["without a tree"].startswith("1, the first of them: record 'q'")
    assert counts.as_record()["unusable"] == 1


@pytest.mark.parametrize("sizes", [{}, {"'a'": 3, "'b'": 5}])
def test_the_record_of_counts(sizes: dict[str, int]) -> None:
    record = TokenCounts(10, trees=sizes).as_record()
    assert record["trees"] == ({"count": 2, "median": 4, "most": 5, "longest": "'b'"} if sizes else {"count": 0})
    assert record["trunks"] == {"count": 0}


def test_answers_that_are_no_spans_are_counted(tokenizer: Any) -> None:
    """Of two answers that training would learn, "leav" ends inside a word."""
    asked = tuple(Question(text, "?", (Answer(text, TEXT.index(text)),)) for text in ("leav", "pier 3"))
    counts = count_tokens([Document("ferry", TEXT, asked)], tokenizer)
    assert dict(counts.facts())["out of reach"] == (
        "1 of 2 questions have no answer that the span decoder can give. "
        "The first is 'leav': its answer 'leav' ends inside a word."
    )
    assert counts.as_record()["unreachable"]["question"] == "leav"
    assert "out of reach" not in dict(count_tokens([Document("ferry", TEXT, asked[1:])], tokenizer).facts())
