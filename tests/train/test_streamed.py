"""Fine-tuning on documents and trees that stay on disk: the same batches, losses and weights as in memory."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from palmette.cache import cache_folder
from palmette.config.recipes import Recipe, read_section
from palmette.data import streamed
from palmette.data.rows import parse_row
from palmette.data.source import read_source
from palmette.data.streamed import stream_source
from palmette.errors import DataError, RecipeError
from palmette.train import sft
from palmette.train.recipes.rollouts import GrpoRecipe
from palmette.train.run import train
from palmette.train.steps.plan import StepPlan
from palmette.train.tree_store import FOLDER, StoredTrees
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment
from tests.support.data import arrow_file
from tests.support.runs import adapter, assert_same, log, quiet


def row(document: int, question: int, **changes: Any) -> dict[str, Any]:
    """A question about a document of its own, every third without an answer."""
    context = f"The ferry {document} leaves at {document % 12}:40 from pier {document % 7}."
    word = f"pier {document % 7}"
    answers = [] if question % 3 == 2 else [{"text": word, "answer_start": context.index(word)}]
    return {"id": f"{document}-{question}", "title": "ferries", "context": context, "question": "Where?"} | {
        "answers": answers,
        **changes,
    }


def rows() -> list[dict[str, Any]]:
    return [row(document, question) for document in range(12) for question in range(1 + document % 4)]


@pytest.mark.parametrize("stream", [True, False])
def test_documents_are_those_in_memory(tmp_path: Path, stream: bool) -> None:
    source = arrow_file(tmp_path / "a.arrow", rows(), stream=stream)
    held, found = read_source(source), stream_source(source)
    assert len(held.documents) == 12
    assert list(found.documents) == list(held.documents)
    assert found.documents[-1] == held.documents[-1]
    assert found.documents[3:5] == list(held.documents[3:5])
    assert found.describe() == held.describe()
    assert list(stream_source(source, limit_documents=5).documents) == list(held.documents[:5])


def test_rows_are_parsed_twice(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once to check them and once to build trees. What else the preparation says of them is counted along the way."""
    given = rows()
    given[3]["answers"] = [{"text": "ferr", "answer_start": 4}]  # which ends inside a word
    source = arrow_file(tmp_path / "a.arrow", given)
    held = read_source(source)
    parsed: list[int] = []

    def counted(row: dict[str, Any], number: int, *rest: Any) -> Any:
        parsed.append(number)
        return parse_row(row, number, *rest)

    monkeypatch.setattr(streamed, "parse_row", counted)
    values: dict[str, Any] = {
        "output": str(tmp_path / "run"),
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": [source], "stream": True},
    }
    job = sft.prepare(read_section(Recipe, values, "test"), quiet)
    assert sorted(parsed) == sorted([*range(1, len(given) + 1)] * 2)
    assert job.fingerprint["data"] == [held.describe()]
    assert job.fingerprint["unreachable"]["num_unreachable"] == 1


def test_bad_rows_are_refused_or_dropped_as_in_memory(tmp_path: Path) -> None:
    """A question without text, an answer that is not there, a document without text with two questions."""
    given = rows()
    given[4]["question"] = " "
    given[9]["answers"] = [{"text": "nowhere", "answer_start": 0}]
    given[10:10] = [row(90, 0, context=" ", answers=[]), row(90, 1, context=" ", answers=[])]
    given[20]["answers"] = [{"text": "pier 0", "answer_start": None}]
    source = arrow_file(tmp_path / "a.arrow", given)
    with pytest.raises(DataError, match="has no text"):
        stream_source(source)
    held, found = (read(source, on_bad_record="drop") for read in (read_source, stream_source))
    assert list(found.documents) == list(held.documents)
    assert len(held.dropped) == 4
    assert found.dropped == held.dropped


def test_what_cannot_be_streamed_is_named(tmp_path: Path) -> None:
    apart = arrow_file(tmp_path / "apart.arrow", [row(0, 0), row(1, 0), row(0, 1)])
    with pytest.raises(DataError, match=r"the rows 1 and 3 ask about one document, with others between.*Sort the rows"):
        stream_source(apart)
    with pytest.raises(DataError, match=r"the rows 1 and 3 ask about one document"):
        stream_source(apart, limit_documents=1)
    twice = arrow_file(tmp_path / "twice.arrow", [row(0, 0), row(1, 0), row(2, 0, id="0-0")])
    with pytest.raises(DataError, match=r"begins in row 1 also stands in that of row 3"):
        stream_source(twice)
    (tmp_path / "a.jsonl").write_text(json.dumps(row(0, 0)))
    for other in (str(tmp_path / "a.jsonl"), "builtin:train"):
        with pytest.raises(DataError, match=r"data\.stream reads Arrow, and .* is something else"):
            stream_source(other)
    with pytest.raises(RecipeError, match=r"data\.negatives looks for questions in others"):
        read_section(Recipe, {"output": "o", "data": {"stream": True, "negatives": {"siblings": 1}}}, "test")
    with pytest.raises(RecipeError, match=r"data\.kind = text.*are read as a stream in any case"):
        read_section(Recipe, {"output": "o", "data": {"stream": True, "kind": "text"}}, "test")
    with pytest.raises(RecipeError, match=r"the prompts of rollouts are in memory"):
        read_section(GrpoRecipe, {"output": "o", "data": {"stream": True}}, "test")


def random_tree(draw: random.Random, depth: int = 0) -> Node:
    segments = tuple(
        Segment(
            tuple(draw.randrange(70_000) for _ in range(draw.randrange(4))),
            draw.choice(("template", "content")),
            draw.choice(("", "ü\0x")),
            draw.random() < 0.7,
            draw.choice((0.0, 1.0, 0.1)),
            draw.choice(("", "answer")),
        )
        for _ in range(draw.randrange(3))
    )
    children = tuple(random_tree(draw, depth + 1) for _ in range(draw.randrange(4) if depth < 3 else 0))
    return Node(segments, children, draw.choice(("", "q")))


def test_trees_come_back_as_they_were() -> None:
    draw = random.Random(0)
    trees = [PrefixTree(random_tree(draw), f"tree {index}") for index in range(600)]
    stored = StoredTrees()
    stored.extend(trees[:300])
    stored.extend(trees[300:])
    stored.finish()
    assert len(stored) == 600
    assert list(stored) == trees
    assert stored[-1] == trees[-1]
    assert stored[254:258] == trees[254:258]  # over the border of two batches
    assert max(tree.num_tokens for tree in trees) > 40


@pytest.mark.parametrize("read", [False, True])
def test_trees_in_use_are_not_abandoned(read: bool) -> None:
    """A run that takes days outlives the beginnings of others, which remove what killed runs have left."""
    before = set((cache_folder() / FOLDER).iterdir()) if (cache_folder() / FOLDER).is_dir() else set()
    stored = StoredTrees()
    stored.extend([PrefixTree(Node((Segment((1,)),)), "a")])
    stored.finish()
    (folder,) = set((cache_folder() / FOLDER).iterdir()) - before
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(folder, (two_days_ago, two_days_ago))
    if read:
        assert stored[0].name == "a"
    other = StoredTrees()
    assert folder.exists() == read
    assert len(other) == 0


def test_steps_are_those_in_memory() -> None:
    trees = [
        PrefixTree(Node((Segment((1,) * (1 + index % 9)), Segment((2,), learn=1.0))), str(index))
        for index in range(500)
    ]
    stored = StoredTrees()
    stored.extend(trees)
    stored.finish()
    limits: dict[str, Any] = {"trees_per_step": 7, "row_tokens": 40, "tokens_per_batch": 60, "seed": 5}
    held, stored_plan = StepPlan(trees, **limits), StepPlan(stored, **limits)
    for epoch in (0, 1):
        for step in (0, 1, 40, 71):
            one, other = held.step_batches(epoch, step), stored_plan.step_batches(epoch, step)
            assert [batch.token_BT.tolist() for batch in one] == [batch.token_BT.tolist() for batch in other]
            assert [batch.learn_BT.tolist() for batch in one] == [batch.learn_BT.tolist() for batch in other]
    assert held.largest_batch(2).token_BT.tolist() == stored_plan.largest_batch(2).token_BT.tolist()


def test_losses_are_those_in_memory_and_nothing_is_left(tiny_folder: Path, tmp_path: Path) -> None:
    source = arrow_file(tmp_path / "a.arrow", rows())
    runs = {}
    for stream in (False, True):
        values: dict[str, Any] = {
            "output": str(tmp_path / f"run-{stream}"),
            "model": {"name": str(tiny_folder), "dtype": "float32"},
            "data": {"train": [source], "stream": stream},
            "lora": {"rank": 2, "dropout": 0.2},
            "train": {"epochs": 2, "trees_per_step": 3, "seed": 3},
        }
        train(read_section(Recipe, values, "test"), quiet)
        runs[stream] = Path(values["output"])
    losses = [[line["loss"] for line in log(runs[stream])] for stream in (False, True)]
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == len(losses[0]) == 8
    assert_same(adapter(runs[False]), adapter(runs[True]))
    manifests = [json.loads((runs[stream] / "manifest.json").read_text()) for stream in (False, True)]
    assert manifests[0]["tokens_sha256"] == manifests[1]["tokens_sha256"]
    assert not list((cache_folder() / FOLDER).iterdir())


def test_what_datasets_saves_and_loads_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of `save_to_disk`, as the guide has it, and the table behind a data set of the hub."""
    import datasets

    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows()))
    held = read_source(str(tmp_path / "a.jsonl"))
    loaded = datasets.Dataset.from_json(str(tmp_path / "a.jsonl"), cache_dir=str(tmp_path / "cache"))
    loaded.save_to_disk(tmp_path / "saved")
    saved = stream_source(str(tmp_path / "saved" / "data-00000-of-00001.arrow"))
    assert list(saved.documents) == list(held.documents)
    monkeypatch.setattr(streamed, "load_hub", lambda *_: ("its fingerprint", loaded))
    of_hub = stream_source("some/data:train")
    assert list(of_hub.documents) == list(held.documents)
    assert of_hub.sha256 == "its fingerprint"
