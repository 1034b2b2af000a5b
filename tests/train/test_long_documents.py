"""Documents longer than a row: with data.on_too_long: split every question is learned once, beside its answer."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from palmette.config.recipes import Recipe
from palmette.data.records import Answer, DataSet, Document, Question
from palmette.errors import ModelError, PackingError, RecipeError
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.qa_prompt import load_prompt
from palmette.train.sources import TrainingSet, build_trees
from palmette.train.stages import recipe_from
from palmette.tree.prefix_tree import PrefixTree
from tests.support.templates import TEMPLATES

TASK = ExtractiveQa(TEMPLATES["smollm2"])
ROW = 700
SENTENCES = [f"Ferry {number} leaves at {number % 24}:{number % 60:02} from pier {number}. " for number in range(300)]
TEXT = "".join(SENTENCES)


def question(number: int, answer: str | None) -> Question:
    """About sentence `number`. Pier and number of the ferry are its own."""
    start = TEXT.index(SENTENCES[number])
    answers = () if answer is None else (Answer(answer, TEXT.index(answer, start)),)
    return Question(f"q{number}{'' if answers else ' refused'}", f"What of ferry {number}?", answers)


ASKED = [question(number, f"pier {number}") for number in range(0, 300, 7)]
REFUSED = [question(number, None) for number in range(0, 300, 30)]
LONG = Document("harbour", TEXT, (*ASKED, *REFUSED))
SHORT = Document("small", SENTENCES[5], (Question("s", "Which ferry?", (Answer("5", 6),)),))


def built(
    *documents: Document, task: ExtractiveQa = TASK, limit: int = 10_000, policy: str = "split", row: int = ROW
) -> TrainingSet:
    def check(positions: int, what: str) -> None:
        if positions > limit:
            raise ModelError(f"{what} needs {positions} positions", "Split it.")

    recipe = Recipe.model_validate(
        {"data": {"on_too_long": policy}, "train": {"row_tokens": row}, "output": "runs/none"}
    )
    return build_trees((DataSet("test", documents, "0" * 64),), task, recipe, check)


def text_of(tree: PrefixTree) -> str:
    return "".join(segment.text for segment in tree.root.segments if segment.tag == "document")


def answers(trees: list[PrefixTree]) -> list[tuple[str, str]]:
    """(question, answer) of every branch."""
    return [
        (leaf.name, segment.text)
        for tree in trees
        for leaf in tree.root.children
        for segment in leaf.segments
        if segment.tag == "answer"
    ]


def test_every_question_is_learned_once_and_beside_its_answer() -> None:
    learned = built(LONG, SHORT)
    assert learned.dropped == []
    assert learned.num_questions == len(LONG.questions) + 1
    assert max(tree.num_tokens for tree in learned.trees) <= ROW
    wanted = [(one.id, one.answers[0].text if one.answers else "?") for one in (*LONG.questions, *SHORT.questions)]
    assert sorted(answers(learned.trees)) == sorted(wanted)
    for tree in learned.trees[:-1]:
        for name, answer in answers([tree]):
            assert answer == "?" or f"Ferry {name[1:]} leaves" in text_of(tree), f"{name} is far from its answer"
    documents, trees = learned.splits.cut
    assert (documents, trees) == (1, len(learned.trees) - 1)
    assert trees > 10
    assert learned.splits.lines()[-1] == f"1 document longer than a row is read in {trees} trees of windows"


def test_refusals_are_dealt_out_evenly() -> None:
    """Else a window at the beginning of a document would teach to refuse."""
    trees = built(LONG).trees
    windows = Counter(text_of(tree) for tree in trees for name, answer in answers([tree]) if answer == "?")
    assert len(windows) == len(REFUSED)  # there are more windows than these
    assert set(windows.values()) == {1}


def test_what_fits_is_not_touched() -> None:
    """Law 3: the trees, and so their loss, are those of a recipe that splits nothing."""
    several = Document("several", SHORT.text, tuple(Question(f"n{i}", f"Which, {i}?") for i in range(60)))
    split, whole = (built(SHORT, several, policy=policy) for policy in ("split", "error"))
    assert split.trees == whole.trees
    assert split.splits.cut == (0, 0)
    parts = [tree for tree in split.trees if tree.name != "small"]
    assert split.splits.split == (1, len(parts))
    assert len(parts) > 1
    assert split.splits.repeated == (len(parts) - 1) * parts[0].root.num_tokens
    assert split.splits.lines() == [
        f"1 document is split over {len(parts)} trees, which repeat {split.splits.repeated} tokens of it"
    ]


def test_an_answer_of_many_words_is_whole_in_its_window() -> None:
    answer = TEXT[TEXT.index("Ferry 100 ") : TEXT.index("Ferry 106 ")].strip()
    long = Document("d", TEXT, (Question("q", "Which six?", (Answer(answer, TEXT.index(answer)),)),))
    (tree,) = built(long).trees
    assert answer in text_of(tree)


def test_a_document_that_is_read_twice_is_cut_into_smaller_windows() -> None:
    """Both copies are in the tree."""
    prompt = replace(load_prompt("plain"), again="\n\nOnce more:\n")
    trees = built(LONG, task=ExtractiveQa(TEMPLATES["smollm2"], prompt)).trees
    assert max(tree.num_tokens for tree in trees) <= ROW
    assert len(trees) > len(built(LONG).trees)


def test_a_question_that_leaves_no_room_is_still_an_error() -> None:
    huge = Question("huge", "Why? " * 400, ASKED[0].answers)
    with pytest.raises(PackingError, match=r"question 'huge' of document 'harbour' needs a tree of \d+ tokens"):
        built(Document("harbour", TEXT, (huge,)))


def test_a_document_that_the_model_cannot_read_is_cut_too() -> None:
    asked = Document("harbour", TEXT, tuple(ASKED))
    with pytest.raises(ModelError, match="positions"):
        built(asked, limit=1500, row=10_000, policy="error")
    learned = built(asked, limit=1500, row=10_000)
    assert learned.num_questions == len(ASKED)
    assert learned.splits.cut[1] > 3


@pytest.mark.parametrize("recipe", [{"data": {"kind": "chat", "train": ["x"]}}, {"stage": "grpo"}])
def test_only_fine_tuning_on_documents_splits(recipe: dict[str, Any]) -> None:
    settings = {**recipe, "output": "x", "data": {**recipe.get("data", {}), "on_too_long": "split"}}
    with pytest.raises(RecipeError, match=r"data.on_too_long = split cuts documents with questions"):
        recipe_from(settings, "a recipe")
